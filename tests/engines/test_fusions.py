"""Engine `graph-triton` against engine `graph`, on a GPU or by Triton's interpreter, and as it stands in a capture."""
# ruff: noqa: E402

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

GPU = torch.cuda.is_available()
if not GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

from bild.engines import Engine, t5
from bild.engines.fusions import Fusions
from bild.engines.graph import GraphEngine
from bild.engines.graph_programs import Operations
from bild.engines.kernels import _compiles
from bild.engines.layouts import TRITON, Matrix
from bild.errors import BildError
from tests.engines.fake_cuda import Log, fake_cuda, fake_module
from tests.engines.test_fake_cuda import CONFIGS, quiet  # noqa: F401
from tests.engines.tiny import EOS, engine, ids, model

pytestmark = [pytest.mark.slow, *[pytest.mark.gpu] * GPU]  # a check of a GPU runs them there
PLAIN, FUSED = Operations(), Fusions()
DEVICE = "cuda" if GPU else "cpu"
DTYPES = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float16: {"rtol": 4e-3, "atol": 4e-3}}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def draw(*size: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gain", [False, True])
@pytest.mark.parametrize("add", [False, True])
def test_residual_norm_and_cast(dtype: torch.dtype, add: bool, gain: bool) -> None:
    for count, width in ((1, 24), (5, 96)):
        told = []
        for do in (PLAIN, FUSED):
            product = draw(count, width, dtype=dtype, seed=1) if add else None
            told.append(do.normed(draw(count, width), product, 1e-6, dtype, draw(width, seed=2) if gain else None))
        for theirs, ours in zip(*told, strict=True):
            assert ours.dtype == theirs.dtype
            torch.testing.assert_close(ours, theirs, **DTYPES[dtype])


def test_triton_compiles_here() -> None:
    assert _compiles(torch.device(DEVICE))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inner", "out"), [(24, 40), (512, 12), (100, 3074), (2100, 6)])
def test_products_of_few_rows(inner: int, out: int, dtype: torch.dtype) -> None:
    """Sizes that fill whole programs and sizes that do not; products in the dtype of the weights, and in fp32."""
    kinds = (TRITON, TRITON, "torch out-in")
    weights = draw(out, inner, dtype=dtype, seed=1)
    for told in (None, torch.float32):
        matrix = Matrix.of(weights, kinds, told)
        for rows in (1, 2, 3, 4, 8, 9):
            if rows > 8 and told and not GPU:
                continue  # torch's own product into another dtype is a GPU's
            x = draw(rows, inner, dtype=dtype, seed=rows)
            expected = x.double() @ weights.double().t()
            found = FUSED.times(x, matrix)
            assert found.dtype == (told or dtype)
            error = (found.double() - expected).norm() / expected.norm()
            assert error < (1e-3 if found.dtype == torch.float16 else 1e-6), rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "size"), [(2, 8), (3, 7)])
def test_attention_over_cached_keys(heads: int, size: int, dtype: torch.dtype) -> None:
    """Over a causal bias and over a mask, of more keys than are looked at together, the first of them masked too."""
    for count, others in ((1, 5), (4, 70), (2, 200)):
        q = draw(count, 3, heads, size, dtype=dtype).permute(1, 2, 0, 3)[0]
        keys = draw(heads, others, size, dtype=dtype, seed=1).transpose(1, 2)
        values = draw(heads, others, size, dtype=dtype, seed=2)
        bias, mask = (
            draw(heads, count, others, dtype=dtype, seed=3),
            torch.zeros(1, 1, others, dtype=dtype, device=DEVICE),
        )
        bias[:, :, others // 2 + 1 :] = mask[..., : others // 2] = -torch.inf
        for over in (bias, mask):
            ours, theirs = (do.attend(q, keys, values, over) for do in (FUSED, PLAIN))
            torch.testing.assert_close(ours, theirs, **DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", ["t5-v1.0", "mt5", "gated-silu"])
def test_activations_and_gates(make: str, dtype: torch.dtype) -> None:
    shape = t5.Shape.of(model(make).config)
    for width in (40, 1500):
        h = draw(3, width * (1 + shape.gated), dtype=dtype) * 3
        h[1, 2] = torch.nan
        ours, theirs = (do.gate(h.clone(), shape) for do in (FUSED, PLAIN))
        torch.testing.assert_close(ours, theirs, equal_nan=True, **DTYPES[dtype])


@pytest.mark.parametrize("ranks", [False, True])
@pytest.mark.parametrize(("count", "vocabulary"), [(1, 48), (4, 48), (3, 9000)])
def test_choices_nlls_and_ranks(count: int, vocabulary: int, ranks: bool) -> None:
    logits, tokens = draw(count, vocabulary) * 4, torch.tensor(ids(count, below=48), device=DEVICE)
    logits[0, 7] = logits[0, 30] = 99.0  # the first of two alike is the choice
    told = []
    for do in (FUSED, PLAIN):
        outputs = torch.zeros(4, 12, device=DEVICE)
        told.append((do.choose(logits, tokens, outputs, ranks), outputs))
    assert torch.equal(told[0][0], told[1][0])
    torch.testing.assert_close(told[0][1], told[1][1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_hidden(bad: float) -> None:
    logits, outputs = draw(2, 6000), torch.zeros(4, 12, device=DEVICE)
    logits[1, 5000] = bad
    FUSED.choose(logits, torch.tensor([1, 2], device=DEVICE), outputs, False)
    assert outputs[1, 0].isfinite()
    assert not outputs[1, 1].isfinite()


@pytest.mark.parametrize("make", ["t5-v1.0", "mt5"])
def test_whole_texts_are_those_of_the_plain_engine(make: str) -> None:
    def write(made: Engine) -> list[Any]:
        made.start([*ids(9), EOS])
        told: list[Any] = [made.step([0]), made.step(ids(3), want=3, ranks=True)]
        made.rewind(2)
        return [*told, made.draft(ids(1), 5, 0.0)]

    theirs, ours = (write(engine(name, copy.deepcopy(model(make)).to(DEVICE))) for name in ("graph", "graph-triton"))
    for one, other in zip(theirs, ours, strict=True):
        for a, b in zip(one, other, strict=True):
            assert b == (a if isinstance(a, str) else pytest.approx(a, rel=1e-4, abs=1e-5))


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_graph_can_hold_it_and_holds_half_as_many_kernels(kind: str) -> None:
    kernels = []
    with fake_cuda() as mode:
        module = fake_module(mode, CONFIGS[kind], torch.float16, "cuda:0")
        for operations in (PLAIN, FUSED):
            with mode:
                options: dict[str, Any] = {"dtype": torch.float16, "eos": 1, "vocabulary": 48, "capacity": 8}
                made = GraphEngine(module, operations=operations, **options)
                source = made._source(30)
            with mode, Log() as log:
                made._plain("step with ranks", source, 4)
            assert log.forbidden == []
            kernels.append(log.kernels)
    assert kernels[1] <= 0.6 * kernels[0]


@pytest.mark.skipif(GPU, reason="there is a GPU")
def test_without_a_gpu_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(BildError, match="engine=graph-triton runs on NVIDIA GPUs, and here is none: use engine=fused"):
        engine("graph-triton", model("t5-v1.0"))
