"""`bild paper` (or `python -m bild.paper`): all that the paper shows, as far as this machine can, cheapest first.

    bild paper plan=only
    bild paper only=iwslt2017-aligned,fig10-xsum
    bild paper task.samples=200 engine=graph engine.dtype=fp16 sweep.minutes=10

Each exhibit (conf/paper.yaml) is a sweep, a run or a training; all trees are grown before anything is timed. After a
stop the same command resumes; a failed exhibit is reported, and the others continue. An option holds for every exhibit
that has it. At the end comes the report, with an atlas: the paper's tables and figures, ours beside them, and verdicts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bild.cli.compose import check_options, compose, published_settings, shapes, typed
from bild.cli.overrides import load, parse
from bild.config import RunConfig
from bild.decoding import Setting
from bild.errors import HELPS, BildError, did_you_mean, explain, guard, one_of
from bild.options import Option, key_values
from bild.progress import folded, say
from bild.sweep.config import SweepConfig
from bild.training.config import TrainConfig

if TYPE_CHECKING:
    from bild.sweep.grid import SweptPoint
    from bild.sweep.show_plan import Cost

SCHEMAS: dict[str, Any] = {"sweep": SweepConfig, "run": RunConfig, "train": TrainConfig}
_OWN = {"plan": "show", "only": "all", "results": "results/paper", "out": "report/paper"}
_SHARED = ("task", "engine", "measure", "sweep", "train", "device", "threads")
"""The first words of options that hold for every exhibit; what an exhibit is of (task=..., method=...) is its own."""


@dataclass
class Exhibit:
    """A part of the paper: what it shows, and the command that makes it."""

    about: str
    of: dict[str, str]
    """The model of each task that it is made for; in its name and its words {task} stands for one of them."""
    options: list[str] = field(default_factory=list)
    verb: str = "sweep"
    values: dict[str, list[float]] = field(default_factory=dict)
    """Of a run: the values of one threshold, each a point; all are measured side by side."""
    after: list[str] = field(default_factory=list)

    def on(self, task: str) -> Exhibit:
        """Return the exhibit of one of its tasks."""
        options = [f"task={task}", f"model={self.of[task]}", *(each.replace("{task}", task) for each in self.options)]
        after = [each.replace("{task}", task) for each in self.after]
        return replace(self, of={task: self.of[task]}, options=options, after=after)


@dataclass
class Exhibits:
    """All of them, by name."""

    exhibits: dict[str, Exhibit]

    @property
    def by_task(self) -> dict[str, Exhibit]:
        """Return each for each of its tasks."""
        found = ((name, task, each) for name, each in self.exhibits.items() for task in each.of)
        return {name.replace("{task}", task): each.on(task) for name, task, each in found}


@dataclass
class Paper:
    """The exhibits that were asked for, with the options that all of them share."""

    exhibits: dict[str, Exhibit]
    own: dict[str, str]
    shared: list[str]
    named: Sequence[str] = ()  # on the command line
    _made: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False)

    @staticmethod
    def read(arguments: Sequence[str]) -> Paper:
        """Read a command line. BildError where an option is none of this command, or names no exhibit."""
        mine = [word for word in arguments if "=" in word and word.partition("=")[0] in _OWN]
        own = _OWN | key_values(mine)
        one_of("plan", own["plan"], ("show", "only"))
        for key in ("results", "out"):
            own[key] = Option(str, {"folder": True}).checked(key, own[key])
        known = typed(Exhibits, load("", "paper")).by_task
        named = [name for name in own["only"].strip("[]").split(",") if name]
        wanted = list(known) if named == ["all"] else named
        if not wanted:
            raise BildError(f"only={own['only']} names no exhibit: name one of {', '.join(known)}, or leave it out.")
        for name in wanted:
            if name not in known:
                close = did_you_mean(name, known)
                raise BildError(f"only={name} is no exhibit{close}: choose one of {', '.join(known)}.")
        needed = {*wanted, *(before for name in wanted for before in known[name].after)}
        shared = _checked([word for word in arguments if word not in mine])
        return Paper({name: known[name] for name in known if name in needed}, own, shared, named)

    def config(self, exhibit: Exhibit) -> Any:
        """Return the configuration of an exhibit's command; composing takes a moment, so each is made once."""
        schema = SCHEMAS[exhibit.verb]
        shared = [option for option in self.shared if _fits(option, schema)]
        given = {option.partition("=")[0] for option in shared}  # in the place of the exhibit's own
        own = [option for option in exhibit.options if option.partition("=")[0] not in given]
        options = [option.replace("{results}", self.own["results"]) for option in own]
        where = [] if exhibit.verb == "train" else [f"results={self.own['results']}"]
        words = (exhibit.verb, *options, *where, *shared)
        if words not in self._made:
            self._made[words] = compose(words[1:], exhibit.verb, schema)
        return self._made[words]

    def points(self, exhibit: Exhibit) -> tuple[Any, list[Any]]:
        """Return the configuration of a run and its points."""
        ((name, values),) = exhibit.values.items()
        config = self.config(exhibit)
        return config, [(config.method, replace(config.threshold, **{name: value})) for value in values]


@cache
def _published(task: str, pair: str) -> list[Setting]:
    return published_settings(task, pair)


def _checked(shared: Sequence[str]) -> list[str]:
    """Return the shared options. BildError for one that is an exhibit's own, or that no exhibit has."""
    for option in parse(shared):
        key, first = option.key_or_group, option.key_or_group.partition(".")[0]
        if first not in _SHARED or key in ("task", "sweep", "train", "task.split"):
            raise BildError(
                f"{option.input_line} is each exhibit's own: what may be set for all are options of "
                f"{', '.join(_SHARED)}, and {', '.join(_OWN)} for the command."
            )
        if not any(_fits(option.input_line or "", schema) for schema in SCHEMAS.values()):
            check_options([option], TrainConfig if first in ("train", "device", "threads") else SweepConfig)
    return list(shared)


def _fits(option: str, schema: Any) -> bool:
    try:
        check_options(parse([option]), schema)
    except BildError:
        return False
    return True


def cost_of(paper: Paper, exhibit: Exhibit) -> Cost:
    """Estimate what an exhibit takes, before anything is loaded or measured."""
    from bild.sweep.show_plan import run_cost, sweep_cost, training_cost

    if exhibit.verb == "sweep":
        config = paper.config(exhibit)
        return sweep_cost(config, points_of(config), shapes())
    if exhibit.verb == "run":
        run, settings = paper.points(exhibit)
        same = {name: getattr(run, name) for name in ("task", "model", "engine", "measure", "results")}
        return run_cost(SweepConfig(**same), settings, shapes())
    train = paper.config(exhibit)
    assert train.model.pretrained is not None
    probed = compose([f"task={train.task.name}", f"engine.device={train.device}"], "sweep", SweepConfig)
    epochs = train.task.sizes.get(train.splits.train, 0) * train.train.epochs
    examples = min(epochs, (train.train.steps or epochs) * train.train.batch) or None
    done = Path(train.folder, "training.json").is_file()
    return training_cost(probed, train.model.pretrained, examples, shapes(), done)


def points_of(config: SweepConfig) -> list[SweptPoint]:
    """Return the points of a sweep."""
    from bild.sweep.grid import grid_points

    published = _published(config.task.name, config.model.name) if config.sweep.published else []
    return grid_points(config.sweep, config.task, config.method, published)


def grow(paper: Paper, exhibit: Exhibit) -> None:
    """Grow the tree of a sweep as far as its points go."""
    from bild.sweep.context import GrownTree, SweepWork

    work = SweepWork(paper.config(exhibit))
    with work.locked():
        GrownTree(work).replays(points_of(work.config))


def make(paper: Paper, exhibit: Exhibit) -> None:
    """Run the command of an exhibit to its end. BildError where a part of it failed."""
    if exhibit.verb == "train":
        from bild.training.job import train

        train(paper.config(exhibit))
    elif exhibit.verb == "run":
        from bild.measure.session import measure_points

        measure_points(*paper.points(exhibit))
    else:
        from bild.sweep.context import SweepWork
        from bild.sweep.drive import sweep
        from bild.sweep.estimates import keep

        config = paper.config(exhibit)
        swept = sweep(SweepWork(config), points_of(config))
        keep(config.results, swept.taken, {})
        if swept.failed:
            raise BildError(f"Not everything was measured: {'; '.join(swept.failed)}.")


class Reproduction:
    """One go through all exhibits in the order of their costs, and what became of each."""

    def __init__(self, paper: Paper, costs: Mapping[str, Cost], failed: dict[str, str]) -> None:
        self.paper, self.costs, self.failed = paper, costs, failed

    def run(self) -> None:
        """Grow all trees, then make every exhibit; each failure is told and ends that exhibit alone."""
        exhibits = {name: self.paper.exhibits[name] for name in self.costs}
        for name in exhibits:
            self._guarded(name, self._fit)
        for name, exhibit in exhibits.items():
            if exhibit.verb == "sweep" and not exhibit.after:
                self._guarded(name, lambda name: grow(self.paper, exhibits[name]))
        for name in exhibits:
            self._guarded(name, lambda name: make(self.paper, exhibits[name]))

    def _fit(self, name: str) -> None:
        """Refuse an exhibit whose models do not fit into the free memory of the device."""
        from bild.models import resolve_device
        from bild.models.shapes import free_bytes

        exhibit, need = self.paper.exhibits[name], self.costs[name].memory
        config = self.paper.points(exhibit)[0] if exhibit.verb == "run" else self.paper.config(exhibit)
        free = free_bytes(resolve_device(config.device if exhibit.verb == "train" else config.engine.device))
        if need is not None and need > free:
            raise BildError(f"It needs {need / 1e9:.1f} GB on the device, and {free / 1e9:.1f} GB are free.")

    def _guarded(self, name: str, work: Callable[[str], None]) -> None:
        """Do some work for an exhibit that has not failed yet; any error but a stop is its failure."""
        if name in self.failed:
            return
        try:
            if lacking := [before for before in self.paper.exhibits[name].after if before in self.failed]:
                raise BildError(f"It needs {lacking[0]}, which failed.")
            work(name)
        except BrokenPipeError:
            raise
        except Exception as error:
            self.failed[name] = explain(error, helps=HELPS)[1].removeprefix("error: ")
            say(f"{name} failed: {self.failed[name]}")


def job(arguments: Sequence[str]) -> None:
    """Plan, run what can be run, and report."""
    from bild.report.table import show_tables
    from bild.sweep.show_plan import cost_table  # torch, after the options are known to be good

    paper = Paper.read(arguments)
    costs, refused = dict[str, "Cost"](), dict[str, str]()
    for name, exhibit in paper.exhibits.items():
        try:
            costs[name] = cost_of(paper, exhibit)
        except BildError as error:  # such as CALM on an engine that cannot leave between layers
            refused[name] = str(error)
            say(f"{name} is left out: {error}")
    if not costs:
        raise BildError(next(iter(refused.values())))
    for name in [*costs]:
        served = {other for other, each in paper.exhibits.items() if name in each.after}
        if served and served <= {*refused} and name not in paper.named:
            del costs[name]
            say(f"{name} is left out: nothing that builds on it is made")
    costs = dict(sorted(costs.items(), key=lambda item: (bool(paper.exhibits[item[0]].after), item[1].most)))
    shown = ({name: getattr(paper.exhibits[name], each) for name in costs} for each in ("about", "after"))
    table, notes = cost_table(costs, *shown)
    show_tables([table], notes)
    sys.stdout.flush()
    if paper.own["plan"] == "only":
        return
    run = Reproduction(paper, costs, refused)
    run.run()
    from bild.report import write_report

    if (results := Path(paper.own["results"])).is_dir() or not run.failed:
        files = write_report(results, Path(paper.own["out"]))
        print(f"Written: {files.page} and {files.text}; the atlas is their first table")
    if run.failed:
        raise BildError(f"Not everything was made: {', '.join(run.failed)} (see above); the same command tries again.")


def main() -> int:
    """Run the command line; returns the exit code."""
    given, about = sys.argv[1:], folded((__doc__ or "").replace("`", ""))
    asked = {"-h", "--help"} & {*given}
    return guard(lambda: print(about) if asked else job(given), "stopped; the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
