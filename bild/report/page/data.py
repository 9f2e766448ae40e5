"""What the page is told: the sections of a report with their points, and the samples that can be replayed in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import thresholds_of
from bild.errors import BildError
from bild.report.page.points import section_points, setting_of
from bild.report.page.sample import Setting, sample_of
from bild.report.sections import Section
from bild.report.thresholds import FB, RB
from bild.report.wording import interval_name, metric_name, plural
from bild.results.pareto import picks
from bild.results.predicted import PredictedPoint
from bild.results.prices import PRICES, read_prices

if TYPE_CHECKING:
    from bild.report.contents import Part
    from bild.tree import Tree

SAMPLE_BYTES = 2_500_000
"""Of all samples of a page together."""


def page_data(parts: Sequence[Part], left_out: Sequence[str]) -> dict[str, Any]:
    """All data of the page, ready for JSON."""
    told = [_section(part, index, SAMPLE_BYTES // len(parts)) for index, part in enumerate(parts)]
    names = [section["name"] for section in told]
    for index, section in enumerate(told):
        if names.count(section["name"]) > 1:
            section["name"] += f" ({names[: index + 1].count(section['name'])})"
    about = _about([part.section for part in parts])
    return {"schema": 1, "sections": told, "about": about, "left_out": list(left_out)}


def _section(part: Part, index: int, bytes_: int) -> dict[str, Any]:
    section = part.section
    vanilla = section.vanilla()
    points = section_points(section, part.sweeps.points)
    sample, missing = _sample(part, bytes_)
    hollow = " Hollow marks are predicted and have no bars here." if any(not p["measured"] for p in points) else ""
    dotted = " The dotted line is the quality of vanilla decoding." if vanilla else ""
    return {
        "index": index,
        "name": f"{section.first.task.name}, {section.first.pair.name}, {section.first.engine.dtype}",
        "title": section.title,
        "conditions": f"{section.conditions}; {plural(section.first.latency.examples, 'example')}.",
        "metric": metric_name(section.first),
        "caption": f"Bars are {interval_name(section.first)}; the line is the front.{dotted}{hollow}",
        "vanilla": vanilla.headline.value if vanilla else None,
        "points": points,
        "sample": sample,
        "missing": missing,
    }


def _sample(part: Part, bytes_: int) -> tuple[dict[str, Any] | None, str]:
    """The section's sample, or None and why there is none."""
    record = part.section.first
    folder, predicted = _tree_folder(part)
    if folder is None:
        return None, (
            "There is nothing to replay here: no decision tree lies beside these results. "
            f"python -m bild.sweep task={record.task.name} grows one."
        )
    from bild.tree import open_tree

    try:
        tree = open_tree(folder)
        if tree.identity["data"] != record.task.data["hash"]:
            return None, "There is nothing to replay here: the decision tree beside these results is of other examples."
        points = settings_of(predicted) if predicted else usual_settings(tree)
        if not points:
            return None, "There is nothing to replay here: the tree beside these results reaches no setting of BiLD."
        prices = read_prices(tree.path / PRICES) if (tree.path / PRICES).is_file() else None
        start = _start(part.section, points)
        return sample_of(tree, points, record.quality.headline, prices, bytes_=bytes_, start=start), ""
    except BildError as error:
        return None, f"There is nothing to replay here: {error}"


def _tree_folder(part: Part) -> tuple[Path | None, Sequence[PredictedPoint]]:
    """The tree of the newest predictions, and these; else one that lies beside the section's points."""
    if part.sweeps.trees:
        return list(part.sweeps.trees.items())[-1]
    beside = next((path.parent / "tree" for path in part.section.folders.values()), None)
    return beside if beside is not None and beside.is_dir() else None, ()


def settings_of(predicted: Sequence[PredictedPoint]) -> list[Setting]:
    """The predicted BiLD points as settings of the replay."""
    return [
        setting_of(point.method, point.threshold)
        for point in predicted
        if point.method.name == "bild" and point.threshold.fb is not None and point.threshold.rb is not None
    ]


def usual_settings(tree: Tree) -> list[Setting]:
    """Of a usual grid, what the tree can replay: without a sweep beside it, it does not say what it was grown for."""
    found = []
    for fb in FB:
        for rb in RB:
            setting = MethodConfig("bild"), ThresholdConfig(fb, rb)
            if not tree.missing([setting]):
                found.append(setting)
    return found


def _start(section: Section, points: Sequence[Setting]) -> tuple[float, float]:
    """Where the sliders begin: at the fastest measured point without a loss, else in the middle of the grid."""
    chosen = picks(section.records).no_loss or picks(section.records).one_point
    if chosen is not None and chosen.threshold.fb is not None and chosen.threshold.rb is not None:
        return chosen.threshold.fb, chosen.threshold.rb
    fbs, rbs = (sorted({thresholds_of(*point)[name] for point in points}) for name in ("fb", "rb"))
    return fbs[len(fbs) // 2], rbs[len(rbs) // 2]


def _about(sections: Sequence[Section]) -> list[str]:
    """Where the numbers come from, a sentence or two for each section."""
    found = []
    for section in sections:
        record = section.first
        shas = sorted({str(each.environment["git"]["sha"] or "unknown")[:10] for each in section.records})
        packages = record.environment["packages"]
        named = ", ".join(
            f"{name} {packages[name]}" for name in ("torch", "transformers", "sacrebleu") if name in packages
        )
        newest = max(each.created for each in section.records)
        found.append(
            f"{section.title}: {section.conditions}. {record.headline.signature}. Packages: {named}. "
            f"Commit {', '.join(shas)}; the newest record is of {newest[:16].replace('T', ' ')} UTC."
        )
    return found
