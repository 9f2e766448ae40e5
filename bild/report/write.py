"""A report on a results folder: the table as Markdown, the figures, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bild.errors import BildError
from bild.report.figure import save
from bild.report.sections import Section, find_sections
from bild.report.table import markdown
from bild.results import Skipped


@dataclass(frozen=True)
class ReportFiles:
    """What a report wrote, the sections it shows, and the points that it left out."""

    table: Path
    figures: tuple[Path, ...]
    sections: tuple[Section, ...]
    skipped: tuple[Skipped, ...]


def write_report(root: Path, out: Path) -> ReportFiles:
    """Write `table.md` and `pareto.png`/`.svg` on the points under `root` to the folder `out`.

    Points that may not be compared stand in sections of their own, each with its figure `pareto-<section>`; a single
    section's is plain `pareto`. BildError where nothing can be reported or `out` cannot be written.
    """
    root = Path(root)
    sections, skipped = find_sections(root)
    return write_sections(sections, Path(out), root, skipped)


def write_sections(sections: list[Section], out: Path, root: Path, skipped: list[Skipped]) -> ReportFiles:
    """Write the report of these sections to `out`; `root` is where the points that were `skipped` lie."""
    stems = _stems(sections)
    text = "# Speed against quality\n\n"
    figures: list[Path] = []
    for section, stem in zip(sections, stems, strict=True):
        figures += save(section.records, out, stem)
        text += f"{markdown(section)}\n![Speedup against quality: {section.title}]({stem}.png)\n\n"
    if skipped:
        text += "Left out:\n\n" + "".join(f"- {line}\n" for line in left_out(root, skipped)) + "\n"
    table = out / "table.md"
    try:
        table.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as error:
        raise BildError(f"The table cannot be written to {table} ({error.strerror}): choose another --out.") from None
    return ReportFiles(table, tuple(figures), tuple(sections), tuple(skipped))


def left_out(root: Path, skipped: list[Skipped] | tuple[Skipped, ...]) -> list[str]:
    """One line for each point that was left out, with its place under `root` and the reason."""
    return [f"{item.path.relative_to(root) if item.path != root else item.path}: {item.why}" for item in skipped]


def _stems(sections: list[Section]) -> list[str]:
    """File names without their ending: `pareto` alone, else with what tells the sections apart."""
    if len(sections) == 1:
        return ["pareto"]
    slugs = [section.slug for section in sections]
    return [
        f"pareto-{slug}" if slugs.count(slug) == 1 else f"pareto-{slug}-{slugs[: index + 1].count(slug)}"
        for index, slug in enumerate(slugs)
    ]
