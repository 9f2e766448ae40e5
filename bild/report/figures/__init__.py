"""All figures of a section, and what the data does not allow."""

from __future__ import annotations

from collections.abc import Sequence

from bild.report.figure import Missing, Sheet
from bild.report.figures.curves import ablation_sheet, early_exit_sheet, engagement_sheet, predicted_sheet
from bild.report.figures.front import front_sheet
from bild.report.figures.heat import heat_sheet
from bild.report.figures.methods import methods_sheet
from bild.report.figures.rounds import agreement_sheet, drafts_sheet
from bild.report.figures.times import latency_sheet, phases_sheet, work_sheet
from bild.report.sections import Section
from bild.results.predicted import PredictedPoint


def sheets_of(section: Section, predicted: Sequence[PredictedPoint] = ()) -> tuple[list[Sheet], list[Missing]]:
    """Return the figures of a section in the order of a report, and those that it must do without."""
    found = (
        front_sheet(section, predicted),
        heat_sheet(section, predicted),
        phases_sheet(section),
        drafts_sheet(section),
        agreement_sheet(section),
        latency_sheet(section),
        work_sheet(section),
        ablation_sheet(section),
        early_exit_sheet(section),
        engagement_sheet(section, predicted),
        predicted_sheet(section, predicted),
        methods_sheet(section),
    )
    return [each for each in found if isinstance(each, Sheet)], [each for each in found if isinstance(each, Missing)]
