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
