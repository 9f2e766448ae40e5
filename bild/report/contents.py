"""All that a report shows, before anything is written: sections, figures and tables, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bild.report.catalogue import catalogue
from bild.report.compare import Comparison, compare
from bild.report.differences import difference_table
from bild.report.figure import Missing, Sheet
from bild.report.paper_table import paper_table
from bild.report.point_tables import environment_table, points_table, predicted_table, signatures_table
from bild.report.predictions import Sweeps, differs, sweeps_of
from bild.report.published import paper
from bild.report.sections import Section, find_sections
from bild.report.table import Table
from bild.results import Skipped
from bild.results.predicted import Predicted, find_predicted


@dataclass(frozen=True)
class Part:
    """One section: points that may be compared, their predictions, and all that is shown of them.

    `slug` names its folder among the files, and is empty where the report has no other section.
    """

    section: Section
    slug: str
    sweeps: Sweeps
    sheets: tuple[Sheet, ...]
    missing: tuple[Missing, ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Contents:
    """A report: its parts, the tables that concern them all, a comparison with another folder, what was left out."""

    root: Path
    parts: tuple[Part, ...]
    tables: tuple[Table, ...]
    missing: tuple[Missing, ...]
    skipped: tuple[Skipped, ...]
    left_out: tuple[str, ...]
    comparison: Comparison | None = None


def contents(root: Path, other: Path | None = None) -> Contents:
    """What a report on the results under `root` shows, beside those under `other` if given.

    BildError where nothing can be reported.
    """
    root = Path(root)
    sections, skipped = find_sections(root)
    comparison = None if other is None else compare(sections, Path(other), root)
    return make_contents(sections, root, skipped, find_predicted(root), comparison)


def make_contents(
    sections: Sequence[Section],
    root: Path,
    skipped: Sequence[Skipped] = (),
    predicted: Sequence[tuple[Path, Predicted]] = (),
    comparison: Comparison | None = None,
) -> Contents:
    """As `contents`, of sections that were found already."""
    parts = []
    for section, slug in zip(sections, slugs(sections), strict=True):
        sweeps = sweeps_of(section, predicted)
        sheets, missing = catalogue(section, sweeps.points)
        tables = (
            points_table(section),
            predicted_table(section, sweeps.points),
            environment_table(section),
            signatures_table(section),
        )
        parts.append(
            Part(section, slug, sweeps, tuple(sheets), tuple(missing), tuple(table for table in tables if table))
        )
    first = paper_table(sections)
    apart = difference_table(sections, [part.slug for part in parts] if len(parts) > 1 else ())
    lacking = () if first else (_no_paper_table(),)
    lines = [*left_out(root, skipped), *_lonely(sections, predicted, root)]
    found = tuple(table for table in (first, apart) if table is not None)
    return Contents(root, tuple(parts), found, lacking, tuple(skipped), tuple(lines), comparison)


def left_out(root: Path, skipped: Sequence[Skipped]) -> list[str]:
    """One line for each point that was left out, with its place under `root` and the reason."""
    return [f"{_under(item.path, root)}: {item.why}" for item in skipped]


def slugs(sections: Sequence[Section]) -> list[str]:
    """What tells the sections apart in names of files: nothing for a single one, numbers for those that look alike."""
    if len(sections) == 1:
        return [""]
    found = [section.slug for section in sections]
    return [
        slug if found.count(slug) == 1 else f"{slug}-{found[: index + 1].count(slug)}"
        for index, slug in enumerate(found)
    ]


def _lonely(sections: Sequence[Section], predicted: Sequence[tuple[Path, Predicted]], root: Path) -> list[str]:
    """Predictions that were made under no section's conditions."""
    lines = []
    for path, sweep in predicted:
        differences = [differs(section, sweep) for section in sections]
        if all(differences):
            nearest = min(differences, key=len)
            lines.append(
                f"{_under(path, root)}: predicted points, which no measured point stands beside: the nearest section "
                f"differs in {', '.join(nearest[:4])}"
            )
    return lines


def _under(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path != root and path.is_relative_to(root) else path


def _no_paper_table() -> Missing:
    tasks = ", ".join(paper()["table1"])
    return Missing(
        "The paper's Table 1 beside our figures",
        f"no point on one of the paper's tasks ({tasks})",
        "python -m bild.run experiment=paper/xsum-aligned-rb2-fb0.6",
    )
