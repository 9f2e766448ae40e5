"""Kill commands at any time, at any call to the file system, in the middle of any write, without memory and on full
disks, and find the same results at the end as without: tokens, rounds, scores, counts, trees, weights bit by bit,
reports.

    python -m scripts.check_kills --minutes 30
    python -m scripts.check_kills --minutes 5 --only run report
    python -m scripts.check_kills --every --only train     at each call; --every 5: at each fifth
    python -m scripts.check_kills --memory 150             under limits of 150, 300, ... MB (`ulimit -v`)
    sudo python -m scripts.check_kills --disks 20          each on file systems of 20 sizes, to be mounted

Of every command first one is left in peace; then deaths that chance chose come in turn over the commands until the time
is over, or each of their calls is the last one once. A death that changes anything is told with its number, the exit
code is 1, and its folder is kept.

`--every --first 80` goes on from the 80th call.

Seen: 292 deaths at each call and size of run, multirun, train, align, export and report, and 156 at each call of a
sweep; with seeds 0, 909 and 4242, 487 deaths by chance in 531 trials of all seven commands (few limits of memory are
low enough to end a process that has all imported), and 61 full disks of 62: 20 each of train, align
and report, one of an export, which fits on two pages. None ended otherwise. Under `--memory`, 8 deaths of report, run
and train ended in one sentence; one of a report at 240 MB did not, by NumPy's OpenBLAS, which is mended, and so is
the sentence of an alignment at 800 MB; a sweep at 400 MB is aborted by a library (std::bad_alloc).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.cli.commands import but
from tests.cli.test_guard import COMMANDS as TINY
from tests.killing import PAGE, Lab, Limited, a_point, measured, thinned, trained, written
from tests.sweep.test_sweep import OPTIONS, SWEEP
from tests.training.test_kills import JOB, QUICK, prepare
from tests.zygote import Zygote, zygote

FEW = ("--only", "points", "--only", "pareto", "--only", "page")
"""Of a report, as all files of a kind are written alike."""
RUN, REPORT, EXPORT = "bild.run:main", "bild.report.__main__:main", "tests.killing:export"
COMMANDS = ("run", "multirun", "sweep", "train", "align", "export", "report")
DEATHS = ("call", "size", "full", "time", "memory", "SIGINT", "SIGTERM")
DISK = "disk"
ENOUGH = 2000
"""MB."""


def laboratory(mother: Zygote, folder: Path, name: str, *, limited: bool) -> Lab:
    """Leave a command in peace once; or one that is to be limited, which is a process of its own."""
    kind, place = Limited if limited else Lab, folder / name
    place.mkdir()
    if name == "run":
        return kind(mother, place, measured, RUN, *QUICK)
    if name == "multirun":
        return kind(mother, place, measured, RUN, "-m", "threshold.fb=0.3,0.7", *QUICK)
    if name == "sweep":
        return kind(mother, place, measured, SWEEP, *OPTIONS)
    if name == "report":
        report = (REPORT, str(thinned(folder)), *FEW)
        if not limited:  # so children need not import to draw
            mother.run(*report, "--out", str(folder / "first"), cwd=folder)
        return kind(mother, place, written, *report)
    if name == "export":
        return kind(mother, place, written, *(("bild.export:main", str(a_point())) if limited else (EXPORT,)))
    tiny = but(TINY[name], f"task.path={folder / 'corpus'}")
    return kind(mother, place, trained, *(tiny if limited else (JOB, name, str(folder))))


def by_chance(labs: dict[str, Lab], dice: random.Random) -> Iterator[tuple[str, str, int]]:
    """Yield command, death and its number without end, the commands in turn."""
    while True:
        for name, lab in labs.items():
            death = dice.choice(DEATHS)
            most = {"call": lab.calls, "time": int(1000 * lab.seconds), "memory": 1 << dice.randint(10, 27)}
            most |= dict.fromkeys(("SIGINT", "SIGTERM"), lab.opened)
            yield name, death, dice.randint(1, most[death]) if death in most else dice.choice(lab.sizes)


def every(labs: dict[str, Lab], step: int, first: int) -> Iterator[tuple[str, str, int]]:
    """Yield each call of each command from a first one on once, and each half of a file; or of either one in `step`."""
    for name, lab in labs.items():
        yield from ((name, "call", number) for number in range(first, lab.calls + 1, step))
        yield from ((name, death, size) for death in ("size", "full") for size in lab.sizes[::step])


def limits(labs: dict[str, Lab], step: int) -> Iterator[tuple[str, str, int]]:
    """Yield limits of so many MB more from one to the next, up to what every command finds enough."""
    yield from ((name, "memory", number << 20) for name in labs for number in range(step, ENOUGH, step))


def disks(labs: dict[str, Lab], count: int) -> Iterator[tuple[str, str, int]]:
    """Yield file systems of sizes from a page to what a command leaves."""
    for name, lab in labs.items():
        yield from (
            (name, DISK, PAGE * pages) for pages in sorted({1 + lab.bytes // PAGE * i // count for i in range(count)})
        )


def main() -> int:
    """Kill until the time is over; return 1 where anything was lost."""
    about, _, _ = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--every", nargs="?", type=int, const=1, help="die once at each (n-th) call")
    parser.add_argument("--first", type=int, default=1, help="of --every: go on from this call")
    parser.add_argument("--memory", type=int, help="in the place of kills: limits of memory, so many MB apart")
    parser.add_argument("--disks", type=int, default=0, help="in the place of kills: disks of so many sizes (root)")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bild-kills-"))
    tried: Counter[tuple[str, str]] = Counter()
    died: Counter[tuple[str, str]] = Counter()
    lost: list[str] = []
    with zygote() as mother:
        if {"train", "align"} & {*given.only}:
            prepare(mother, folder)
        labs = {}
        for name in given.only:
            labs[name] = laboratory(mother, folder, name, limited=bool(given.memory))
            print(f"{name}: {labs[name].calls} calls, {labs[name].seconds:.1f} s in peace", flush=True)
        until = time.monotonic() + 60 * given.minutes
        endless = not (given.every or given.disks or given.memory)
        chosen = by_chance(labs, random.Random(given.seed)) if endless else every(labs, given.every or 1, given.first)
        chosen = limits(labs, given.memory) if given.memory else disks(labs, given.disks) if given.disks else chosen
        for name, death, number in chosen:
            if endless and time.monotonic() > until:
                break
            tried[name, death] += 1
            try:
                died[name, death] += labs[name].holds(death, number)
            except (AssertionError, ValueError) as error:
                lost.append(f"{name} {death} {number}: {str(error)[-600:]}")
                print(lost[-1], flush=True)
            except KeyboardInterrupt:
                break  # what was seen is told
    for name in given.only:
        print(name, ", ".join(f"{death} {died[name, death]} of {tried[name, death]}" for death in (*DEATHS, DISK)))
    print(f"{sum(died.values())} deaths in {sum(tried.values())} trials; {len(lost)} ended otherwise; in {folder}")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
