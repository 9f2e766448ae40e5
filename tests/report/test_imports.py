"""A laptop without torch reads results and makes reports, and does not wait for what it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def loaded_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("statement", ["import bild.results", "import bild.report", "import bild.report.__main__"])
def test_an_import_takes_no_torch_and_nothing_slow(statement: str) -> None:
    assert not {"torch", "transformers", "hydra", "omegaconf", "matplotlib", "pandas", "numpy"} & loaded_after(
        statement
    )


@pytest.mark.slow
def test_a_whole_report_takes_no_torch(tmp_path: Path) -> None:
    statement = (
        "from pathlib import Path; from tests.records import make_sweep; from bild.results import *\n"
        f"root = Path({str(tmp_path)!r})\n"
        "for record in make_sweep():\n"
        "    with PointFolder.open(root / 'in', 't', 'p', record.label, record.hash, {}) as folder:\n"
        "        folder.finish(record)\n"
        "from bild.report.__main__ import main\n"
        "sys.stdout = sys.stderr\n"
        "assert main([str(root / 'in'), '--out', str(root / 'out')]) == 0\n"
        "to_frame(find_records(root)[0])\n"
        "sys.stdout = sys.__stdout__"
    )
    loaded = loaded_after(statement)
    assert {"matplotlib", "pandas", "rich"} <= loaded
    assert not {"torch", "transformers", "hydra", "omegaconf"} & loaded
