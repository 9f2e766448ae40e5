"""A limit of memory, as `ulimit -v` sets it: libraries that would loop or abort under it are not loaded."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

ROOMS = {"numpy": 124 << 20, "scipy": 96 << 20, "torch": 512 << 20}
"""Bytes that libraries take while they are loaded; their code in C loops or aborts where it has less."""
PER_THREAD = 64 << 20
"""Bytes that each thread of NumPy's OpenBLAS may take while it is loaded."""


class Limited:
    """A finder of modules that finds none, but refuses libraries which this process's limit of memory is too low for.

    Under a limit that is low for a thread on each processor, OpenBLAS is to load with one. The buffer that it takes for
    its first inverse, and keeps, it takes before other libraries leave no room for it.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.buffered = limit, False
        if self._free() < (1 << 30) + (os.cpu_count() or 1) * PER_THREAD:
            os.environ["OPENBLAS_NUM_THREADS"] = "1"

    def _free(self) -> int:
        try:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        except OSError:  # only Linux has it
            return self.limit
        return self.limit - pages * os.sysconf("SC_PAGE_SIZE")

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise MemoryError where a library has too little room; find nothing."""
        if name in ROOMS and self._free() < ROOMS[name]:
            raise MemoryError
        numpy = sys.modules.get("numpy")
        if not (self.buffered or numpy is None or getattr(numpy.__spec__, "_initializing", False)):
            self.buffered = True
            numpy.linalg.inv(numpy.ones((1, 1)))


def watch_memory_limit() -> None:
    """Let MemoryError take the place of what libraries do under this process's limit, where it has one."""
    with suppress(ImportError):  # Windows has no limits
        import resource

        if (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
            sys.meta_path.insert(0, Limited(limit))
