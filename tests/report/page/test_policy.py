"""The policy in the page against bild.decoding, on random trees: tokens, authors, rounds, passes and counts."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from py_mini_racer import MiniRacer

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import settings
from bild.decoding.rules import KEEPS, STOPS
from bild.measure.live import count_rounds
from bild.report.page import HERE
from bild.report.page.points import grids_of
from bild.report.page.sample import COLUMNS, column
from tests.decoding.tables import EOS, START
from tests.report.page.trees import FBS, LIMIT, RBS, Walker, usual_points, walkers

SHARE = """
const grids = [{name: "speculative, k 4", threshold: null, fbs: [null], values: [null]},
  {name: "BiLD fb/rb, 100 % & more", threshold: "rb", fbs: [0.3, 0.6], values: [2, "inf"]}];
const last = (values) => values.length - 1;
const read = (link) => bild.readLink(link) && bild.placeOf(grids, bild.readLink(link));
const places = grids.map(({ fbs, values }, grid) => ({ grid, fb: last(fbs), value: last(values) }));
const links = places.map((place) => bild.linkOf({ section: "a, b", ...bild.fieldsOf(grids, place) }));
const rows = [["a", "b,c", 'say "x"'], [1.5, null, "-0.3"], ["=1+1", "-x", true]];
const OUTPUT = JSON.stringify({
  links, csv: bild.csvOf(rows), back: links.map(read), none: ["#main", "", "#rules=%", "#rules=BiLD&fb=0.3"].map(read),
});
"""
METHODS = [
    MethodConfig("bild"),
    MethodConfig("bild", rules="authors", max_draft=3),
    MethodConfig("bild", first="small", unsure="verify", scan="first", after_rollback="large", verify_eos=False),
    MethodConfig("speculative", max_draft=4),
    MethodConfig("bild", keep="share"),
    MethodConfig("bild", keep="top", stop="likely", max_draft=4),
    MethodConfig("bild", keep="loss", stop="adaptive", max_draft=2),
    MethodConfig("bild", keep="doubt", stop="window", max_draft=4),
    MethodConfig("bild", keep="difference", unsure="verify"),
    MethodConfig("oracle", max_draft=6),
    MethodConfig("relaxed", max_draft=5),
    MethodConfig("bild", rules="authors", keep="exact"),
    MethodConfig("dynamic"),
    MethodConfig("cascade", rule="v2"),
]
SCRIPTS = "\n".join(
    (HERE / "js" / f"{name}.js").read_text(encoding="utf-8") for name in ("share", "tree", "policy", "score", "prices")
)
DRIVER = """
const job = JSON.parse(INPUT);
const nodes = bild.unpackNodes(job);
const answers = job.points.map(([method, fb, threshold]) => {
  const at = (value) => (value === "inf" ? Infinity : value);
  const runs = nodes.map((each) => bild.replay(method, at(fb), at(threshold), each, job.limits));
  return { runs, counts: bild.countsOf(runs) };
});
const OUTPUT = JSON.stringify(answers);
"""


ATOB = """
globalThis.atob ??= (text) => {  // V8 alone has none of what browsers add to the language
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const bits = Array.from(text.replace(/=+$/, ""), (l) => letters.indexOf(l).toString(2).padStart(6, "0")).join("");
  return (bits.match(/.{8}/g) ?? []).map((byte) => String.fromCharCode(parseInt(byte, 2))).join("");
};
"""


def run_js(script: str, given: Any) -> Any:
    """Run a script over the page's own ones, with JSON for its INPUT, and return what it leaves in OUTPUT."""
    engine = MiniRacer()
    try:
        engine.eval(ATOB + SCRIPTS)
        return json.loads(engine.eval(script.replace("INPUT", json.dumps(json.dumps(given))) + "\nOUTPUT"))
    finally:
        engine.close()


def packed(grown: Sequence[Walker]) -> dict[str, Any]:
    nodes = [walker.columns() for walker in grown]
    return {
        "examples": [{} for _ in nodes],
        "offsets": np.cumsum([0, *(len(each.parent) for each in nodes)]).tolist(),
        "columns": {own: column([getattr(each, theirs) for each in nodes]) for theirs, own in COLUMNS.items()},
        "limits": {"start": START, "eos": EOS, "maxLength": LIMIT},
    }


def test_links_hold_the_sliders_and_a_csv_holds_any_text() -> None:
    found = run_js(SHARE, None)
    assert found["links"][1] == "#section=a%2C+b&rules=BiLD+fb%2Frb%2C+100+%25+%26+more&fb=0.6&rb=inf"
    assert found["back"] == [{"grid": 0, "fb": 0, "value": 0}, {"grid": 1, "fb": 1, "value": 1}]
    assert found["none"] == [None] * 4
    assert found["csv"] == 'a,"b,c","say ""x"""\n1.5,,-0.3\n\'=1+1,\'-x,true\n'


def test_the_page_decodes_as_the_policy_does() -> None:
    bild = usual_points(*METHODS[:3])
    alone = [(MethodConfig(name), ThresholdConfig()) for name in ("vanilla", "small")]
    others = [
        (method, ThresholdConfig(fb, rb=rb, alpha=min(rb, 1.0), top=int(1 + rb)))
        for method in METHODS[4:]
        for fb, rb in ((0.3, 0.0), (0.6, 0.4), (0.5, 2.0))
    ]
    points = [*bild, (METHODS[3], ThresholdConfig()), *others, *alone]
    grown = walkers(12, points, seed=7)
    plain = [_plain(method, threshold) for method, threshold in points]
    answers = run_js(DRIVER, {**packed(grown), "points": plain})
    fates = set[str]()
    for (method, threshold), answer in zip(points, answers, strict=True):
        runs = [walker.decode(method, threshold) for walker in grown]
        for walked, run in zip(runs, answer["runs"], strict=True):
            decoded = walked.decoded
            fates |= set(decoded.origins)
            assert run["tokens"] == decoded.tokens
            assert run["origins"] == decoded.origins
            assert run["smallPasses"] == walked.small
            assert run["largePasses"] == walked.large
            assert len(run["rounds"]) == len(decoded.rounds)
            for own, theirs in zip(run["rounds"], decoded.rounds, strict=True):
                assert [own[name] for name in ("start", "drafted", "stop", "kept", "wrote", "rollback")] == [
                    theirs.start, theirs.drafted, theirs.stop, theirs.kept, theirs.wrote, theirs.rollback,
                ]  # fmt: skip
                assert own["probs"] == pytest.approx(theirs.probs, rel=1e-12)
                assert own["tokenNll"] == pytest.approx(theirs.token_nll, rel=1e-12)
        _check_counts(answer["counts"], runs)
    assert fates == {"start", "small", "large", "rollback"}


def _plain(method: MethodConfig, threshold: ThresholdConfig) -> list[Any]:
    """A point as the page has it: its switches, and the values of both sliders."""
    if method.spec.stop is None:
        return [{"name": method.name}, None, None]
    told = grids_of([(method, threshold)])[0].told()
    return [told["method"], told["fbs"][0], told["values"][0]]


def test_the_page_knows_every_rule() -> None:
    assert run_js("const OUTPUT = JSON.stringify([bild.KEEPS, bild.STOPS]);", None) == [
        list(KEEPS),
        [name for name in STOPS if name != "auto"],
    ]


def _check_counts(counts: dict[str, float], runs: Sequence[Any]) -> None:
    sums = [count_rounds(run.decoded.rounds) for run in runs]
    for name in sums[0]:
        assert counts[name] == sum(each[name] for each in sums), name
    tokens = sum(len(run.decoded.tokens) - 1 for run in runs)
    large = sum(len(run.large) for run in runs)
    assert counts["tokens"] == tokens
    assert counts["small_passes"] == sum(len(run.small) for run in runs)
    assert counts["large_passes"] == large
    assert counts["tokens_per_large_pass"] == (tokens / large if large else 0)
    assert counts["fallback_rate"] == sum(each["fallbacks"] for each in sums) / tokens


def test_what_the_tree_was_not_grown_for_is_unknown_and_never_guessed() -> None:
    grown = walkers(8, usual_points(METHODS[0], fbs=[0.0], rbs=[math.inf]), seed=3)
    script = """
    const job = JSON.parse(INPUT);
    const OUTPUT = JSON.stringify(bild.unpackNodes(job).map((nodes) => {
      try { return bild.replay(job.method, 0.9, 0.1, nodes, job.limits).tokens; }
      catch (error) { return error instanceof bild.Unknown ? "unknown" : String(error); }
    }));
    """
    method = settings(METHODS[0], ThresholdConfig())
    answers = run_js(script, {**packed(grown), "method": method})
    assert "unknown" in answers
    assert all(answer == "unknown" or isinstance(answer, list) for answer in answers)


def test_bleu_in_the_page_is_sacrebleus() -> None:
    from bild.metrics import statistics

    words = ["der", "hund", "läuft", "schnell", "über", "die", "grüne", "wiese", "am", "see"]
    generator = np.random.default_rng(0)
    sets = []
    for size in (1, 2, 5, 20):
        for length in (1, 3, 9):
            texts = [" ".join(generator.choice(words, max(1, length + i % 3))) for i in range(size)]
            sets.append((texts, [" ".join(generator.choice(words, 9)) for _ in range(size)]))
    sets.append((["", "der hund"], ["der hund", "der hund"]))
    found = [statistics.bleu(*each) for each in sets]
    script = """
    const OUTPUT = JSON.stringify(JSON.parse(INPUT).map((rows) => bild.corpusScore("bleu", rows)));
    """
    answers = run_js(script, [each.table.tolist() for each in found])
    for answer, each in itertools.zip_longest(answers, found):
        assert answer == pytest.approx(each.value, rel=1e-12, abs=1e-12)


def test_the_grid_of_the_tests_reaches_every_kind_of_round() -> None:
    assert 0.0 in FBS
    assert 1.0 in FBS
    assert math.inf in RBS
