"""All figures of a section, and what the data does not allow."""

from __future__ import annotations

from collections.abc import Sequence

from bild.report.figure import Missing, Sheet
from bild.report.figures.ablation import ablation_sheet
from bild.report.figures.against import against_sheet
from bild.report.figures.agreement import agreement_sheet
from bild.report.figures.drafts import drafts_sheet
from bild.report.figures.early_exit import early_exit_sheet
from bild.report.figures.front import front_sheet
from bild.report.figures.heat import heat_sheet
from bild.report.figures.latency import latency_sheet
from bild.report.figures.phases import phases_sheet
from bild.report.sections import Section
from bild.results.predicted import PredictedPoint


def catalogue(section: Section, predicted: Sequence[PredictedPoint] = ()) -> tuple[list[Sheet], list[Missing]]:
    """The sheets of a section in the order in which a report shows them, and the figures it must do without."""
    found = (
        front_sheet(section, predicted),
        heat_sheet(section, predicted),
        phases_sheet(section),
        drafts_sheet(section),
        agreement_sheet(section),
        latency_sheet(section),
        ablation_sheet(section),
        early_exit_sheet(section),
        against_sheet(section, predicted),
    )
    return [each for each in found if isinstance(each, Sheet)], [each for each in found if isinstance(each, Missing)]
