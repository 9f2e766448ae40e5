"""`python -m bild.bench`: every engine and peer against the machine's roofline, side by side in one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from bild.bench.config import BenchConfig
from bild.cli import run_hydra
from bild.errors import BildError


def job(config: BenchConfig) -> None:
    """Measure, print the table, and write JSON and figure."""
    from bild.bench.engine_bench import run_bench
    from bild.models import resolve_device
    from bild.report.bench_figure import save_bench
    from bild.report.bench_table import show_bench
    from bild.results.bench import write_bench
    from bild.results.locking import device_lock

    def announce(line: str) -> None:
        print(line, flush=True)

    folder = Path(config.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BildError(f"out={config.out} cannot be made ({error.strerror}): choose another folder.") from error
    try:
        with device_lock(str(resolve_device(config.device))):
            result = run_bench(config, announce)
    except KeyboardInterrupt:
        _stop("before anything was measured")
    if result.interrupted and not any(row.ms_per_token for row in result.rows.values()):
        _stop("before anything was measured")
    files = [folder / f"{result.name}.json"]
    write_bench(result, files[0])
    if any(row.ms_per_token for row in result.rows.values()):
        files += save_bench(result, folder)
    show_bench(result, [f"Written: {', '.join(map(str, files))}"])
    if result.interrupted:
        _stop(f"after {result.repeats} whole repeats; what was measured is in {files[0]}")


def _stop(when: str) -> NoReturn:
    """End as Ctrl-C does. Nothing goes on from here, unlike a run."""
    print(f"stopped {when}", file=sys.stderr)
    raise SystemExit(130)


def main() -> int:
    """Run the command line; returns the exit code."""
    return run_hydra(job, "bench", BenchConfig)


if __name__ == "__main__":
    sys.exit(main())
