"""A keep rule and a method added to their tables, and one YAML: everything knows them without another edit."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import sys
from pathlib import Path

import pytest

import bild
from bild.config import TaskConfig
from bild.decoding import methods, rules
from bild.models import Pair
from bild.report import write_report
from bild.results import find_records, to_frame
from bild.tasks import load_task
from bild.tree.grow import grow
from tests.cli.commands import QUICK, REPOSITORY, call, record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(rules, "KEEPS"), reason="there is no table of keep rules"),
]
TASK = TaskConfig(samples=3, target_limit=12, id_column="id")
POINT = {"alpha": 0.5, "max_draft": 4}


@pytest.fixture
def certain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`method=certain`: a drafted token stands where the large model gives it at least 1 - alpha."""

    def score(_q: float, _choice_nll: float, token_nll: float, _rank: int) -> float:
        return 1.0 - math.exp(-token_nll)

    monkeypatch.setitem(rules.KEEPS, "certain", rules.KeepRule(score, "alpha", "p >= 1 - alpha"))
    spec = methods.MethodSpec("certain", "A token stands if p >= 1 - alpha.", "window", "certain")
    monkeypatch.setitem(methods.METHODS, "certain", spec)
    conf = shutil.copytree(REPOSITORY / "conf", tmp_path / "conf")
    (conf / "method" / "certain.yaml").write_text("name: certain\nmax_draft: 10\n")
    importlib.import_module("bild.run")
    for name, module in list(sys.modules.items()):
        if name.startswith("bild.cli") and hasattr(module, "conf_dir"):
            monkeypatch.setattr(module, "conf_dir", lambda: conf)


@pytest.mark.usefixtures("certain")
def test_a_new_keep_rule_is_known_everywhere(
    embedded_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bild.report.report.VARIANTS", (("", "light", "print", ("svg",)),))
    options = ("method=certain", "method.max_draft=4", "threshold.alpha=0.5", "task.samples=3")
    done = call("bild.run", *options, *QUICK, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "certain 0.5 k4" in done.out

    ((point,), skipped) = find_records(tmp_path / "results")
    assert skipped == []
    found = record(point.path)
    assert found["label"] == "certain 0.5 k4"
    assert (found["method"]["name"], found["method"]["stop"], found["method"]["keep"]) == (
        "certain",
        "window",
        "certain",
    )
    assert {name: value for name, value in found["threshold"].items() if value is not None} == {"alpha": 0.5}
    row = to_frame([point]).iloc[0]
    assert (row["label"], row["keep"], row["alpha"]) == ("certain 0.5 k4", "certain", 0.5)

    lines = (point.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    ran = {sample["id"]: sample["tokens"] for sample in map(json.loads, lines)}
    data = load_task(TASK)
    for example in data.examples:
        output = bild.generate(embedded_pair, example.source, method="certain", max_length=12, **POINT)
        assert output.tokens == ran[example.id]
    tree = grow(tmp_path / "tree", embedded_pair, TASK, data, [methods.setting("certain", **POINT)])
    assert dict(zip(ran, tree.replay(method="certain", **POINT).tokens, strict=True)) == ran

    written = write_report(tmp_path / "results", tmp_path / "out")
    assert "certain 0.5 k4" in written.text.read_text(encoding="utf-8")


@pytest.mark.usefixtures("certain")
def test_it_goes_with_any_stop_rule_and_refuses_what_it_does_not_heed(embedded_pair: Pair, tmp_path: Path) -> None:
    text = "Ein Junge in einem blauen T-Shirt springt von einem Steg in einen See."
    vanilla, small = (bild.generate(embedded_pair, text, method=name).tokens for name in ("vanilla", "small"))
    assert vanilla != small
    assert bild.generate(embedded_pair, text, keep="certain", alpha=0.0, fb=0.3).tokens == vanilla
    everything = {"alpha": 1.0, "fb": 0.0, "first": "small", "max_draft": 200}
    assert bild.generate(embedded_pair, text, keep="certain", **everything).tokens == small
    with pytest.raises(bild.BildError, match=r"rb has no effect on method=certain: it uses .*alpha"):
        bild.generate(embedded_pair, text, method="certain", rb=1.0)
    done = call("bild.run", "method=certain", "threshold.rb=2", cwd=tmp_path)
    assert "rb" in done.refusal()
