"""Run one sweep twice, on the machine as it is and beside two busy processes, and hold their claims together.

    python scripts/check_busy.py                        # the embedded pair, 40 captions, about two minutes
    python scripts/check_busy.py task.samples=160 sweep.least=160 measure.sessions=5

Further arguments are options of `bild sweep`. No claim may contradict one of the other run: shown and refuted, surely
faster and surely slower than vanilla. What a run could not use, it must say itself.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
from pathlib import Path

from bild.claims import doubts
from bild.measure.environment import describe
from bild.metrics.claims import verdict
from bild.models import resolve_device
from bild.report.sections import find_sections
from bild.results import Record

OPTIONS = (
    "task.samples=40",
    "sweep.fb=[0.3,0.6]",
    "sweep.rb=[2]",
    "sweep.front=-1",
    "sweep.windows=[4]",
    "sweep.calibration=2",
    "sweep.least=40",
    "sweep.minutes=0.0001",
    "sweep.published=false",
    "measure.sessions=3",
    "measure.calm_minutes=0",
    "measure.library=4",
)
MARGIN = 0.5


def spin() -> None:
    """Keep a thread busy."""
    while True:
        sum(range(100_000))


def sweep(results: Path, busy: int, options: list[str]) -> dict[str, Record]:
    """Return the records of a sweep beside so many busy processes, by their labels."""
    others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(busy)]
    for other in others:
        other.start()
    try:
        given = {option.partition("=")[0] for option in options}
        usual = [option for option in OPTIONS if option.partition("=")[0] not in given]
        command = [sys.executable, "-m", "bild.sweep", *usual, *options, f"results={results}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    finally:
        for other in others:
            other.kill()
    (section,), _ = find_sections(results)
    return {record.label: record for record in section.records if record.headline_difference is not None}


def claims(record: Record) -> tuple[str, str]:
    """Return what is claimed of a point's quality and of its speed; nothing of a speed that no session was fit for."""
    assert record.headline_difference is not None
    sessions, speed = record.latency.sessions, record.latency.speedup.total
    quality = verdict(record.headline_difference, MARGIN, record.quality.examples).kind
    if all(session.note is not None for session in sessions) or len(sessions) < 2:
        return quality, "no claim"
    return quality, "faster" if speed.low > 1 else "slower" if speed.high < 1 else "undecided"


def contradict(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Return whether what two runs claim of a point, its quality or its speed, cannot both hold."""
    against = ({"shown", "refuted"}, {"faster", "slower"})
    return any({mine, yours} in against for mine, yours in zip(one, other, strict=True))


def main() -> int:
    """Run both, print three lines a point, and return 1 where two claims contradict each other."""
    print(describe(resolve_device("auto"))["machine"]["name"])
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: sweep(Path(folder, name), busy, sys.argv[1:]) for name, busy in (("quiet", 0), ("busy", 2))}
    wrong = 0
    for label in sorted(runs["quiet"].keys() & runs["busy"].keys()):
        told = {name: claims(found[label]) for name, found in runs.items()}
        against = contradict(told["quiet"], told["busy"])
        wrong += against
        print(f"{label}{': CONTRADICTION' if against else ''}")
        for name, found in runs.items():
            speed = found[label].latency.speedup.total
            print(f"  {name}: {speed.value:.2f}x [{speed.low:.2f}, {speed.high:.2f}], {', '.join(told[name])}")
    for name, found in runs.items():
        for line in sorted({line for record in found.values() for line in doubts(record.latency)}):
            print(f"{name}: {line}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
