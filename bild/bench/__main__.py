"""`bild bench` (or `python -m bild.bench`): time every engine and peer, side by side, against the limit of the machine.

It times a published shape with random weights (`shape=...`) or the large model of a pair (`model=...`, by default
`model=embedded`).

    bild bench shape=t5-large engine=[hf,fused] dtype=bf16
    bild bench model=embedded peers=[generate,ctranslate2]
"""

from __future__ import annotations

import sys
from pathlib import Path

from bild.bench.config import BenchConfig
from bild.cli import run_hydra
from bild.errors import refusing

_NOTHING = "stopped before anything was measured"
"""Nothing goes on from here, unlike a run."""


def job(config: BenchConfig) -> None:
    """Measure, print the table, and write JSON and figure."""
    from bild.bench.engine_bench import run_bench
    from bild.measure.environment import uuid_of
    from bild.models import resolve_device
    from bild.report.bench import bench_tables, save_bench
    from bild.report.table import show_tables
    from bild.results.codec import write_json
    from bild.results.files import MadeFolder
    from bild.results.locking import device_lock

    def announce(line: str) -> None:
        print(line, flush=True)

    folder = Path(config.out)
    with refusing(lambda why: f"out={config.out} cannot be made ({why}): choose another folder.", OSError):
        MadeFolder(folder).tidy()  # now, and not after all was measured
    try:
        with device_lock(uuid_of(resolve_device(config.device))):
            result = run_bench(config, announce)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_NOTHING) from None
    measured = any(row.ms_per_token for row in result.rows.values())
    if result.interrupted and not measured:
        raise KeyboardInterrupt(_NOTHING)
    files = [folder / f"{result.name}.json"]
    write_json(files[0], result, indent=1)
    if measured:
        files += save_bench(result, folder)
    show_tables(bench_tables(result), [f"Written: {', '.join(map(str, files))}"])
    if result.interrupted:
        told = f"stopped after {result.repeats} whole repeats; what was measured is in {files[0]}"
        raise KeyboardInterrupt(told)


def main() -> int:
    """Run the command line; return the exit code."""
    return run_hydra(job, "bench", BenchConfig)


if __name__ == "__main__":
    sys.exit(main())
