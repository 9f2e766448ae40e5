"""A results folder as it comes: two machines, a torn record, another schema, an empty run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bild.report.__main__ import main
from bild.results.record import to_json
from tests.records import make_record, make_sweep
from tests.report.folders import put


@pytest.fixture(autouse=True)
def one_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bild.report.report.VARIANTS", (("", "light", "print", ("svg",)),))


@pytest.mark.slow
def test_the_report_is_made_and_says_what_it_left_out_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "results", tmp_path / "out"
    for record in make_sweep()[:5]:
        put(root, record)
    for record in make_sweep(
        environment__machine={"fingerprint": "77", "name": "NVIDIA H200, 16 cores"}, engine__threads=2
    )[:4]:
        put(root, record)
    torn = root / "t" / "p" / "torn"
    torn.mkdir(parents=True)
    (torn / "record.json").write_text(to_json(make_record())[:900])
    later = root / "t" / "p" / "later"
    later.mkdir()
    (later / "record.json").write_text(json.dumps({"schema": 7}))
    (root / "t" / "p" / "empty-ababababab").mkdir()
    (root / "t" / "p" / "empty-ababababab" / "config.yaml").write_text("{}")

    assert main([str(root), "--out", str(out)]) == 0
    text = (out / "report.md").read_text(encoding="utf-8")
    left = text[text.index("## Left out") :]
    assert "t/p/torn: " in left
    assert "is not valid JSON" in left
    assert "has schema version 7, but this version of bild reads versions 1 to 3" in left
    assert "t/p/empty-ababababab: unfinished" in left
    assert left.count("\n- ") == 3
    assert capsys.readouterr().out.count("Left out: ") == 3
    # Two machines: two fronts, and what differs, field by field.
    assert len(list((out / "figures").glob("*/pareto.svg"))) == 2
    assert "| engine.threads | 1 | 2 |" in text
    assert "| machine.name | NVIDIA T4, 4 cores | NVIDIA H200, 16 cores |" in text


def test_a_point_whose_log_was_changed_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "results", tmp_path / "out"
    path = put(root, make_record(), [(10.0, 20.0)], [[]])
    (path / "samples.jsonl").write_text("{}\n{}\n")
    assert main([str(root), "--out", str(out)]) == 2
    assert "samples.jsonl was changed after its point was measured" in capsys.readouterr().err
