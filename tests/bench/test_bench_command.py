"""`python -m bild.bench`: what a user types, what comes out, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import jsonschema
import pytest
import torch

from bild.bench import backends, engine_bench, roofline, workload
from bild.bench.backends import Backend, CTranslateBackend, LibraryBackend, Timed, convert, ctranslate_installed
from bild.bench.config import PEERS, USUAL_PEERS, BenchConfig
from bild.cli import compose
from bild.config import ENGINES
from bild.errors import BildError
from bild.report import bench as bench_report
from bild.results.bench import ABSENT, FAILED, MEASURED, SKIPPED, BenchResult, read_bench
from bild.results.codec import json_schema
from tests.cli.commands import Finished, but, call
from tests.engines.tiny import EOS, START, build, ids

TINY = (
    "shape=t5-small",
    "shape.d_model=32",
    "shape.d_kv=8",
    "shape.d_ff=48",
    "shape.heads=4",
    "shape.encoder_layers=2",
    "shape.decoder_layers=3",
    "shape.rows=96",
    "source_length=12",
    "long_sources=[20,33]",
    "tokens=6",
    "cached=8",
    "widths=[1,2,4]",
    "repeats=2",
    "warmup=1",
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates from a few short timings, and no figure."""
    monkeypatch.setattr(engine_bench, "_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(roofline, "_LONG_ENOUGH_NS", {"cpu": 100_000})
    monkeypatch.setattr(bench_report, "save_bench", lambda *_: [])


def refuse_constant(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")


def strict(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)


def bench(folder: Path, *options: str) -> tuple[Finished, BenchResult]:
    done = call("bild.bench.__main__", *but(TINY, f"out={folder}", *options), cwd=folder)
    assert done.code == 0, done.err
    (path,) = folder.glob("*.json")
    return done, read_bench(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, BenchResult, Path]:
    """Every engine and every peer on a tiny shape. Shared: tests must not change it."""
    folder = tmp_path_factory.mktemp("bench")
    return *bench(folder, f"peers=[{','.join(PEERS)}]"), folder


def test_every_engine_and_peer_has_a_row(finished: tuple[Finished, BenchResult, Path]) -> None:
    _, result, _ = finished
    assert list(result.rows) == [*ENGINES[:3], *PEERS]
    there = MEASURED if ctranslate_installed() else ABSENT
    statuses = {name: row.status for name, row in result.rows.items()}
    assert statuses == dict.fromkeys(result.rows, MEASURED) | {
        "generate-compiled": SKIPPED,
        "assisted": SKIPPED,
        "prompt-lookup": SKIPPED,
        "ctranslate2": there,
        "ctranslate2-int8": there,
    }
    assert result.rows["assisted"].note == "random weights accept no draft: it needs a pair (model=...)"


def test_the_numbers_of_a_row_fit_together(finished: tuple[Finished, BenchResult, Path]) -> None:
    _, result, _ = finished
    for name, row in result.rows.items():
        if row.ms_per_token is None or row.roofline is None or row.repeats_ms is None:
            assert row.status != MEASURED
            continue
        assert 0 < row.ms_per_token.low <= row.ms_per_token.median <= row.ms_per_token.high
        assert set(row.repeats_ms) == {0, 1}
        assert row.over_roofline == pytest.approx(row.ms_per_token.median / row.roofline.ms)
        assert row.gb_per_s == pytest.approx(row.roofline.bytes / row.ms_per_token.median / 1e6)
        baseline = result.rows["generate"].repeats_ms
        assert baseline is not None
        assert row.speedup is not None
        ratios = sorted(baseline[repeat] / ms for repeat, ms in row.repeats_ms.items())
        assert (row.speedup.low, row.speedup.high) == pytest.approx((ratios[0], ratios[-1]))
        assert (row.verification is not None) == (name in ENGINES[:3])
        for width, verification in (row.verification or {}).items():
            assert verification.over_roofline == pytest.approx(verification.ms.median / result.rooflines[width].ms)
        if row.verification:
            assert list(row.verification) == [1, 2, 4]
            assert row.verification[1].relative.median == 1


def test_long_sources_are_timed_by_engines_and_two_peers(finished: tuple[Finished, BenchResult, Path]) -> None:
    done, result, _ = finished
    peers = ["generate", *(["ctranslate2"] if ctranslate_installed() else [])]
    assert [name for name, row in result.rows.items() if row.by_source] == [*ENGINES[:3], *peers]
    for name in (*ENGINES[:3], *peers):
        by_source = result.rows[name].by_source
        assert by_source is not None
        assert list(by_source) == [20, 33]
        for long in by_source.values():
            assert long.ttft_ms.low > 0
            assert long.ms_per_token.low > 0
            assert long.ttft_speedup is not None
            assert name != "generate" or long.ttft_speedup.median == 1
    assert "Behind long sources" in done.out


def test_the_kinds_of_product_are_in_the_file(finished: tuple[Finished, BenchResult, Path]) -> None:
    kernels = finished[1].environment["kernels"]
    assert kernels["kinds"]
    assert kernels["why"]


def test_all_write_the_same_tokens(finished: tuple[Finished, BenchResult, Path]) -> None:
    _, result, _ = finished
    for name in (*ENGINES[:3], "generate-static", *(["ctranslate2"] if ctranslate_installed() else [])):
        agreement = result.rows[name].agreement
        assert agreement is not None, name
        assert (agreement.reference, agreement.equal, agreement.repeats) == ("generate", 2, 2), name
    assert result.rows["generate"].agreement is None


def test_the_floor_is_told_before_anything_is_measured(finished: tuple[Finished, BenchResult, Path]) -> None:
    done, result, _ = finished
    lines = done.out.splitlines()
    roofline = next(at for at, line in enumerate(lines) if line.startswith("Roofline: ") and "ms a token" in line)
    table = next(at for at, line in enumerate(lines) if line.startswith("t5-small (random weights): fp32, cpu, 1 thr"))
    assert roofline < table
    assert "0.1M parameters" in lines[0]
    assert result.rates.gb_per_s >= 0.1
    assert max(map(len, lines[table : table + 20])) <= 110


def test_the_json_is_strict_and_keeps_its_schema(finished: tuple[Finished, BenchResult, Path]) -> None:
    _, result, folder = finished
    plain = strict(folder / "t5-small-fp32-cpu.json")
    jsonschema.validate(plain, json_schema(BenchResult))
    assert plain["environment"]["git"].keys() == {"sha", "dirty"}
    assert {"load_1min", "torch_threads", "cpu_mhz"} <= set(plain["environment"]["state"])
    assert "load_1min" in plain["environment"]["state_after"]
    assert plain["environment"]["packages"]["torch"]
    assert plain["settings"]["shape"]["d_model"] == 32
    assert plain["model"]["parameters"] > 0
    assert result.threads == 1
    assert {path.suffix for path in folder.iterdir()} == {".json", ".png", ".svg"}


def test_a_result_that_is_none_is_refused(tmp_path: Path, finished: tuple[Finished, BenchResult, Path]) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(BildError, match="could not be read"):
        read_bench(path)
    plain = strict(finished[2] / "t5-small-fp32-cpu.json")
    for changed, sentence in (
        (plain | {"schema": 99}, "schema must be 2, but it is 99"),
        (plain | {"rows": 3}, "the field rows must be an object"),
        ({}, "schema must be 2, but it is 'missing'"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(BildError, match=sentence):
            read_bench(path)
    path.write_text("{")
    with pytest.raises(BildError, match="is not a result"):
        read_bench(path)


@pytest.mark.slow
def test_engines_and_peers_are_chosen_as_they_are_typed(tmp_path: Path) -> None:
    _, result = bench(tmp_path, "engine=fused", "peers=[generate]", "widths=[]", "dtype=bf16")
    assert list(result.rows) == ["fused", "generate"]
    assert (result.dtype, result.name) == ("bf16", "t5-small-bf16-cpu")
    assert result.rows["fused"].verification is None
    assert result.overhead.share is None


@pytest.mark.slow
def test_without_generate_the_tokens_are_those_of_the_first_engine(tmp_path: Path) -> None:
    _, result = bench(tmp_path, "engine=[hf,fused]", "peers=[]")
    agreement = result.rows["fused"].agreement
    assert agreement is not None
    assert agreement.reference == "hf"
    assert result.rows["fused"].speedup is None


def test_an_absent_peer_is_a_row_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    done, result = bench(tmp_path, "engine=[hf]", "peers=[generate,ctranslate2,ctranslate2-int8]")
    for name in ("ctranslate2", "ctranslate2-int8"):
        row = result.rows[name]
        assert (row.status, row.note) == (ABSENT, "not installed: pip install 'bild-bench[ctranslate2]'")
    assert "absent" in done.out
    assert "bild-bench[ctranslate2]" in done.out


@pytest.mark.slow
def test_a_peer_that_is_there_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Scripted(Backend):
        name = "CTranslate2 9.9, int8_float32"

        def decode(self, source: Sequence[int], tokens: int) -> Timed:
            return Timed([95] * (tokens + 1), 1_000_000, tokens * 2_000_000, tokens)

    asked: list[str] = []

    class Loaded(Scripted):
        def __init__(self, folder: str, compute: str, *_: Any) -> None:
            asked.append(compute)

    monkeypatch.setattr(backends, "ctranslate_installed", lambda: True)
    monkeypatch.setattr(backends, "convert", lambda *_: None)
    monkeypatch.setattr(backends, "CTranslateBackend", Loaded)
    done, result = bench(tmp_path, "engine=[hf]", "peers=[generate,ctranslate2,ctranslate2-int8]")
    assert asked == ["float32", "int8"]
    whole, small = result.rows["ctranslate2"], result.rows["ctranslate2-int8"]
    assert whole.ms_per_token is not None
    assert whole.ms_per_token.median == pytest.approx(2.0)
    assert (whole.precision, small.precision) == ("fp32", "int8")
    assert whole.roofline is not None
    assert small.roofline is not None
    assert small.roofline.bytes < whole.roofline.bytes
    assert whole.agreement is not None
    assert whole.agreement.equal == 0
    assert whole.agreement.position == 0
    assert whole.agreement.gap is not None
    assert whole.agreement.gap > 0  # the large model prefers its own choice
    assert "parts from generate at token 1, where the large model prefers that token by" in done.out


@pytest.mark.skipif(not ctranslate_installed(), reason="an extra")
def test_ctranslate2_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    from bild.models.shapes import random_model

    shape = compose(list(TINY[:8]), "bench", BenchConfig).shape
    module = random_model(shape, torch.float32, torch.device("cpu"), 0)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    convert(module, 0, str(tmp_path))
    for compute in ("float32", "int8"):
        timed = CTranslateBackend(str(tmp_path), compute, torch.device("cpu"), 1).decode([5, 6, 1], 4)
        assert len(timed.tokens) == 5
        assert timed.rest == 4
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())


def test_a_peer_that_fails_says_why_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: LibraryBackend, *_: Any) -> Any:
        if self.static:
            raise IndexError("list index out of range")
        return whole(self, *_)

    whole = LibraryBackend._cache
    monkeypatch.setattr(LibraryBackend, "_cache", broken)
    _, result = bench(tmp_path, "engine=[hf]", "peers=[generate,generate-static]")
    row = result.rows["generate-static"]
    assert (row.status, row.note, row.ms_per_token) == (FAILED, "list index out of range", None)
    assert result.rows["generate"].status == MEASURED


def test_a_small_model_without_an_encoder_reads_the_large_ones_states() -> None:
    options = ["model=embedded-bridge", "engine=[hf,fused,graph]", "peers=[]", "long_sources=[]", "source_length=9"]
    config = compose(options, "bench", BenchConfig)
    made = workload.make_workload(config, torch.device("cpu"))
    found = workload.build_backends(config, made, torch.device("cpu"))
    assert found.missing == {}
    small = {name: backend for name, backend in found.built.items() if name.endswith(workload.SMALL)}
    texts = [backend.decode(made.sources[None][0], 4) for backend in small.values()]
    assert len(texts) == 3
    assert [text.tokens for text in texts] == [texts[0].tokens] * 3
    engine = small["fused, small model"].engine
    assert engine.reads is found.built["fused"].engine
    encoded, real = list[int](), engine.encode
    with mock.patch.object(engine, "encode", lambda source: encoded.append(len(source)) or real(source)):
        small["fused, small model"].decode(made.sources[None][0], 1)  # its first token takes the large model's encoder
    assert encoded == [9]


@pytest.mark.slow
def test_what_does_not_fit_into_memory_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "_ROOM_ENGINE", 1e12)
    _, result = bench(tmp_path, "engine=[hf,fused]", "peers=[]")
    assert result.rows["hf"].status == MEASURED
    assert result.rows["fused"].status == SKIPPED
    assert "GiB of memory, and" in (result.rows["fused"].note or "")


def test_ctrl_c_leaves_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = 0

    def once(self: LibraryBackend, *arguments: Any) -> Timed:
        nonlocal times
        times += 1
        if times == 3:  # after the warm-up and one repeat
            raise KeyboardInterrupt
        return decode(self, *arguments)

    decode = LibraryBackend.decode
    monkeypatch.setattr(LibraryBackend, "decode", once)
    options = (f"out={tmp_path}", "engine=[hf]", "peers=[generate]", "long_sources=[]")
    done = call("bild.bench.__main__", *but(TINY, *options), cwd=tmp_path)
    assert done.code == 130
    assert "stopped after 1 whole repeats; what was measured is in" in done.err
    result = read_bench(tmp_path / "t5-small-fp32-cpu-partial.json")
    assert result.interrupted
    assert result.rows["generate"].repeats_ms is not None
    assert list(result.rows["generate"].repeats_ms) == [0]


def test_ctrl_c_before_anything_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> Timed:
        raise KeyboardInterrupt

    monkeypatch.setattr(LibraryBackend, "decode", stop)
    done = call("bild.bench.__main__", *TINY, f"out={tmp_path}", "engine=[]", "peers=[generate]", cwd=tmp_path)
    assert done.code == 130
    assert done.err.splitlines()[-1] == "stopped before anything was measured"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_embedded_pair_with_an_assistant(tmp_path: Path) -> None:
    options = ("engine=[fused]", "peers=[generate,assisted,prompt-lookup]", "repeats=1", "warmup=1", "tokens=8")
    done = call("bild.bench.__main__", *options, "source_length=16", "widths=[1,5]", f"out={tmp_path}", cwd=tmp_path)
    assert done.code == 0, done.err
    result = read_bench(tmp_path / "embedded-fp32-cpu.json")
    assert list(result.rows) == ["fused", "generate", "assisted", "prompt-lookup", "fused, small model"]
    assert {row.status for row in result.rows.values()} == {MEASURED}
    for name in ("fused", "assisted", "prompt-lookup"):
        agreement = result.rows[name].agreement
        assert agreement is not None
        assert agreement.equal == 1
    assert result.overhead.engine == "fused"
    assert result.overhead.share is not None
    assert result.settings["sources"] == "embedded captions, joined"
    small, large = result.rows["fused, small model"], result.rows["fused"]
    assert small.roofline is None
    assert small.verification is None
    assert small.ms_per_token is not None
    assert large.ms_per_token is not None


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "shape=t5-small model=embedded",
            "shape=... and model=... are two things to measure: name one of them.",
        ),
        ("engine=nope", f"engine=nope is not known: choose one of {', '.join(ENGINES)}."),
        ("peers=[generate,nope]", f"peers=nope is not known: choose one of {', '.join(PEERS)}."),
        ("dtype=fp8", "dtype=fp8 is not known: choose one of fp32, fp16, bf16."),
        ("widths=[1,0]", "widths=0 is out of range: it must be from 1 to 1,024."),
        ("repeats=0", "repeats=0 is out of range: it must be from 1 to 10,000."),
        ("threads=0", "threads=0 is out of range: it must be from 1 to 1,024."),
        ("shape=t5-small shape.kind=bert", "shape.kind=bert is not known: choose one of t5, mt5."),
        ("shape=t5-small shape.heads=0", "shape.heads=0 is out of range: it must be from 1 to 1,024."),
        (
            "shape=nope",
            "shape=nope is not known: choose one of embedded-exit, embedded-large, embedded-small, "
            "mt5-base, mt5-large, mt5-small, t5-base, t5-large, t5-small.",
        ),
        (
            "engine=[] peers=[]",
            "There is nothing to measure: name at least one of engine=[...] and peers=[...].",
        ),
        (
            "engin=hf",
            "engin is not an option (did you mean engine?): there are shape, model, engine, peers, dtype, device, "
            "threads, widths, source_length, long_sources, tokens, cached, repeats, warmup, assistant_tokens, seed, "
            "out.",
        ),
    ],
)
def test_a_wrong_option(tmp_path: Path, arguments: str, sentence: str) -> None:
    assert call("bild.bench.__main__", *arguments.split(), cwd=tmp_path).refusal() == sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "beginning"),
    [
        ("task=xsum", "task is not an option: there are shape, model"),
        ("engine.dtype=fp32", "engine.dtype is not an option (did you mean engine?)"),
        ("widths=x", "widths=x is not a list, as in [a,b]: give a list"),
        ("shape=t5-small,t5-base", "shape=t5-small,t5-base names several values: add -m"),
        ("tokens=few", "tokens=few is not a whole number"),
    ],
)
def test_another_wrong_option(tmp_path: Path, arguments: str, beginning: str) -> None:
    assert call("bild.bench.__main__", *arguments.split(), cwd=tmp_path).refusal().startswith(beginning)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sentence = call("bild.bench.__main__", *TINY, "out=file", cwd=tmp_path).refusal()
    assert sentence.startswith("out=file is there, and no folder")


def test_a_pair_without_checkpoints(tmp_path: Path) -> None:
    sentence = call("bild.bench.__main__", "model=folders", cwd=tmp_path).refusal()
    assert sentence.startswith("model=folders needs two checkpoints")


def test_the_defaults() -> None:
    config = compose([], "bench", BenchConfig)
    assert config.name == "embedded"
    assert (config.engines, config.peers) == (list(ENGINES[:3]), list(USUAL_PEERS))
    assert (config.dtype, config.threads, config.widths) == ("fp32", 1, [1, 2, 4, 8, 16])
    assert (config.source_length, config.tokens, config.repeats) == (64, 32, 7)


def test_words_become_fields() -> None:
    for typed in ("engine=fused,hf", "engine=[fused,hf]", "engines=[fused,hf]"):
        assert compose([typed], "bench", BenchConfig).engines == ["fused", "hf"]
    assert compose(["model=pretrained/mt5-large-small"], "bench", BenchConfig).name == "mt5-large-small-pretrained"


def test_a_compiled_peer_takes_its_static_cache_again() -> None:
    module = build("t5-v1.0")  # of its own, as its settings are changed
    again, anew = LibraryBackend(module, START, compiled=True), LibraryBackend(module, START)
    for n in (9, 9, 5):
        source = [*ids(n, seed=n), EOS]
        assert again.decode(source, 6).tokens == anew.decode(source, 6).tokens
    assert len(again._caches) == 2
