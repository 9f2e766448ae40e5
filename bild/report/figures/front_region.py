"""Where the measured points of a front lie: the line through the best, and the joint region of each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bild.report.sections import Section
from bild.results import Interval, Record
from bild.results.pareto import ANCHORS, picks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_REGIONS = 9


def speed_of(record: Record) -> Interval:
    """The headline speedup: the ratio of total times."""
    return record.latency.speedup.total


def line_of(section: Section) -> list[tuple[float, float]]:
    """The points on the front as (speedup, quality), from slow to fast."""
    chosen = [section.records[index] for index in section.on_front()]
    return sorted((speed_of(record).value, record.headline.value) for record in chosen)


def with_region(section: Section) -> list[Record]:
    """Where there are many points, only the anchors, the front and the picks: too many regions are a fog."""
    front, chosen = section.on_front(), picks(section.records)
    return [
        record
        for index, record in enumerate(section.records)
        if record.joint is not None
        and (
            len(section.records) <= MOST_REGIONS
            or index in front
            or record.method.name in ANCHORS
            or record in (chosen.no_loss, chosen.one_point)
        )
    ]


def draw_region(axes: Axes, record: Record, color: str) -> None:
    """The region that holds speedup and quality jointly: the normal ellipse of the paired bootstrap draws."""
    from matplotlib.patches import Polygon

    joint = record.joint
    if joint is None or joint.speedup_sd <= 0 or joint.quality_sd <= 0:
        return
    reach = reach_of(record)
    across = math.sqrt(max(0.0, 1 - joint.correlation**2))
    turns = [2 * math.pi * step / 72 for step in range(72)]
    corners = [
        (
            speed_of(record).value + reach * joint.speedup_sd * math.cos(turn),
            record.headline.value
            + reach * joint.quality_sd * (joint.correlation * math.cos(turn) + across * math.sin(turn)),
        )
        for turn in turns
    ]
    axes.add_patch(Polygon(corners, closed=True, facecolor=color, alpha=0.07, linewidth=0, zorder=1.5))
    axes.add_patch(Polygon(corners, closed=True, fill=False, edgecolor=color, alpha=0.3, linewidth=0.5, zorder=1.6))


def reach_of(record: Record) -> float:
    """How many standard deviations from its middle a normal ellipse of the record's confidence goes."""
    return math.sqrt(-2 * math.log(1 - record.intervals.confidence))
