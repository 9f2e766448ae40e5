"""`fused` against the library's own models, in fp32 on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers.activations import ACT2FN

from bild.decoding.loop import alone
from bild.engines import Engine, Summary
from bild.engines.base import rank_of
from bild.errors import BildError
from bild.measure.live import run_live
from tests.engines.tiny import (
    EOS,
    MAKES,
    MAX_DISTANCE,
    ROWS,
    SMALL_MAKES,
    START,
    build,
    engine,
    ids,
    library_logits,
    library_text,
    model,
)

RELATIVE = 1e-4

every_make = pytest.mark.parametrize("make", MAKES)
SOURCE = [*ids(9), EOS]
TEXT = [START, *ids(33, seed=1)]


def agrees(summary: Summary, logits: torch.Tensor, fed: Sequence[int]) -> None:
    """A summary tells of logits [want, V] what there is to tell, `fed` being the last `want` tokens."""
    logp = torch.log_softmax(logits, -1)
    chosen = logp[range(len(summary.choice)), summary.choice]
    assert (logp.max(-1).values - chosen).max() <= 1e-5  # a tie in the last bits may go either way
    assert summary.choice_nll == pytest.approx((-logp.max(-1).values).tolist(), rel=RELATIVE, abs=1e-5)
    given = [-logp[i, token].item() for i, token in enumerate(fed[1:])]
    assert summary.token_nll == pytest.approx(given, rel=RELATIVE, abs=1e-5)


def feed(made: Engine, text: Sequence[int], width: int) -> Summary:
    """The whole text in steps of `width` tokens; the summaries put together as if it had been one step."""
    choice, choice_nll, token_nll = list[int](), list[float](), list[float]()
    for at in range(0, len(text), width):
        chunk = list(text[at : at + width])
        told = made.step(chunk, want=len(chunk))
        choice += told.choice
        choice_nll += told.choice_nll
        token_nll += told.token_nll
    return Summary(choice, choice_nll, token_nll)


@pytest.mark.spread(30)
@every_make
@pytest.mark.parametrize("width", range(1, 18))
def test_steps_of_every_width_agree_with_the_library(make: str, width: int) -> None:
    module = model(make)
    made = engine("fused", module)
    made.start(SOURCE)
    expected = library_logits(module, SOURCE, TEXT)
    for at in range(0, len(TEXT), width):
        chunk = TEXT[at : at + width]
        agrees(made.step(chunk, want=len(chunk)), expected[at : at + len(chunk)], chunk)


@every_make
@torch.inference_mode()
def test_the_logits_themselves_agree_scale_included(make: str) -> None:
    """A wrong scale of the head would leave every choice as it is, and ruin both thresholds."""
    module = model(make)
    made = engine("fused", module)
    made.start(SOURCE)
    seen = [made.decoder.decode(made.state, TEXT[:12], 0, 12).clone()]
    seen += [made.decoder.decode(made.state, [token], 12 + i, 1).clone() for i, token in enumerate(TEXT[12:])]
    ours, expected = torch.cat(seen), library_logits(module, SOURCE, TEXT)
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= RELATIVE * expected.abs().max()


@every_make
def test_ranks_are_those_of_the_logits(make: str) -> None:
    made = engine("fused", model(make))
    made.start(SOURCE)
    told = made.step(TEXT, want=len(TEXT), ranks=True).token_rank
    with torch.inference_mode():
        logits = made.decoder.decode(made.state, TEXT, 0, len(TEXT))
    assert list(told) == rank_of(logits[:-1], TEXT[1:])
    assert max(told) > 1


@every_make
def test_the_probability_of_every_token_agrees(make: str) -> None:
    module = model(make)
    made = engine("fused", module)
    made.start(SOURCE)
    made.step(TEXT[:-1])
    expected = -torch.log_softmax(library_logits(module, SOURCE, TEXT)[-1], -1)
    tokens = range(0, module.config.vocab_size, 1 + module.config.vocab_size // ROWS)
    nlls = []
    for token in tokens:
        nlls += made.step([TEXT[-1], token], want=2).token_nll
        made.rewind(len(TEXT) - 1)
    assert nlls == pytest.approx(expected[list(tokens)].tolist(), rel=RELATIVE)


@pytest.mark.spread(6)
@every_make
@pytest.mark.parametrize("seed", range(3))
def test_it_writes_what_generate_writes(make: str, seed: int) -> None:
    module, source = model(make), [*ids(6 + seed, seed), EOS]
    policy = alone("large", start=START, eos=EOS, max_length=30)
    run = run_live(policy, source, large=engine("fused", module), small=None)
    assert run.decoded.tokens == library_text(module, source, 30)


@pytest.mark.slow
def test_the_texts_that_are_compared_are_no_mere_repetition() -> None:
    for make in MAKES:
        texts = [library_text(model(make), [*ids(6 + seed, seed), EOS], 30) for seed in range(3)]
        assert max(len(set(text)) for text in texts) >= 5, make


# Room


@pytest.mark.parametrize("make", SMALL_MAKES)
@pytest.mark.parametrize("width", [1, 5, 31])
def test_it_grows_beyond_its_capacity(make: str, width: int) -> None:
    module = model(make)
    made = engine("fused", module, capacity=4)
    made.start(SOURCE)
    text = [START, *ids(70, seed=2)]
    agrees(feed(made, text, width)._replace(token_nll=[]), library_logits(module, SOURCE, text), [])
    assert made.length == len(text)


def test_what_was_cached_before_growing_and_rewinding_is_still_there() -> None:
    module = model("mt5")
    made = engine("fused", module, capacity=8)
    made.start(SOURCE)
    made.step(TEXT[:8])
    made.rewind(6)
    made.step(TEXT[6:20])  # beyond 16
    made.rewind(19)
    told = made.step(TEXT[19:21], want=2)
    agrees(told, library_logits(module, SOURCE, TEXT[:21])[-2:], TEXT[19:21])


def test_it_keeps_its_room_for_the_next_source() -> None:
    module = model("mt5")
    made = engine("fused", module, capacity=2)
    for seed in range(3):
        source = [*ids(5 + seed, seed), EOS]
        made.start(source)
        assert made.length == 0
        told = made.step(TEXT, want=len(TEXT))
        agrees(told, library_logits(module, source, TEXT), TEXT)


@pytest.mark.parametrize("make", SMALL_MAKES)
@pytest.mark.parametrize("width", [1, 7, 250])
def test_texts_beyond_the_largest_relative_position_agree(make: str, width: int) -> None:
    module = model(make)
    text = [START, *ids(6 * MAX_DISTANCE, seed=3)]
    made = engine("fused", module)
    made.start(SOURCE)
    agrees(feed(made, text, width)._replace(token_nll=[]), library_logits(module, SOURCE, text), [])


@pytest.mark.spread(9)
@pytest.mark.parametrize("make", SMALL_MAKES)
@pytest.mark.parametrize("length", [1, 2, MAX_DISTANCE - 1, MAX_DISTANCE + 1, 300, 900])
def test_sources_of_every_length_agree(make: str, length: int) -> None:
    module, source = model(make), [*ids(length - 1, seed=4), EOS]
    made = engine("fused", module)
    made.start(source)
    agrees(made.step(TEXT[:8], want=8), library_logits(module, source, TEXT[:8]), TEXT[:8])


def test_many_sources_of_different_lengths_leave_the_first_as_it_was() -> None:
    made = engine("fused", model("t5-v1.0"))
    made.start(SOURCE)
    before = made.step(TEXT, want=len(TEXT))
    for length in range(1, 90):
        made.start([*ids(length), EOS])
    made.start(SOURCE)
    assert made.step(TEXT, want=len(TEXT)) == before


# Heads


@pytest.mark.parametrize("name", ["fused", "hf"])
@pytest.mark.parametrize("make", ["t5-v1.0", "mt5"])
def test_rows_beyond_the_vocabulary_are_never_chosen_and_take_no_probability(name: str, make: str) -> None:
    module, vocabulary = build(make, seed=6), ROWS - 8
    with torch.no_grad():  # the padding rows would win everywhere
        module.lm_head.weight[vocabulary:] = module.lm_head.weight[:8] * 5.0
    assert (library_logits(module, SOURCE, TEXT).argmax(-1) >= vocabulary).any()
    made = engine(name, module, vocabulary=vocabulary)
    made.start(SOURCE)
    text = [START, *ids(20, below=vocabulary)]
    agrees(made.step(text, want=21), library_logits(module, SOURCE, text)[:, :vocabulary], text)


@pytest.mark.parametrize("name", ["fused", "hf"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_head_of_250112_rows_works_and_names_its_last_token_exactly(name: str, dtype: str) -> None:
    rows, vocabulary = 250_112, 250_100
    module = build("mt5", d_model=8, num_heads=2, vocab_size=rows)
    last = vocabulary - 1
    with torch.no_grad():
        module.lm_head.weight.mul_(0.1)
        direction = library_hidden(module, SOURCE, [START, 5])
        module.lm_head.weight[last] = 20.0 * direction / direction.norm()
    module.to({"fp32": torch.float32, "bf16": torch.bfloat16}[dtype])
    made = engine(name, module, vocabulary=vocabulary, dtype=dtype)
    made.start(SOURCE)
    told = made.step([START, 5], want=2)
    assert told.choice[-1] == last
    made.rewind(1)
    assert made.step([5]).choice == [last]
    made.rewind(1)
    expected = torch.log_softmax(library_logits(module, SOURCE, [START, 5])[-1, :vocabulary], -1)
    assert made.step([5, last], want=2).token_nll == pytest.approx([-expected[last].item()], rel=0.05, abs=1e-4)


@torch.inference_mode()
def library_hidden(module: Any, source: Sequence[int], text: Sequence[int]) -> torch.Tensor:
    """The decoder's last state [D], which the head is multiplied with."""
    output = module(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([text]), output_hidden_states=True)
    state: torch.Tensor = output.decoder_hidden_states[-1][0, -1]
    return state.clone()


# The module stays as it was


def test_an_engine_leaves_its_module_alone() -> None:
    module = build("mt5", seed=7)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    for _ in range(2):
        made = engine("fused", module)
        made.start(SOURCE)
        agrees(made.step(TEXT, want=len(TEXT)), library_logits(module, SOURCE, TEXT), TEXT)
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())


def test_two_engines_over_one_module_know_nothing_of_each_other() -> None:
    module = model("t5-v1.0")
    one, other = engine("fused", module), engine("fused", module)
    source = [*ids(4, seed=8), EOS]
    one.start(SOURCE)
    other.start(source)
    one.step(TEXT[:5])
    other.step(TEXT[20:28])
    agrees(one.step(TEXT[5:9], want=4), library_logits(module, SOURCE, TEXT[:9])[-4:], TEXT[5:9])
    assert (one.length, other.length) == (9, 8)


# What it cannot do, it says


@pytest.mark.parametrize("activation", ["prelu", "gated-prelu"])
def test_an_unknown_activation_is_refused_in_words(activation: str) -> None:
    module = build("t5-v1.0", feed_forward_proj=activation)
    with pytest.raises(BildError, match=r"activation prelu is not known to engine=fused, .* no weights: use engine=hf"):
        engine("fused", module)
    made = engine("hf", module)
    made.start(SOURCE)
    agrees(made.step(TEXT, want=len(TEXT)), library_logits(module, SOURCE, TEXT), TEXT)


@pytest.mark.parametrize(
    "activation",
    [*sorted({*ACT2FN} - {"prelu", "xielu"}), "gated-gelu", "gated-gelu_new", "gated-swish", "gated-quick_gelu"],
)
def test_every_activation_of_the_library_without_weights_agrees(activation: str) -> None:
    module = build("t5-v1.0", feed_forward_proj=activation)
    made = engine("fused", module)
    made.start(SOURCE)
    agrees(made.step(TEXT[:20], want=20), library_logits(module, SOURCE, TEXT[:20]), TEXT[:20])
    agrees(made.step(TEXT[20:21]), library_logits(module, SOURCE, TEXT[:21])[-1:], TEXT[20:21])
