"""Every row of the paper's Table 1 is an experiment by name, and `bild paper` runs all that the paper shows."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest

from bild.cli import compose, options
from bild.paper import Paper, cost_of
from bild.report.atlas import atlas_table
from bild.report.figure import Sheet
from bild.report.table import write_text
from bild.results import find_records
from bild.sweep.estimates import Span
from bild.sweep.show_plan import Cost, TreeCost, cost_table, shared_trees
from tests import hubcache
from tests.cli.commands import QUICK, call

LARGE = {
    "iwslt2017": "kssteven/mT5-large-iwslt2017-de-en",
    "wmt14": "kssteven/mT5-large-wmt2014-de-en",
    "xsum": "kssteven/T5-large-xsum",
    "cnndm": "kssteven/T5-large-cnndm",
}
SMALL = {
    "iwslt2017": "kssteven/mT5-small-iwslt2017-de-en",
    "wmt14": "kssteven/mT5-small-wmt2014-de-en",
    "xsum": "kssteven/T5-small-xsum",
    "cnndm": "kssteven/T5-small-cnndm",
}
EXAMPLES = {"iwslt2017": 888, "wmt14": 3000, "xsum": 11332, "cnndm": 13368}

# task, aligned, rollback threshold, fallback threshold
TABLE_1 = [
    ("iwslt2017", False, 2.0, 0.6),
    ("iwslt2017", False, 3.0, 0.5),
    ("iwslt2017", True, 3.0, 0.9),
    ("iwslt2017", True, 4.0, 0.6),
    ("wmt14", False, 2.0, 0.6),
    ("wmt14", False, 3.0, 0.5),
    ("wmt14", True, 2.0, 0.8),
    ("wmt14", True, 5.0, 0.6),
    ("xsum", False, 3.0, 0.5),
    ("xsum", False, 5.0, 0.3),
    ("xsum", True, 2.0, 0.6),
    ("xsum", True, 5.0, 0.4),
    ("cnndm", False, 3.0, 0.4),
    ("cnndm", False, 6.0, 0.2),
    ("cnndm", True, 3.0, 0.3),
    ("cnndm", True, 6.0, 0.2),
]


def name_of(task: str, aligned: bool, rb: float, fb: float) -> str:
    return f"paper/{task}-{'aligned' if aligned else 'unaligned'}-rb{rb:g}-fb{fb:g}"


def test_there_is_an_experiment_for_every_row_and_no_other() -> None:
    published = {option for option in options("experiment") if option.startswith("paper/")}
    assert published == {name_of(*row) for row in TABLE_1} | {f"paper/{task}-vanilla" for task in LARGE}
    assert len(published) == 20


@pytest.mark.spread(4)
@pytest.mark.parametrize(("task", "aligned", "rb", "fb"), TABLE_1)
def test_a_row_of_bild(task: str, aligned: bool, rb: float, fb: float) -> None:
    config = compose([f"experiment={name_of(task, aligned, rb, fb)}"])
    pair = config.model.fit(config.task)
    assert pair.large == LARGE[task]
    assert pair.small == SMALL[task] + ("-bild-aligned" if aligned else "")
    assert (config.method.name, config.method.rules, config.method.max_draft) == ("bild", "authors", 10)
    assert (config.threshold.rb, config.threshold.fb) == (rb, fb)
    check_setting(config, task)


@pytest.mark.spread(1)
@pytest.mark.parametrize("task", LARGE)
def test_the_row_of_vanilla(task: str) -> None:
    config = compose([f"experiment=paper/{task}-vanilla"])
    assert config.model.fit(config.task).large == LARGE[task]
    assert config.method.name == "vanilla"
    check_setting(config, task)


def check_setting(config, task: str) -> None:
    """The paper's: the whole validation split, 1024 and 128 tokens, fp32; and the tokenizer that the pair needs."""
    translation = task in ("iwslt2017", "wmt14")
    assert (config.task.name, config.task.split, config.task.samples) == (task, "validation", None)
    assert config.task.sizes["validation"] == EXAMPLES[task]
    assert (config.task.source_limit, config.task.target_limit) == (1024, 128)
    assert (config.task.metric, config.task.prompt) == (("bleu", "") if translation else ("rouge", "summarize: "))
    assert config.model.tokenizer == ("google/mt5-small" if translation else None)
    assert config.engine.dtype == "fp32"


def test_an_experiment_can_be_changed_on_the_command_line() -> None:
    config = compose(["experiment=paper/xsum-aligned-rb2-fb0.6", "threshold.fb=0.4", "task.samples=7", "task=cnndm"])
    assert (config.task.name, config.task.samples, config.threshold.fb, config.threshold.rb) == ("cnndm", 7, 0.4, 2.0)
    assert config.method.rules == "authors"


SHORT = (
    *(*QUICK, "measure.sessions=1", "task.samples=3", "engine.device=cpu", "device=cpu"),
    *("sweep.calibration=0.1", "sweep.least=2", "sweep.minutes=0", "sweep.settle=0", "sweep.front=0"),
    *("train.steps=1", "train.epochs=1", "train.validate_samples=2"),
)
ONLY = "only=wmt14-unaligned,fig2-iwslt2017,fig6-iwslt2017-calm"


@pytest.fixture
def own_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with what these exhibits need, but for the small model of one: mT5-small has its eight layers."""
    root = tmp_path / "hub"
    for name in ("mT5-large-iwslt2017-de-en", "mT5-small-iwslt2017-de-en", "mT5-large-wmt2014-de-en"):
        hubcache.add_model(root, f"kssteven/{name}")
    hubcache.add_model(root, "google/mt5-small", layers=8)
    for name in ("IWSLT/iwslt2017", "wmt/wmt14"):
        hubcache.add_data_set(root, name)
    hubcache.use_hub(monkeypatch, root)
    return root


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures and page, and plans that probe for no longer than they must: most of the time."""
    monkeypatch.setattr("bild.sweep.estimates._PROBE_SECONDS", 0.0)
    monkeypatch.setattr(Sheet, "save", lambda *_: [])
    monkeypatch.setattr("bild.report.page.write_page", lambda _, out: write_text(out / "index.html", ""))


@pytest.mark.slow
@pytest.mark.usefixtures("no_drawing")
def test_the_paper_runs_offline_from_an_empty_results_folder_to_its_atlas(own_hub: Path, tmp_path: Path) -> None:
    planned = call("bild.paper", "plan=only", ONLY, *SHORT, cwd=tmp_path)
    assert planned.code == 0, planned.err
    assert [line.partition(":")[0] for line in planned.out.splitlines()][-1] == "In all"
    rows = [line.split() for line in planned.out.splitlines() if "Fig." in line]
    assert (rows[-1][0], rows[-1][-1]) == ("fig6-iwslt2017-calm", "fig6-iwslt2017-train-calm")  # after its training
    assert not (tmp_path / "results").exists()

    done = call("bild.paper", ONLY, *SHORT, cwd=tmp_path)
    assert done.code == 2  # one of them lacks its small model, which stopped none of the others
    assert "wmt14-unaligned failed: " in done.err
    assert "mT5-small-wmt2014-de-en" in done.err
    assert "Traceback" not in done.err
    assert done.err.rstrip().endswith("(see above); the same command tries again.")
    report = tmp_path / "report" / "paper"
    lines = (report / "tables" / "atlas.md").read_text().splitlines()
    atlas = {line.split(" | ")[0].strip("| "): line.replace("\\", "") for line in lines}
    assert "run: exact, by replay" in atlas["Fig. 2, iwslt2017: quality by share of the large model's tokens"]
    assert "partly run (3 of 888 examples)" in atlas["Fig. 7, iwslt2017: CALM"]
    assert "not run: bild paper only=fig10-xsum" in atlas["Fig. 10, xsum aligned: score"]
    assert (report / "report.md").read_text().index("Atlas") < 200

    hubcache.add_model(own_hub, "kssteven/mT5-small-wmt2014-de-en")
    before = {point.path: point.record.created for point in find_records(tmp_path / "results")[0]}
    again = call("bild.paper", ONLY, *SHORT, cwd=tmp_path)
    assert again.code == 0, again.err
    after = {point.path: point.record.created for point in find_records(tmp_path / "results")[0]}
    assert before.items() < after.items()  # what was measured is not measured again
    planned = call("bild.paper", "plan=only", ONLY, *SHORT, cwd=tmp_path).out
    rows = {line.split()[0]: line for line in planned.splitlines() if "Fig." in line}
    assert " 0 ms " in rows["fig6-iwslt2017-train-calm"]
    assert " done " in rows["fig6-iwslt2017-train-calm"]
    assert all(" 0 ms " in line and " done " in line for line in rows.values())
    lines = [line for line in planned.splitlines() if line.startswith("In all: ")]
    assert lines == ["In all: 0 ms, disk 0 B beside checkpoints and data"]


@pytest.mark.spread(2)
@pytest.mark.parametrize("name", list(Paper.read([]).exhibits))
def test_an_exhibit_is_a_command_and_has_its_line_in_the_atlas(name: str) -> None:
    paper = Paper.read([f"only={name}", "task.samples=5"])
    exhibit = paper.exhibits[name]
    if exhibit.verb == "run":
        config, points = paper.points(exhibit)
        assert len(points) == 6
    else:
        config = paper.config(exhibit)
    assert config.task.samples == 5
    assert not any(task in exhibit.about for task in LARGE)  # its words are of one task alone
    named = {row["exhibit"] for row in atlas_table([]).data}
    assert name in named or exhibit.verb == "train"
    assert named <= set(Paper.read([]).exhibits)
    assert all(before in paper.exhibits for before in exhibit.after)


def test_a_tree_that_exhibits_share_is_planned_once() -> None:
    own = TreeCost("a", Span(10.0, 40.0), 6e9)
    costs = {
        "grid": Cost(Span(100.0, 200.0), 8e9, None, tree=own),
        "curve": Cost(Span(30.0, 60.0), 7e9, None, tree=own),
        "other": Cost(Span(30.0, 70.0), 7e9, None, tree=TreeCost("b", Span(10.0, 40.0), 6e9)),
        "run": Cost(Span(1.0, 1.0), 1e9, None),
    }
    found = shared_trees(costs)
    assert (found["grid"].seconds, found["grid"].disk, found["grid"].shares) == (Span(90.0, 160.0), 2e9, "curve")
    assert {name: found[name] for name in ("curve", "other", "run")} == {n: costs[n] for n in ("curve", "other", "run")}
    table, notes = cost_table(costs, dict.fromkeys(costs, "it"), dict.fromkeys(costs, ()) | {"run": ("training",)})
    assert notes[-1].startswith("In all: 2.5 min to 4.8 min, disk 17.0 GB")
    assert table.rows[0] == ("grid", "it", "1.5 min to 2.7 min", "2.0 GB", "–", "to do", "curve")
    assert table.rows[-1] == ("run", "it", "1.0 s", "1.0 GB", "–", "to do", "training")
    paper = Paper.read(["only=xsum-aligned,fig10-xsum,fig5-xsum-no-rollback,xsum-unaligned", "task.samples=5"])
    with mock.patch("bild.sweep.estimates._PROBE_SECONDS", 0.0):
        planned = {name: cost_of(paper, exhibit) for name, exhibit in paper.exhibits.items()}
    assert len({cost.tree.key for cost in planned.values() if cost.tree}) == 2  # one for each pair


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("only=fig2-xsun", "did you mean fig2-xsum?"),
        ("method=vanilla", "method=vanilla is each exhibit's own"),
        ("task=xsum", "task=xsum is each exhibit's own"),
        ("engine.dtyp=fp16", "engine.dtype"),
        ("plan=onyl", "plan=onyl is not known"),
    ],
)
def test_what_the_paper_refuses(option: str, words: str, tmp_path: Path) -> None:
    assert words in call("bild.paper", option, cwd=tmp_path).refusal()


def test_an_option_that_does_not_suit_one_exhibit_leaves_that_one_out(tmp_path: Path) -> None:
    with mock.patch("bild.sweep.estimates._PROBE_SECONDS", 0.0):
        options = ("plan=only", "engine=graph", "task.samples=2")
        done = call("bild.paper", "only=fig6-iwslt2017-calm,fig10-xsum", *options, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "fig10-xsum" in done.out
    assert "fig6-iwslt2017-calm is left out: method=calm does not run on engine=graph" in done.err
    # The training that is for it alone goes with it, unless it was named.
    assert "fig6-iwslt2017-train-calm is left out: nothing that builds on it is made" in done.err
    assert "fig6-iwslt2017-train-calm" not in done.out
    with mock.patch("bild.sweep.estimates._PROBE_SECONDS", 0.0):
        named = call("bild.paper", "only=fig6-iwslt2017-calm,fig6-iwslt2017-train-calm", *options, cwd=tmp_path)
    assert "fig6-iwslt2017-train-calm" in named.out
    alone = call("bild.paper", "only=fig10-xsum", "task.samples=0", *options[:1], cwd=tmp_path)
    assert "task.samples" in alone.refusal()


@pytest.mark.slow
def test_a_point_again_its_outputs_and_outside_scores(tmp_path: Path) -> None:
    made = call("bild.run", "task.samples=2", "threshold.fb=0.3", *QUICK, cwd=tmp_path)
    assert made.code == 0, made.err
    (point,) = find_records(tmp_path / "results")[0]
    options = ("measure.library=0", "task.samples=1")
    again = call("bild.run", "--from", str(point.path), *options, cwd=tmp_path)
    assert again.code == 0, again.err
    assert "Again: 1 of 1 texts equal those of" in again.out
    assert " on 2 examples became " in again.out
    assert len(find_records(tmp_path / "results" / "again")[0]) == 1
    written = [json.loads(line) for line in call("bild.export", str(point.path), cwd=tmp_path).out.splitlines()]
    assert [set(line) for line in written] == [{"id", "output", "vanilla"}] * 2
    told = [json.loads(x) for x in call("bild.export", str(point.path), "--acceptance", cwd=tmp_path).out.splitlines()]
    passes = sum(line["large_passes"] for line in told if "tokens" in line)
    assert passes == point.record.counts.large_passes
    assert sum(line["tokens"] * line["large_passes"] for line in told if "tokens" in line) == point.record.counts.tokens
    scores = tmp_path / "scores.jsonl"
    scores.write_text("".join(json.dumps({"id": x["id"], "score": 80.0, "vanilla": 80.0}) + "\n" for x in written))
    judged = call("bild.claims", str(point.path), "--scores", str(scores), cwd=tmp_path)
    assert "80, vanilla 80, difference 0.0 [-" in judged.out
    scores.write_text(scores.read_text().replace('"score": 80.0', '"score": 81.0'))
    judged = call("bild.claims", str(point.path), "--scores", str(scores), cwd=tmp_path)
    assert "difference +1.00 [?, ?] on 2 examples: undecided at 0.5, because the interval is not known" in judged.out
    scores.write_text(scores.read_text().splitlines()[0] + "\n")
    assert "of the 2 examples" in call("bild.claims", str(point.path), "--scores", str(scores), cwd=tmp_path).refusal()


def test_where_nothing_could_be_made_that_is_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = call("bild.paper", "only=fig10-xsum", "task.samples=2", cwd=tmp_path)
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        "error: Not everything was made: fig10-xsum (see above); the same command tries again."
    )
