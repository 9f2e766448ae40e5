"""The check of a GPU: all its steps at tiny sizes on a CPU, what it says without a GPU, and how it judges."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bild.check import STEPS, _tried, check, machine, right
from bild.check.machine import Scale
from bild.cli import load, typed
from bild.cli.compose import shapes
from bild.config import ModelConfig
from bild.errors import BildError
from bild.models import Pair, device
from bild.models.device import Nvidia
from bild.report.bench import check_table
from bild.results.bench import FAILED, MEASURED, OK, SKIPPED, SLOW, WRONG, BackendRow, Checked, Spread, read_check
from tests.cli.commands import Finished, call

GPU = torch.device("cuda", 0)


def tiny(minutes: float = 1.0) -> Scale:
    return Scale.of(torch.device("cpu"), minutes, shapes(), typed(ModelConfig, load("model", "embedded")))


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    folder = tmp_path_factory.mktemp("check")
    with pytest.MonkeyPatch.context() as patch:
        # The tests that need a GPU are skipped here in any case, and take a process of their own.
        patch.setitem(STEPS, "tests", (lambda scale: iter([Checked("tests", "-", SKIPPED, "-")]), "pytest -m gpu"))
        patch.setattr("bild.bench.engine_bench._FIRST_SECONDS", 0.0)
        patch.setattr("bild.bench.roofline._LONG_ENOUGH_NS", {"cpu": 100_000})
        return call("bild.gpu_check", "device=cpu", cwd=folder), folder / "gpu-check.json"


@pytest.mark.slow
def test_every_step_runs_on_a_cpu_at_tiny_sizes(checked: tuple[Finished, Path]) -> None:
    done, path = checked
    result = read_check(path)
    assert {each.step for each in result.findings} == set(STEPS) == set(result.seconds)
    assert [each for each in result.findings if each.verdict == WRONG] == []
    assert done.code == 0
    assert result.device == "cpu"
    what = {(each.step, each.what): each for each in result.findings}
    assert what["tree", "out of memory on the way"].figures["passes"][0] > 1
    assert what["agreement", "graph = hf, fp32"].verdict == OK
    assert what["training", "embedded-small, fp16"].figures["losses"]
    assert what["bench", "embedded-small, fp32: graph"].figures["ms_per_token"]["median"] > 0
    assert what["programs", "embedded-small, fp32"].figures["width 12"]["kernels"] > 10


@pytest.mark.slow
def test_the_table_is_drawn_from_the_file(checked: tuple[Finished, Path]) -> None:
    done, path = checked
    again = call("bild.report.__main__", str(path), cwd=path.parent)
    assert again.code == 0
    assert again.out.strip() in done.out
    assert "GPU check: " in again.out
    assert json.loads(path.read_text())["command"] == "bild gpu-check device=cpu"


def test_without_a_gpu_it_says_what_it_would_do(tmp_path: Path) -> None:
    done = call("bild.gpu_check", cwd=tmp_path)
    assert done.code == 2
    assert done.err == "error: There is no GPU here: device=cpu takes the same steps at tiny sizes.\n"
    for name, (_, about) in STEPS.items():
        assert f"{name:<10} {about}" in done.out
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_torch_cannot_use_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "nvidia", lambda: Nvidia(("Tesla T4",), "535.1", (12, 2)))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(BildError, match=r"driver 535\.1 runs CUDA 12\.2 at most.*make env CUDA=cu126"):
        check("auto", 1.0, "", {}, ModelConfig())


@pytest.mark.parametrize("word", ["--fast", "devices=cpu", "minutes=many"])
def test_a_wrong_option_is_one_sentence(word: str, tmp_path: Path) -> None:
    done = call("bild.gpu_check", word, cwd=tmp_path)
    assert done.code == 2
    assert done.err.count("\n") == 1


def test_a_step_that_fails_is_a_finding_and_late_ones_are_skipped() -> None:
    def fails(scale: Scale) -> Any:
        yield Checked("cases", "first", OK, "")
        raise RuntimeError("CUDA error: an illegal memory access\nwas encountered")

    found = _tried("cases", "cases", fails, tiny())
    assert [(each.verdict, each.seen) for each in found] == [
        (OK, ""),
        (WRONG, "RuntimeError: CUDA error: an illegal memory access was encountered"),
    ]
    (late,) = _tried("bench", "bench", fails, tiny(0.0))
    assert (late.verdict, late.seen) == (SKIPPED, "out of time: give more with minutes=...")


def bench(graph: float, over: float, hf: float) -> Any:
    def row(ms: float, over: float | None) -> BackendRow:
        return BackendRow("engine", MEASURED, ms_per_token=Spread(ms, ms, ms), over_roofline=over)

    rows = {
        "graph": row(graph, over),
        "hf": row(hf, None),
        "ctranslate2": BackendRow("peer", FAILED, note="no library"),
    }
    return SimpleNamespace(rows=rows, dtype="fp16")


@pytest.mark.parametrize(
    ("graph", "over", "hf", "verdict"), [(2.0, 2.0, 20.0, OK), (2.0, 9.0, 20.0, SLOW), (2.0, 2.0, 3.0, SLOW)]
)
def test_graph_is_slow_far_from_the_roofline_or_near_the_library(
    graph: float, over: float, hf: float, verdict: str
) -> None:
    on_gpu = dataclasses.replace(tiny(), device=GPU)
    found = {each.what: each.verdict for each in machine._judged(bench(graph, over, hf), "t5", on_gpu, 6)}
    assert found == {"t5: graph": verdict, "t5: hf": OK, "t5: ctranslate2": WRONG}


def test_engines_that_differ_are_wrong(embedded_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    real = right._texts

    def off(pair: Pair, engine: str, count: int, method: str = "vanilla") -> list[list[int]]:
        found = real(pair, engine, count, method)
        return [[*found[0][:-1], 7], *found[1:]] if engine == "graph" else found

    monkeypatch.setattr(right, "_texts", off)
    found = {each.what: each for each in right.agreement(tiny())}
    assert (found["graph = hf, fp32"].verdict, found["fused = hf, fp32"].verdict) == (WRONG, OK)
    assert found["graph = hf, fp32"].seen.startswith("1 of 3 texts differ, the first at token ")
    assert found["BiLD, fp32"].verdict == WRONG


def test_the_table_has_a_line_for_each_finding_and_their_sum() -> None:
    findings = [Checked("cases", "a", OK, "x"), Checked("bench", "b", SLOW, "y")]
    environment = {"machine": {"name": "Tesla T4"}}
    result = gpu_check_result(findings, environment)
    table = check_table(result)
    assert table.rows == (("ok", "cases", "a", "x"), ("slow", "bench", "b", "y"))
    assert table.notes == ("2 checks: 1 ok, 1 slow; 1.5 minutes, at most 3.2 GB on the device",)
    assert result.worst == SLOW


def gpu_check_result(findings: list[Checked], environment: dict[str, Any]) -> Any:
    from bild.results.bench import CheckResult

    return CheckResult(1, "now", "bild gpu-check", "cuda:0", 10.0, environment, {"a": 90.0}, {"a": 3.2}, findings)
