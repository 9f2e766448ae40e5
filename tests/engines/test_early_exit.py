"""Early exit with shared layers against the same two models computed apart, nothing shared."""

from __future__ import annotations

import random
from functools import cache
from time import process_time
from typing import Any

import pytest
import torch

from bild.config import DecodeConfig, ModelConfig, TaskConfig
from bild.decoding import Policy
from bild.decoding.loop import alone, big_little
from bild.decoding.rules import Rules
from bild.engines import Engine, Summary, build_exit_engines
from bild.engines.base import ENTIRE, PartialPass
from bild.engines.early_exit import GraphSharedLayers, truncated
from bild.engines.fused import TensorDecoder
from bild.engines.layouts import COMPILED, PLAIN
from bild.engines.strips import compiled
from bild.errors import BildError
from bild.measure.live import run_live
from bild.models import EMBEDDED, load_pair
from tests.decoding.settings import bild_rules, speculative_rules
from tests.engines.tiny import EOS, SMALL_MAKES, START, all_of, build, engine, ids, model

DEEP = [make for make in SMALL_MAKES if make != "deep-encoder"]
"""Makes with more than one decoder layer."""
WAYS = ["compiled", "arrays", "tensors", "graph"]
"""Engine `fused` by each of its decoders, and `graph`."""


def views(name: str, make: str, exit_layer: int, **options: Any) -> tuple[Engine, Engine]:
    if name == "compiled" and compiled() is None:
        pytest.skip("no C compiler")
    module = model(make)
    options |= {"dtype": "fp32", "eos": EOS, "vocabulary": module.config.vocab_size}
    options["kernels"] = all_of(module, COMPILED if name == "compiled" else PLAIN)
    pair = build_exit_engines(name if name in ("graph", "hf") else "fused", module, exit_layer, **options)
    if name == "tensors":
        inner = pair[0].shared.engine  # type: ignore[attr-defined]
        inner.decoder = TensorDecoder(inner.weights)
    return pair


def taken_to_the_exit(shared: Any) -> list[int]:
    """Return a list that gets the number of tokens of each pass to the exit, from now on."""
    counts: list[int] = []
    if isinstance(shared, GraphSharedLayers):
        lower = shared._lower
        shared._lower = lambda n, tokens: counts.append(len(tokens)) or lower(n, tokens)  # type: ignore[func-returns-value, method-assign]
        return counts
    step = shared.engine.step

    def counted(tokens: list[int], want: int = 1, ranks: bool = False, part: PartialPass = ENTIRE) -> Summary:
        counts.extend([len(tokens) - part.kept] if part.layers and part.kept < len(tokens) else [])
        return step(tokens, want, ranks, part)

    shared.engine.step = counted
    return counts


@cache
def written_apart(make: str) -> list[tuple[int, list[int], Rules, list[int], list[Any]]]:
    """Return (exit layer, source, rules, tokens, large passes) of runs on two models of the library, nothing shared."""
    module, dice, found = model(make), random.Random(11), []
    for exit_layer in range(1, module.config.num_decoder_layers):
        apart = engine("hf", module), engine("hf", truncated(module, exit_layer))
        for n in range(2 if module.config.num_decoder_layers > 2 else 3):
            source = [*ids(dice.randint(3, 20), seed=n), EOS]
            for rules in (
                bild_rules(0.5 * dice.random(), 5 * dice.random(), dice.choice(["paper", "authors"])),
                speculative_rules(4),
            ):
                run = run_live(big_little(rules, start=START, eos=EOS, max_length=24), source, *apart)
                found.append((exit_layer, source, rules, run.decoded.tokens, run.large_passes))
    return found


@pytest.mark.spread(3)
@pytest.mark.parametrize(
    "make", [pytest.param(make, marks=pytest.mark.slow) if make == "deep-decoder" else make for make in DEEP]
)
@pytest.mark.parametrize("name", [*WAYS, "hf"])
def test_policies_write_the_same_text_as_two_models_apart(name: str, make: str) -> None:
    shared = {layer: views(name, make, layer, capacity=8) for layer in range(1, model(make).config.num_decoder_layers)}
    for exit_layer, source, rules, tokens, large_passes in written_apart(make):
        run = run_live(big_little(rules, start=START, eos=EOS, max_length=24), source, *shared[exit_layer])
        assert run.decoded.tokens == tokens
        assert run.large_passes == large_passes


@pytest.mark.spread(1)
@pytest.mark.parametrize("name", WAYS)
def test_summaries_agree_in_any_order_of_steps_drafts_and_rewinds(name: str) -> None:
    """Also where the large model reads what the small one never wrote, and the other way round."""
    dice = random.Random(2)
    shared = views(name, "deep-decoder", 2, capacity=8)
    module = model("deep-decoder")
    apart = engine("hf", module), engine("hf", truncated(module, 2))
    source = [*ids(8), EOS]
    for made in (*shared, *apart):
        made.start(source)
        made.step([START])
    for _ in range(120):
        who = dice.randrange(2)
        pair = (shared[who], apart[who])
        if dice.random() < 0.4:
            length = dice.randint(1, pair[0].length)
            for made in pair:
                made.rewind(length)
        tokens = ids(dice.randint(1, 4), seed=dice.randrange(5))  # few seeds: the two often read the same
        if dice.random() < 0.3:
            stop_below = dice.choice([0.0, 0.05, 0.2])
            written = [made.draft(tokens, 5, stop_below) for made in pair]
            assert written[0][::2] == written[1][::2]
            assert written[0][1] == pytest.approx(written[1][1], rel=1e-4, abs=1e-4)
            assert pair[0].length == pair[1].length
            continue
        mine, theirs = (made.step(tokens, want=len(tokens)) for made in pair)
        assert mine.choice_nll == pytest.approx(theirs.choice_nll, rel=1e-4, abs=1e-4)
        assert mine.token_nll == pytest.approx(theirs.token_nll, rel=1e-4, abs=1e-4)
        assert mine.choice == theirs.choice


@pytest.mark.parametrize("name", ["compiled", "graph"])
def test_one_encoder_pass_serves_both_but_never_two_runs(name: str) -> None:
    large, small = views(name, "t5-v1.0", 1)
    passes: list[int] = []
    inner = large.shared.engine  # type: ignore[attr-defined]
    encode = inner.start

    def counted(source: list[int], decode: DecodeConfig | None) -> None:
        passes.append(len(source))
        encode(source, decode)

    inner.start = counted
    source = [*ids(6), EOS]

    def policy() -> Policy:
        return big_little(bild_rules(0.3, 2.0), start=START, eos=EOS, max_length=10)

    run_live(policy(), source, large, small)
    assert len(passes) == 1
    run_live(policy(), source, large, small)
    assert len(passes) == 2
    run_live(alone("large", start=START, eos=EOS, max_length=10), source, large, None)
    run_live(alone("small", start=START, eos=EOS, max_length=10), source, None, small)
    assert len(passes) == 4  # the small model alone pays for its own


@pytest.mark.parametrize("name", WAYS)
def test_vanilla_decoding_by_the_large_view_pays_nothing_for_sharing(name: str) -> None:
    """It is the baseline of the pair's speedups: what it keeps for a small model that is not there would slow it."""
    large, small = views(name, "deep-decoder", 2, capacity=4)
    shared, plain = large.shared, engine("fused", model("deep-decoder"))  # type: ignore[attr-defined]
    kept = taken_to_the_exit(shared)
    source = [*ids(6), EOS]

    def texts(first: Engine, second: Engine | None) -> list[int]:
        policy = alone("large", start=START, eos=EOS, max_length=12)
        return run_live(policy, source, first, second).decoded.tokens

    expected = texts(plain, None)
    assert texts(large, None) == expected
    assert kept == []
    assert texts(large, small) == expected  # the small model might ask at any time
    assert len(kept) == len(expected) - 1
    assert texts(large, None) == expected
    assert len(kept) == len(expected) - 1
    small.start(source)  # the same source again, but the buffers hold the large model's text
    large.start(source)
    apart = engine("fused", truncated(model("deep-decoder"), 2))
    apart.start(source)
    mine, theirs = small.step([START]), apart.step([START])
    assert mine.choice == theirs.choice
    assert mine.choice_nll == pytest.approx(theirs.choice_nll, rel=1e-4)


@pytest.mark.parametrize("name", WAYS)
def test_what_the_small_model_computed_is_not_computed_again(name: str) -> None:
    large, small = views(name, "deep-decoder", 3)
    shared = large.shared  # type: ignore[attr-defined]
    source = [*ids(6), EOS]
    large.start(source)
    small.start(source)
    computed = taken_to_the_exit(shared)
    small.step([START, 5, 6])
    assert computed == [3]
    large.step([START, 5, 6, 7], want=4)
    assert computed == [3, 1]
    small.step([7])
    assert computed == [3, 1]  # the large pass left it behind


@pytest.mark.slow
def test_a_verification_costs_the_remaining_layers_only() -> None:
    """At exit n of L layers at most (L-n)/L of a whole pass and a fifth, by the CPU time of interleaved passes."""
    module = build("t5-v1.0", d_model=256, d_ff=1024, d_kv=64, num_heads=4, num_decoder_layers=6, seed=1)
    large, small = build_exit_engines("fused", module, 3, dtype="fp32", eos=EOS, vocabulary=module.config.vocab_size)
    whole = engine("fused", module)
    source, text = [*ids(12), EOS], [START, *ids(8)]
    took: dict[str, list[float]] = {"whole": [], "resumed": []}
    for _ in range(60):
        for made in (large, small, whole):
            made.start(source)
        small.step(text)
        for name, made in (("whole", whole), ("resumed", large)):
            began = process_time()
            made.step(text, want=len(text))
            took[name].append(process_time() - began)
    assert min(took["resumed"]) / min(took["whole"]) < 0.5 + 0.2


def test_nothing_is_copied_to_cut_a_module_off() -> None:
    module = model("mt5")
    cut = truncated(module, 1)
    assert cut.config.num_decoder_layers == 1
    assert module.config.num_decoder_layers == 2
    theirs = {t.data_ptr() for t in module.state_dict().values()}
    assert all(t.data_ptr() in theirs for t in cut.state_dict().values())


def test_load_pair_with_an_exit() -> None:
    torch.set_num_threads(1)
    pair = load_pair(str(EMBEDDED / "large"), tokenizer=str(EMBEDDED), exit=2)
    assert pair.small.module is pair.large.module
    assert pair.small.fingerprint == f"{pair.large.fingerprint}-exit2"
    assert pair.small.parameters < pair.large.parameters
    assert pair.engine("small", "fused").name == "fused"


@pytest.mark.parametrize("layer", [0, 8, 9])
def test_an_exit_outside_the_decoder_is_refused(layer: int) -> None:
    with pytest.raises(BildError, match="8 decoder layers"):
        load_pair(str(EMBEDDED / "large"), tokenizer=str(EMBEDDED), exit=layer)


def test_an_exit_takes_the_place_of_the_small_checkpoint() -> None:
    model_config = ModelConfig(name="folders", large="a", fits=["any"], exit=3)
    found = model_config.fit(TaskConfig())
    assert found is not None
    assert (found.large, found.small) == ("a", None)
    assert model_config.pair_name == "folders-exit3"
    with pytest.raises(BildError, match=r"model\.exit=n"):
        ModelConfig(name="folders", large="a", fits=["any"]).fit(TaskConfig())
    with pytest.raises(BildError, match="out of range"):
        ModelConfig(exit=0)
