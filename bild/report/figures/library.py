"""Where the library's own `generate()` stands among the points of a section."""

from __future__ import annotations

from collections.abc import Sequence

from bild.results import Record


def library_position(records: Sequence[Record]) -> float | None:
    """The library's generate() on the speedup axis: same-engine vanilla's time over its, or None without a timing.

    Vanilla's own record compares the two on the same examples; without it, times per token have to do.
    """
    timed = [(record, record.latency.library) for record in records if record.latency.library]
    for record, library in timed:
        if record.method.name == "vanilla" and library:
            return 1 / library.speedup.value
    for record, library in timed:
        if library:
            return record.latency.baseline.ms_per_token / library.ms_per_token
    return None
