"""The figure of docs/pairs.md, and the table beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.draw_pairs import front, main


def test_a_front_has_what_no_other_point_beats() -> None:
    import numpy as np

    speeds, differences = np.array([1.0, 1.5, 1.4, 2.0, 1.2]), np.array([0.0, -0.5, -0.6, -2.0, 0.1])
    assert front(speeds, differences) == [(1.2, 0.1), (1.5, -0.5), (2.0, -2.0)]


@pytest.mark.slow
def test_it_is_drawn_from_trees_and_prices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(
        ["--pairs", "embedded-bridge", "--out", "figure.png", "task=embedded", "task.samples=6", "sweep.calibration=1"]
    )
    assert (tmp_path / "figure.png").stat().st_size > 20_000
    *_, row = capsys.readouterr().out.splitlines()
    name, stands, tokens, ratio, exact, *_ = [cell.strip() for cell in row.strip("| ").split("|")]
    assert name == "shared encoder, aligned"
    assert 0.5 < float(stands) < 1.0 < float(tokens) < 11.0
    assert 0.0 < float(ratio) < 2.0
    assert float(exact) > 0.3
