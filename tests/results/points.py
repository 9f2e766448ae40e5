"""Parts that the tests of a point's folder share: numbered samples and rounds, and a process to be killed."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from bild.results import PointFolder, Sample
from bild.results.sample import PhaseTimes
from tests.records import make_sample

DIGEST = "0123456789abcdef" * 4
REPOSITORY = Path(__file__).parents[2]


def open_point(root: Path, **changes: Any) -> PointFolder:
    settings: dict[str, Any] = {
        "task": "demo",
        "pair": "tiny",
        "label": "bild-fb0.6-rb2",
        "digest": DIGEST,
        "config": {"threshold": {"fb": 0.6, "rb": 2.0}},
    }
    return PointFolder.open(root, **(settings | changes))


def sample(number: int) -> Sample:
    times = PhaseTimes(10**9 + number, 1, 2, 3, 4, 5)
    return make_sample(id=f"e{number}", tokens=[0, 5, number, 1], text="Grüße,\nein Satz\u2028hier", ns=times)


def rounds(number: int) -> list[dict[str, Any]]:
    return [{"start": 1, "drafted": [5, number], "token_nll": [0.25, math.inf], "stop": "unsure", "wrote": None}]


def fill(root: Path, count: int) -> Path:
    with open_point(root) as folder:
        for number in range(count):
            folder.append(sample(number), rounds(number))
        return folder.path


def expected(count: int) -> tuple[list[Sample], dict[str, Any]]:
    return [sample(n) for n in range(count)], {f"e{n}": rounds(n) for n in range(count)}


def point_path(root: Path) -> Path:
    return root / "demo" / "tiny" / "bild-fb0.6-rb2-0123456789"


WRITER = """
import sys
from pathlib import Path
from tests.results.points import open_point, rounds, sample
folder = open_point(Path(sys.argv[1]))
start = len(folder.samples())
print("ready", flush=True)
for number in range(start, 10**9):
    folder.append(sample(number), rounds(number))
"""


def start_writer(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(root)]
    writer = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n", writer.communicate()[1]
    return writer
