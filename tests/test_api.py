"""The door for notebooks: `bild.load_pair` and `bild.generate`."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import bild
from bild.config import ENGINES
from bild.metrics import Scorer, mean_time, quality, speedup
from bild.metrics.claims import verdict
from bild.models import Pair
from bild.report import contents
from bild.report.predictions import halves
from bild.results import find_records, frame, read_record, read_samples, read_traces
from bild.results.interval import Difference
from bild.results.reading import find_results

SENTENCE = "Ein Junge in einem blauen T-Shirt springt von einem Steg in einen See."
METHODS = ("vanilla", "small", "bild", "speculative")


def replayed(output: bild.Output) -> list[int]:
    """The text that the rounds tell of."""
    tokens = [output.tokens[0]]
    for each in output.rounds:
        assert each.start == len(tokens)
        tokens += each.drafted[: each.kept]
        if each.wrote is not None:
            tokens.append(each.wrote)
    return tokens


def refusal(pair: Pair, source: str | list[int] = SENTENCE, **options) -> str:
    with pytest.raises(bild.BildError) as caught:
        bild.generate(pair, source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("engine", ENGINES[:3])
@pytest.mark.parametrize("method", METHODS)
def test_an_output_has_tokens_text_authors_and_times(embedded_pair: Pair, method: str, engine: str) -> None:
    output = bild.generate(embedded_pair, SENTENCE, method=method, engine=engine)
    assert (output.tokens[0], output.tokens[-1]) == (embedded_pair.start, embedded_pair.eos)
    assert output.text == embedded_pair.decode(output.tokens)
    assert "boy" in output.text.lower()
    assert len(output.origins) == len(output.tokens)
    assert output.origins[0] == "start"
    written = set(output.origins[1:])
    assert written <= {"small", "large", "rollback"}
    if method in ("vanilla", "small"):
        assert written == {"large" if method == "vanilla" else "small"}
    assert output.run.total_ns == sum(output.run.phases_ns.values()) > 0
    assert bool(output.run.small_passes) == (method != "vanilla")
    assert bool(output.run.large_passes) == (method != "small")


@pytest.mark.parametrize("method", ["small", "bild", "speculative"])
def test_the_rounds_tell_the_whole_text(embedded_pair: Pair, method: str) -> None:
    options = {"fb": 0.5, "rb": 1.0} if method == "bild" else {}
    output = bild.generate(embedded_pair, SENTENCE, method=method, **options)
    assert replayed(output) == output.tokens
    assert output.origins.count("small") == sum(each.kept for each in output.rounds)
    assert output.origins.count("rollback") == sum(each.rollback for each in output.rounds)


def test_strict_thresholds_and_speculation_write_what_the_large_model_writes(embedded_pair: Pair) -> None:
    vanilla = bild.generate(embedded_pair, SENTENCE, method="vanilla").tokens
    assert bild.generate(embedded_pair, SENTENCE, method="speculative").tokens == vanilla
    assert bild.generate(embedded_pair, SENTENCE, fb=0.0, rb=0.0).tokens == vanilla
    assert bild.generate(embedded_pair, SENTENCE, fb=1.0, rb=0.0).tokens == vanilla
    assert bild.generate(embedded_pair, SENTENCE, method="small").tokens != vanilla


def test_loose_thresholds_write_what_the_small_model_writes(embedded_pair: Pair) -> None:
    small = bild.generate(embedded_pair, SENTENCE, method="small").tokens
    output = bild.generate(embedded_pair, SENTENCE, fb=0.0, rb=math.inf, max_draft=200, first="small")
    assert output.tokens == small
    assert output.run.large_passes == []


def test_options_reach_the_policy(embedded_pair: Pair) -> None:
    def rounds(**options) -> list:
        return bild.generate(embedded_pair, SENTENCE, **options).rounds

    assert max(len(each.drafted) for each in rounds(fb=0.0, rb=9.0)) > 3
    assert max(len(each.drafted) for each in rounds(fb=0.0, rb=9.0, max_draft=3)) == 3
    assert (rounds()[0].stop, rounds(first="small", fb=0.0)[0].stop) == ("none", "limit")
    strict = {"fb": 0.0, "rb": 0.5}
    after = [rounds(**strict, after_rollback=who) for who in ("small", "large")]
    for made, who in zip(after, ("small", "large"), strict=True):
        back = [i for i, each in enumerate(made[:-1]) if each.rollback]
        assert back, "no rollback to look at"
        assert {made[i + 1].stop == "none" for i in back} == {who == "large"}
    unverified = rounds(fb=0.0, rb=50.0, max_draft=24, verify_eos=False)[-1]
    assert (unverified.stop, unverified.token_nll, unverified.wrote) == ("eos", [], None)
    assert len(rounds(fb=0.0, rb=50.0)[-1].token_nll) == len(rounds(fb=0.0, rb=50.0)[-1].drafted)
    kept_unsure = [each for each in rounds(fb=0.9, unsure="verify") if each.stop == "unsure"]
    assert all(len(each.drafted) == len(each.probs) for each in kept_unsure)
    assert kept_unsure


def test_the_length_counts_the_start_token(embedded_pair: Pair) -> None:
    for method in METHODS:
        assert len(bild.generate(embedded_pair, SENTENCE, method=method, max_length=6).tokens) == 6
        assert len(bild.generate(embedded_pair, SENTENCE, method=method, max_length=2).tokens) == 2


def test_a_source_of_ids_is_taken_as_it_is(embedded_pair: Pair) -> None:
    ids, _ = embedded_pair.encode(SENTENCE)
    by_text = bild.generate(embedded_pair, SENTENCE)
    assert bild.generate(embedded_pair, ids).tokens == by_text.tokens
    assert bild.generate(embedded_pair, tuple(ids)).text == by_text.text


def test_a_long_text_is_cut_to_the_source_limit(embedded_pair: Pair) -> None:
    ids, _ = embedded_pair.encode(SENTENCE)
    cut = bild.generate(embedded_pair, SENTENCE, source_limit=5)
    assert cut.tokens == bild.generate(embedded_pair, [*ids[:4], embedded_pair.eos]).tokens
    assert cut.tokens != bild.generate(embedded_pair, SENTENCE).tokens


@pytest.mark.parametrize(
    ("options", "beginning"),
    [
        ({"fb": 1.5}, "threshold.fb=1.5 is out of range: the fallback threshold is a probability, from 0 to 1."),
        ({"fb": math.nan}, "threshold.fb=nan is out of range"),
        ({"rb": -0.1}, "threshold.rb=-0.1 is out of range"),
        ({"method": "nope"}, "method.name=nope is not known: choose one of vanilla, small, bild, speculative"),
        ({"rules": "mine"}, "method.rules=mine is not known: choose one of paper, authors."),
        ({"engine": "nope"}, "engine=nope is not known: choose one of hf, fused"),
        ({"max_draft": 0}, "method.max_draft=0 is out of range: it must be from 1 to 1,024."),
        ({"max_length": 1}, "max_length=1 is out of range: it counts the start token, so it is from 2 to 65,536."),
        ({"first": "nobody"}, "method.first=nobody is not known"),
        ({"after_rollback": "nobody"}, "method.after_rollback=nobody is not known"),
        ({"scan": "last"}, "method.scan=last is not known"),
        ({"unsure": "keep"}, "method.unsure=keep is not known"),
    ],
)
def test_a_wrong_option(embedded_pair: Pair, options: dict, beginning: str) -> None:
    assert refusal(embedded_pair, **options).startswith(beginning)


def test_wrong_ids(embedded_pair: Pair) -> None:
    last = embedded_pair.vocabulary - 1
    for ids, what in (([], "no token ids"), ([5, last + 1, 1], f"the token id {last + 1}"), ([-1], "the token id -1")):
        assert refusal(embedded_pair, ids) == f"The source has {what}: it needs at least one id from 0 to {last}."
    assert bild.generate(embedded_pair, [last, 1]).tokens[0] == embedded_pair.start


def test_a_list_of_sources_gives_a_list_of_outputs(embedded_pair: Pair) -> None:
    ids, _ = embedded_pair.encode(SENTENCE)
    texts = [SENTENCE, "Zwei Hunde spielen im Schnee."]
    outputs = bild.generate(embedded_pair, texts, fb=0.5)
    assert [each.tokens for each in outputs] == [bild.generate(embedded_pair, one, fb=0.5).tokens for one in texts]
    (alone,) = bild.generate(embedded_pair, [ids], fb=0.5)
    assert alone.tokens == outputs[0].tokens
    assert bild.generate(embedded_pair, tuple(texts), max_length=2)[1].tokens == outputs[1].tokens[:2]
    assert bild.generate.__doc__.startswith("Decode a text")


def test_everything_is_shown_on_one_line(embedded_pair: Pair) -> None:
    assert repr(embedded_pair) == "Pair(embedded: 12.6M + 0.8M parameters, fp32, cpu)"
    output = bild.generate(embedded_pair, SENTENCE, max_length=4)
    assert re.fullmatch(r"Output\('.*': 4 tokens, \d by the small model, \d+\.\d ms\)", repr(output))
    tree = bild.open_tree("results/example/embedded/embedded-bridge/tree")
    assert repr(tree) == f"Tree({tree.path}: 240 examples)"
    assert re.fullmatch(r"Replay\(.*0\.2.*4.* on 240 examples\)", repr(tree.replay(fb=0.2, rb=4, max_draft=24)))


# --- pairs by name


def test_every_pair_that_ships_is_loaded_by_its_name() -> None:
    aligned, with_exit = bild.load_pair("embedded-aligned", device="cpu"), bild.load_pair("embedded-exit", device="cpu")
    assert repr(aligned) == "Pair(embedded-aligned: 12.6M + 0.8M parameters, fp32, cpu)"
    assert "small-aligned" in str(aligned.small.source.folder)
    assert (with_exit.name, with_exit.exit) == ("embedded-exit1", 1)
    assert repr(with_exit).startswith("Pair(embedded-exit1: ")


@pytest.mark.usefixtures("hub")
def test_a_pair_of_checkpoints_by_task_is_loaded_for_one_of_them() -> None:
    pair = bild.load_pair("t5-large", task="cnndm", device="cpu")
    assert (pair.name, pair.large.source.name) == ("t5-large", "kssteven/T5-large-cnndm")
    early = bild.load_pair("t5-small", task="xsum", exit=1, device="cpu", name="mine")
    assert (early.name, early.exit, early.large.source.name) == ("mine", 1, "kssteven/T5-small-xsum")
    assert bild.load_pair("kssteven/T5-large-xsum", "kssteven/T5-small-xsum", device="cpu").name == "T5-large-xsum"


@pytest.mark.parametrize(
    ("arguments", "options", "beginning"),
    [
        (("t5-large",), {}, "The pair t5-large has checkpoints for each task: name one with task=xsum or cnndm or"),
        (("t5-large",), {"task": "wmt14"}, "model=t5-large does not fit task=wmt14 (translation-de-en): this pair"),
        (("t5-large",), {"task": "nope"}, "task=nope is not known: choose one of cnndm, "),
        (("embedded",), {"tokenzier": "x"}, "tokenzier is not an option (did you mean tokenizer?): there are large, "),
        (("embedded",), {"exit": "a"}, "model.exit=a is not a whole number: give a whole number."),
        (("embedded",), {"revision_large": "v1"}, "model.revision_large=v1 has no effect on a folder, which model.lar"),
        (("embedded", "embedded/small"), {"exit": 1}, "exit=1 makes the small model of the large one's first layers, "),
        (("embedded", ""), {}, "The name of a checkpoint is empty: give a pair, two folders or two hub ids."),
        (("a\nb",), {}, "large=a b has a line break, or a sign that cannot be shown: leave that out."),
        (("embedded-alined",), {}, "There is no pair embedded-alined (did you mean embedded-aligned?): name one of "),
        (("folders",), {}, "model=folders needs two checkpoints"),
        (("./nowhere",), {}, "A pair needs two checkpoints: ./nowhere was given as the large one"),
        (("a/b", "c/d"), {"task": "xsum"}, "task=xsum has no effect beside two checkpoints"),
    ],
)
def test_a_pair_that_there_is_not(arguments: tuple[str, ...], options: dict[str, str], beginning: str) -> None:
    with pytest.raises(bild.BildError) as caught:
        bild.load_pair(*arguments, **options)
    assert str(caught.value).startswith(beginning)
    assert "\n" not in str(caught.value)


def test_the_door_has_what_it_says() -> None:
    assert set(bild.__all__) == {"BildError", "Output", "Pair", "Tree", "generate", "load_pair", "open_tree"}
    assert all(hasattr(bild, name) for name in bild.__all__)
    assert bild.Pair is Pair
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = bild.nope


WRONG_SOURCES = [
    None,
    5,
    1.5,
    b"abc",
    "",
    "  ",
    "\ud800",
    [1.5],
    [True],
    [None],
    ["a", None],
    {"a": 1},
    object(),
    {1, 2},
    [5, "a"],
    [5, [1]],
]
WRONG_OPTIONS = [
    *({"max_length": value} for value in (1, 0, -1, 3.5, "a", None, True, [4], float("nan"), float("inf"), 10**9)),
    *({"source_limit": value} for value in (0, -5, 1.5, "a", None, float("inf"), 10**9)),
    *({"engine": value} for value in (None, 5, "nope", b"hf", ["hf"])),
    *({"method": value} for value in (None, 5, "nope", "oracle", ["bild"], b"bild")),
    *({"fb": value} for value in ("a", [1], {}, object(), -1, 2, float("nan"), float("inf"), True, 1j, b"1")),
    *({"rb": value} for value in ("a", [1], -1, float("nan"), False, 1j)),
    *({"max_draft": value} for value in (0, -1, 2.5, "many", True, [3], 10**9)),
    *({"alpha": value, "keep": "share"} for value in ("a", 2, -0.1, float("nan"))),
    *({"top": value, "method": "relaxed"} for value in (0, 1.5, "a", 10**9)),
    *({"keep": value} for value in ("always", 5, ["nll"])),
    *({"stop": value} for value in ("never", 5)),
    *({"first": value} for value in ("both", 5)),
    *({"scan": "x"}, {"unsure": 1}, {"verify_eos": "maybe"}, {"verify_eos": 2}, {"rules": "mine"}, {"rules": None}),
    *({"exit": "a", "method": "calm"}, {"decay": -1, "method": "calm"}, {"min_layers": 0, "method": "calm"}),
    *({"nothing": 1}, {"alpha": 0.1}, {"fb": 0.3, "method": "vanilla"}, {"method": "calm", "engine": "hf"}),
]


def test_every_wrong_argument_of_generate_is_told_in_one_sentence(embedded_pair: Pair) -> None:
    for source in WRONG_SOURCES:
        assert refusal(embedded_pair, source).endswith(".")
    for options in WRONG_OPTIONS:
        assert refusal(embedded_pair, **options).endswith("."), options
    for pair in (None, "embedded", 5):
        assert "is not a pair: load one with bild.load_pair()" in refusal(pair)


@pytest.mark.parametrize(
    "wrong", [{"large": None}, {"large": 5}, {"large": b"x"}, {"small": 5}, {"dtype": "fp8"}, {"device": "gpu"}]
)
def test_a_wrong_argument_of_load_pair(wrong: dict) -> None:
    with pytest.raises(bild.BildError, match=next(iter(wrong))):
        bild.load_pair(**({"large": "embedded", "small": "embedded/small"} | wrong))


def test_what_is_right_in_another_type_is_taken(embedded_pair: Pair) -> None:
    import numpy as np
    import torch

    ids = embedded_pair.encode(SENTENCE)[0]
    usual = bild.generate(embedded_pair, ids, fb=0.5, rb=2, max_draft=4).tokens
    others = (torch.tensor(ids), np.array(ids), tuple(ids))
    for source in others:
        found = bild.generate(embedded_pair, source, fb=np.float32(0.5), rb=np.int64(2), max_draft=np.int64(4))
        assert found.tokens == usual
    folder = Path(bild.__file__).parent / "models" / "embedded"
    assert bild.load_pair(folder / "large", folder / "small").name != ""


TREE = "results/example/embedded/embedded-bridge/tree"
TEXTS = ["a b c d"] * 2
NONE = Difference(0.0, -1.0, 1.0, -1.0, 1.0, 1.0)
WRONG_CALLS = {
    "a tree": [lambda name=name: bild.open_tree(name) for name in (None, 5, b"x", "", "nope")],
    "settings": [lambda points=points: bild.open_tree(TREE).missing(points) for points in (None, 5, [5], [(0.3, 4)])],
    "replays": [
        lambda other=other: bild.open_tree(TREE).replay(method="small").difference(other) for other in (5, None)
    ],
    "ids": [lambda ids=ids: bild.open_tree(TREE).take(ids) for ids in ([[1]], [5], "a", None)],
    "halves": [lambda: halves(bild.open_tree(TREE).take(["captions-000"]))],
    "results": [
        lambda read=read, name=name: read(name)
        for read in (frame, find_records, read_samples, read_traces, read_record, find_results, contents)
        for name in (5, b"x", ["a"], *([] if read is find_results else [""]))
    ],
    "a margin": [lambda margin=margin: contents("results/example", margin=margin) for margin in (-1, "a", math.nan)],
    "a verdict": [lambda margin=margin: verdict(NONE, margin, 9) for margin in (-1, "a", None, math.inf)],
    "a difference": [lambda: verdict(None, 0.5, 9)],
    "examples": [lambda count=count: verdict(NONE, 0.5, count) for count in (-1, 0, 1.5, "x", None)],
    "a metric": [lambda name=name: quality(name, TEXTS, TEXTS) for name in (None, 5, "blue", "evaluate:", "bleu:nope")],
    "texts": [lambda texts=texts: quality("bleu", texts, TEXTS) for texts in ("ab", None, [5, 5], ["a", None], ["a"])],
    "a baseline": [lambda: quality("bleu", TEXTS, TEXTS, baseline="ab")],
    "a confidence": [
        lambda level=level: quality("bleu", TEXTS, TEXTS, confidence=level) for level in (95, "x", 0, None)
    ],
    "references": [
        lambda: Scorer("bleu", ["a"]).table(["a", "b"]),
        lambda: Scorer("bleu", ["a"]).rows([(5, "a")]),
        *(lambda wrong=wrong: Scorer("bleu", wrong) for wrong in (None, "ab", 5, [5], ["a", None])),
    ],
    "times": [
        lambda: speedup("ab", "cd"),
        lambda: speedup([1.0, 2.0], [1.0, 2.0], confidence=2),
        lambda: speedup([1.0, 2.0], [1.0, 2.0], [0]),
        lambda: mean_time([1.0, math.inf]),
        lambda: mean_time([1.0, 2.0], [0]),
        *(lambda wrong=wrong: mean_time(wrong) for wrong in (None, 5, [], "ab", [10**400, 1.0], [[1.0, 2.0]])),
        *(lambda wrong=wrong: speedup(wrong, wrong) for wrong in (None, 5, [], [None], [[1.0, 2.0]])),
        lambda: speedup([1.0, 2.0], [1.0]),
        *(lambda wrong=wrong: speedup([1.0, 2.0], [1.0, 2.0], wrong) for wrong in (5, ["a", "a"], [[0, 0]])),
    ],
}


@pytest.mark.parametrize("what", WRONG_CALLS)
def test_every_wrong_argument_of_what_reads_and_judges_is_told_in_one_sentence(what: str) -> None:
    for number, call in enumerate(WRONG_CALLS[what]):
        with pytest.raises(bild.BildError) as caught:
            call()
        assert str(caught.value).endswith("."), number
        assert "\n" not in str(caught.value)


def test_a_pair_refuses_what_it_cannot_encode_or_decode(embedded_pair: Pair) -> None:
    for call in (
        lambda: embedded_pair.encode(5),
        *(lambda limit=limit: embedded_pair.encode("a", limit) for limit in (0, -1, 1.5, "a")),
        *(lambda ids=ids: embedded_pair.decode(ids) for ids in (None, "abc", [-1], [1.5], [10**99], [[1]])),
    ):
        with pytest.raises(bild.BildError):
            call()
    assert embedded_pair.decode([]) == ""


def test_a_path_is_taken_as_a_text() -> None:
    point = min(Path("results/example").rglob("record.json")).parent
    assert read_record(str(point)) == read_record(point / "record.json")
    assert read_samples(str(point)) == read_samples(point)
    assert bild.open_tree(TREE).take(["captions-000"]).examples[0].id == "captions-000"
    assert contents("results/example", margin="0.5").sections[0].margin == 0.5
    assert [*read_traces(str(point))] == [sample.id for sample in read_samples(point)]


def test_a_tree_refuses_what_is_none(tmp_path: Path) -> None:
    tree = bild.open_tree("results/example/embedded/embedded-bridge/tree")
    for wrong in (
        lambda: bild.open_tree(None),
        lambda: tree.take(5),
        lambda: tree.take([]),
        lambda: tree.replay(fb="a"),
    ):
        with pytest.raises(bild.BildError):
            wrong()
    with pytest.raises(
        bild.BildError, match=r"sweep\.fb=\[0\.47\].*grown it for sweep\.fb=\[0\.1,0\.2,.*sweep\.rb=\[1,"
    ):
        tree.replay(fb=0.47, rb=2.6)
