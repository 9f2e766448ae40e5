"""Memory: what a pair needs by arithmetic and in fact, weights once, and modules only as long as they are used."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bild.config import ShapeConfig
from bild.engines import DTYPES, t5
from bild.errors import BildError, guard, out_of_memory
from bild.measure.interleave import library_generate
from bild.models import EMBEDDED, load_pair
from bild.models.shapes import CONTEXT, default_budget, layout_bytes, model_config, module_bytes, need_of
from bild.tree.forward_host import branches_of
from tests.cli.commands import call
from tests.engines.tiny import SMALL_MAKES, build, saved_pair
from tests.killing import EXAMPLE

CARD = 16e9


def shape(name: str) -> Any:
    from bild.cli import load, typed

    found: ShapeConfig = typed(ShapeConfig, load("shape", name))
    return model_config(found)


def tensors(weights: t5.Weights) -> dict[int, torch.Tensor]:
    """Every tensor of a layout, once."""
    found: dict[int, torch.Tensor] = {}

    def visit(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[value.data_ptr()] = value
        elif isinstance(value, tuple | dict):
            for each in value.values() if isinstance(value, dict) else value:
                visit(each)
        elif dataclasses.is_dataclass(value):
            for each in dataclasses.fields(value):
                visit(getattr(value, each.name))

    visit(weights)
    return found


@pytest.mark.parametrize("make", SMALL_MAKES)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_the_arithmetic_is_what_a_layout_takes(make: str, dtype: str) -> None:
    module, kind = build(make), DTYPES[dtype]
    laid = t5.prepare(module.state_dict(), module.config, kind, module.config.vocab_size)
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors(laid).values())
    assert layout_bytes(module.config, kind) == pytest.approx(held, rel=0.02)
    if dtype == "fp32":
        assert module_bytes(module.config, kind) == sum(4 * p.numel() for p in module.parameters())


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_mt5_large_with_its_tree_fits_a_card_of_16_gb(dtype: str) -> None:
    need = need_of([shape("mt5-large"), shape("mt5-small")], "graph", dtype)
    left = CARD - CONTEXT - need.total
    assert left > 2e9, need.told()  # the tree takes 0.4 of it, twice that while it grows
    alone = need_of([shape("mt5-large"), shape("mt5-small")], "graph", dtype, library=False)
    assert alone.module == 0
    assert need.total - alone.total == module_bytes(shape("mt5-large"), DTYPES[dtype])
    assert "GB (weights " in need.told()


def test_the_buffers_of_graph_are_those_that_are_counted(tmp_path: Path) -> None:
    pair = saved_pair(tmp_path, build("mt5"), build("mt5", seed=1))
    made = pair.engine("large", "graph")
    for length in (5, 40, 100):
        made.start([*[5] * (length - 1), 1])
    buffers = [made.cache, made.bias]  # type: ignore[attr-defined]
    buffers += [t for s in made.sources.values() for t in (s.cross_keys, s.cross_values)]  # type: ignore[attr-defined]
    held = sum(tensor.numel() * tensor.element_size() for tensor in buffers)
    configs = [pair.large.config]
    assert need_of(configs, "graph", "fp32", source_limit=128).state == held


@pytest.mark.parametrize("make", ["t5-v1.0", "mt5"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_engines_read_what_the_library_would(make: str, dtype: str, tmp_path: Path) -> None:
    pair = saved_pair(tmp_path, build(make), build(make, seed=1), dtype)
    read, theirs = pair.large.state_dict(), pair.large.module.state_dict()
    for name, weight in theirs.items():
        assert weight.dtype == read[name].dtype, name
        assert torch.equal(weight, read[name]), name
    assert pair.large.parameters == sum(p.numel() for p in pair.large.module.parameters())


@pytest.mark.parametrize("more", [0.0, 1.0])
def test_a_head_beside_its_embedding_is_one_weight_where_they_are_equal(more: float, tmp_path: Path) -> None:
    module = build("t5-v1.0")
    pair = saved_pair(tmp_path, module, build("t5-v1.0", seed=1))
    file = tmp_path / "large" / "model.safetensors"
    state = load_file(file)
    save_file(state | {"lm_head.weight": state["shared.weight"] + more}, file, metadata={"format": "pt"})
    again = load_pair(str(tmp_path / "large"), str(tmp_path / "small"), device="cpu")
    assert (again.large.parameters == pair.large.parameters) == (more == 0.0)
    assert again.large.parameters == sum(p.numel() for p in again.large.module.parameters())
    head = again.large.state_dict()["lm_head.weight"]
    assert torch.equal(head, again.large.module.lm_head.weight)


def test_engines_and_tree_share_one_layout_and_no_module_is_made() -> None:
    pair = load_pair("embedded", device="cpu")
    laid = branches_of(pair, "large").weights
    assert pair.engine("large", "fused").weights is laid  # type: ignore[attr-defined]
    graph = pair.engine("large", "graph").weights  # type: ignore[attr-defined]
    assert graph is pair.large.weights(torch.float32, pair.vocabulary, pair.kernels)
    assert pair.large._module is None
    assert pair.small._module is None


def test_an_early_exit_pair_has_the_weights_of_one_model() -> None:
    pair = load_pair(str(EMBEDDED / "large"), tokenizer=str(EMBEDDED), exit=2)
    whole, part = pair.weights("large"), pair.weights("small")
    assert part.head is whole.head
    assert part.decoder == whole.decoder[:2]
    cut = t5.prepare(pair.small.state_dict(), pair.small.config, torch.float32, pair.vocabulary, pair.kernels)
    assert part.cross_kv.kinds == cut.cross_kv.kinds
    x = torch.randn(20, cut.cross_kv.inner, generator=torch.Generator().manual_seed(0))
    assert torch.equal(part.cross_kv.times(x), cut.cross_kv.times(x))


def test_the_librarys_module_goes_and_comes_back() -> None:
    pair = load_pair("embedded", device="cpu")
    source = pair.encode("Zwei Hunde spielen im Schnee.")[0]
    first = library_generate(pair, source, 32).tokens
    module = weakref.ref(pair.large.module)
    gc.disable()  # as in a measurement
    try:
        pair.release_library()
        assert module() is None
    finally:
        gc.enable()
    assert library_generate(pair, source, 32).tokens == first
    pair.engine("large", "hf")
    kept = pair.large.module
    pair.release_library()  # an engine runs it
    assert pair.large.module is kept


def test_a_tree_may_take_two_fifths_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 << 30, 16 << 30))
    assert default_budget(torch.device("cuda")) == 4 << 30
    assert default_budget(torch.device("cpu")) == 1 << 30


CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.58 GiB of which 905.56 MiB is "
    "free. Process 12 has 13.70 GiB memory in use."
)


@pytest.mark.parametrize(
    ("error", "beginning"),
    [
        (torch.OutOfMemoryError(CUDA), "The memory of the GPU is full: 2.00 GiB more were needed, and 905.56 MiB were"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to "
                "allocate 8000000000 bytes. Error code 12"
            ),
            "The memory of this machine is full: 8.00 GB more were needed; ",
        ),
        (
            MemoryError("Unable to allocate 7.28 TiB for an array with shape (1, 2)"),
            "The memory of this machine is full: 7.28 TiB more",
        ),
        (MemoryError(), "The memory of this machine is full; engine.dtype=fp16"),
    ],
)
def test_short_memory_is_one_sentence(error: Exception, beginning: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    assert guard(command, helps="engine.dtype=fp16 takes half") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {beginning}")
    assert told.count("\n") == 1


def test_a_real_shortage_is_told_and_other_errors_are_not() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55, dtype=torch.uint8)
    assert isinstance(out_of_memory(caught.value), BildError)
    assert out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered")) is None
    assert guard(lambda: (_ for _ in ()).throw(RuntimeError("other"))) == 1


def test_a_command_whose_models_do_not_fit_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr("bild.measure.session.measure_points", full)
    done = call("bild.run", cwd=tmp_path)
    assert done.code == 2
    assert done.refusal() == (
        "The memory of the GPU is full: 2.00 GiB more were needed, and 905.56 MiB were free; engine.dtype=fp16 halves "
        "the weights, and measure.library=0 leaves out the library's module."
    )
    monkeypatch.setattr("bild.report.report.contents", full)
    told = call("bild.report.__main__", str(EXAMPLE), cwd=tmp_path).refusal()
    assert told.endswith("were free; end what else takes it, or use a machine that has more, and run again.")
