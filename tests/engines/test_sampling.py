"""Sampling by shared noise: the same choice everywhere, drawn from the library's distribution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import chi2_contingency, chisquare
from transformers.generation import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from bild.config import DecodeConfig
from bild.decoding.loop import alone, big_little
from bild.decoding.rules import Rules
from bild.engines import Engine, PassPlan, build_exit_engines
from bild.engines.graph import GraphEngine
from bild.engines.sampling import Sampler, _mix, choose, choose_on_host, gumbel, position_keys, source_key
from bild.measure.live import run_live
from tests.engines.cuda_model import Cuda
from tests.engines.test_graph_captures import build as build_graph
from tests.engines.tiny import EOS, ROWS, START, engine, ids, model, relative_of
from tests.lanes import many

SETTINGS = [DecodeConfig(True), DecodeConfig(True, 0.8, seed=1), DecodeConfig(True, 0.6, 1.7, 2)]
SOURCE = [*ids(9), EOS]


def warped(logits: torch.Tensor, top_p: float, temperature: float) -> torch.Tensor:
    """Logits as the library's own warpers leave them."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature), TopPLogitsWarper(top_p)])
    scores: torch.Tensor = warpers(torch.zeros(len(logits), 1, dtype=torch.long), logits.clone())
    return scores


def text_of(engines: tuple[Engine | None, Engine | None], source: Sequence[int], decode: Any, **rules: Any) -> Any:
    """What two engines write together, or the large one alone."""
    edges = {"start": START, "eos": EOS, "max_length": 16}
    policy = alone("large", **edges) if engines[1] is None else big_little(Rules(**rules), **edges)
    return run_live(policy, source, *engines, decode).decoded


def test_the_noise_is_splitmix64_and_standard_gumbel_alike_in_numpy_and_torch() -> None:
    golden = 0x9E3779B97F4A7C15
    states = np.array([(n * golden) % (1 << 64) for n in (1, 2, 3)], np.uint64).view(np.int64)
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # the first numbers of the seed 0
    assert _mix(states).view(np.uint64).tolist() == published
    keys = position_keys(source_key(3, SOURCE), np.arange(40))
    ours, theirs = gumbel(keys[:, None], np.arange(5000)), gumbel(torch.from_numpy(keys)[:, None], torch.arange(5000))
    assert np.array_equal(_mix(keys), _mix(torch.from_numpy(keys)).numpy())
    assert np.abs(ours - theirs.numpy()).max() < 1e-5
    assert (abs(ours.mean() - 0.5772) < 0.01, abs(ours.var() - np.pi**2 / 6) < 0.03) == (True, True)
    for one, other in ((ours[0], ours[1]), (ours[:, 0], ours[:, 1]), (ours[:, :-1], ours[:, 1:])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5 * len(one.ravel()) ** -0.5 * 8
    assert len({source_key(*each) for each in [(0, [5, 1]), (1, [5, 1]), (0, [5, 2]), (5, [1])]}) == 4


@many(80)
@given(some.integers(0, 1 << 20), some.sampled_from([0.05, 0.5, 0.8, 0.99, 1.0]), some.sampled_from([0.5, 1.0, 2.0]))
def test_a_choice_is_the_argmax_of_the_librarys_warped_logits_with_noise(
    seed: int, p: float, temperature: float
) -> None:
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(seed)) * (1 + seed % 5)
    keys = position_keys(seed, np.arange(4))
    expected = warped(logits, p, temperature) + gumbel(torch.from_numpy(keys)[:, None], torch.arange(300))
    on_host = choose_on_host(logits.numpy(), keys, p, temperature, gaps=True)
    anywhere = choose(logits, torch.from_numpy(keys), p, temperature, gaps=True)
    assert expected.argmax(-1).tolist() == on_host.choice == anywhere.choice.tolist()
    assert choose_on_host(logits.numpy(), keys, p, temperature).choice == on_host.choice
    assert choose(logits, torch.from_numpy(keys), p, temperature).choice.tolist() == on_host.choice
    gap = np.minimum(on_host.gap, np.log(2) * temperature)  # above this only `choose` goes by tokens far outside
    assert np.allclose(gap, np.minimum(anywhere.gap.numpy(), np.log(2) * temperature), atol=1e-4)
    # Within its gap no rounding makes another choice: the gap is a difference, of which each logit has one half.
    away = torch.rand(4, 300, generator=torch.Generator().manual_seed(seed + 1)) - 0.5
    shaken = (logits + 0.98 * torch.from_numpy(gap)[:, None] * away).numpy()
    assert choose_on_host(shaken, keys, p, temperature).choice == on_host.choice


def test_tokens_that_tie_with_the_last_of_the_nucleus_are_in_it() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.1, 0.2, 0.1, 0.1]]))
    keys = position_keys(1, np.arange(400))
    drawn = choose_on_host(logits.expand(400, 5).numpy(), keys, 0.75, 1.0).choice
    assert set(drawn) == {0, 1, 2, 3, 4}
    assert drawn == choose(logits.expand(400, 5), torch.from_numpy(keys), 0.75, 1.0).choice.tolist()


@pytest.mark.spread(2)
@pytest.mark.parametrize("make", ["t5-v1.0", "mt5", "deep-decoder"])
def test_all_engines_draw_one_text_and_exact_drafts_do_not_change_it(make: str) -> None:
    large, small = model(make), relative_of(model(make), 0.3)
    pairs = {name: (engine(name, large), engine(name, small)) for name in ("hf", "fused", "graph")}
    texts = set()
    rules: list[dict[str, Any]] = [{"keep": "exact", "max_draft": 5}, {"fb": 0.2, "threshold": 2.0}]
    texts = set()
    for decode in SETTINGS:
        vanilla = [text_of((pair[0], None), SOURCE, decode).tokens for pair in pairs.values()]
        assert vanilla[0] == vanilla[1] == vanilla[2]
        texts.add(tuple(vanilla[0]))
        for each in rules:
            drafted = [text_of(pair, SOURCE, decode, **each).tokens for pair in (pairs["fused"], pairs["graph"])]
            assert drafted[0] == drafted[1]
            assert "keep" not in each or drafted[0] == vanilla[0]
    assert len(texts) == 3
    decode, top = SETTINGS[1], {"keep": "top", "threshold": 2.0}
    assert text_of(pairs["hf"], SOURCE, decode, **top).tokens == text_of(pairs["graph"], SOURCE, decode, **top).tokens
    greedy = text_of((pairs["fused"][0], None), SOURCE, None).tokens  # the noise was the last text's alone
    assert greedy == text_of((engine("fused", large), None), SOURCE, DecodeConfig()).tokens


def test_both_views_of_early_exit_draw_as_two_models_do() -> None:
    options: dict[str, Any] = {"dtype": "fp32", "eos": EOS, "vocabulary": ROWS}
    pairs = [build_exit_engines(name, model("deep-decoder"), 2, **options) for name in ("hf", "fused", "graph")]
    for decode in SETTINGS[:2]:
        texts = [text_of(pair, SOURCE, decode, fb=0.1, threshold=3.0).tokens for pair in pairs]
        assert texts[0] == texts[1] == texts[2]


def test_captured_programs_take_key_and_position_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, decode = Cuda("cuda:0").install(monkeypatch), SETTINGS[1]
    large = cuda.engine(partial(build_graph, model("t5-v1.0")))
    assert isinstance(large, GraphEngine)
    large.prepare(PassPlan(24, lambda: [10], 1, decode=decode))
    cuda.sealed = True
    oracle = engine("hf", model("t5-v1.0"))
    for seed in (1, 2):
        source = [*ids(9, seed), EOS]
        mine = text_of((large, None), source, decode)
        assert mine.tokens == text_of((oracle, None), source, decode).tokens
    assert cuda.captures == 3


@pytest.mark.parametrize(("top_p", "temperature"), [(1.0, 1.0), (0.8, 1.3)])
def test_texts_are_distributed_as_those_of_the_librarys_sampling(top_p: float, temperature: float) -> None:
    """Chi-square: the first token against its exact probabilities, three tokens against `generate(do_sample=True)`."""
    module, count = model("t5-v1.0"), 800
    made = engine("fused", module)
    seeds = (DecodeConfig(True, top_p, temperature, seed) for seed in range(count))
    mine = []
    for decode in seeds:
        made.start(SOURCE, decode)
        mine.append(tuple(made.draft([START], 3, 0.0)[0]))
    made.start(SOURCE)
    with torch.inference_mode():
        ids_in = torch.tensor([SOURCE] * count)
        logits = module(input_ids=ids_in[:1], decoder_input_ids=torch.tensor([[START]])).logits[0].float()
        torch.manual_seed(0)
        options = {"do_sample": True, "top_p": top_p, "top_k": 0, "temperature": temperature, "max_new_tokens": 3}
        written = module.generate(input_ids=ids_in, eos_token_id=EOS, pad_token_id=EOS, **options)[:, 1:].tolist()
    exact = torch.softmax(warped(logits, top_p, temperature)[0], -1).numpy().astype(np.float64)
    firsts = Counter(text[0] for text in mine)
    often = [token for token in range(ROWS) if exact[token] * count >= 8]
    seen = [firsts[token] for token in often]
    assert all(exact[token] > 0 for token in firsts)
    rest = (1 - exact[often].sum()) * count
    observed, expected = [*seen, count - sum(seen)], [*(exact[often] * count), rest]
    keep = len(expected) if rest > 5 else len(often)
    scaled = np.array(expected[:keep]) * sum(observed[:keep]) / sum(expected[:keep])
    assert chisquare(observed[:keep], scaled).pvalue > 1e-3
    ours, theirs = Counter(_ended(text) for text in mine), Counter(_ended(text) for text in map(tuple, written))
    texts = [text for text in ours | theirs if ours[text] + theirs[text] >= 12]
    others = [count - sum(found[text] for text in texts) for found in (ours, theirs)]
    table = [[*(found[text] for text in texts), other] for found, other in zip((ours, theirs), others, strict=True)]
    assert len(texts) > 5
    assert chi2_contingency(np.array(table)[:, np.array(table).sum(0) > 0]).pvalue > 1e-3


def _ended(text: tuple[int, ...]) -> tuple[int, ...]:
    """A text up to its end token."""
    return text[: text.index(EOS) + 1] if EOS in text else text


def test_greedy_decoding_has_no_sampler() -> None:
    assert Sampler.of(None, SOURCE) is None
    assert Sampler.of(DecodeConfig(), SOURCE) is None
