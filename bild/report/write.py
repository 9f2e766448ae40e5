"""Writing a report: `report.md`, the figures, the tables. The one place that writes to the output folder."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from bild.report.contents import Contents, Part, contents, left_out, slugs
from bild.report.figure import VARIANTS, Missing, Sheet
from bild.report.figures.front import save
from bild.report.files import write_text
from bild.report.format import plural
from bild.report.record_table import markdown
from bild.report.sections import Section
from bild.report.table import escape_markdown
from bild.results import Skipped

FIGURES, TABLES = "figures", "tables"


@dataclass(frozen=True)
class ReportFiles:
    """What a report wrote, the sections it shows, and the points that it left out."""

    text: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    sections: tuple[Section, ...]
    skipped: tuple[Skipped, ...]
    left_out: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    page: Path | None = None
    """The HTML page."""


def write_report(root: Path, out: Path, other: Path | None = None) -> ReportFiles:
    """Write the report on the results under `root` to the folder `out`, side by side with those under `other` if given.

    Points that may not be compared stand in sections of their own, each with its own figures and tables. BildError
    where nothing can be reported or `out` cannot be written.
    """
    return write_contents(contents(Path(root), other), Path(out))


def write_contents(found: Contents, out: Path) -> ReportFiles:
    """Write what was gathered to the folder `out`."""
    figures: list[Path] = []
    tables: list[Path] = []
    for part in found.parts:
        for sheet in part.sheets:
            figures += sheet.save(out / FIGURES / part.slug, VARIANTS)
        for table in part.tables:
            tables += table.save(out / TABLES / part.slug)
    for table in found.tables:
        tables += table.save(out / TABLES)
    for side in found.comparison.sides if found.comparison else ():
        figures += side.sheet.save(out / FIGURES, VARIANTS)
        for table in side.tables:
            tables += table.save(out / TABLES)
    text = write_text(out / "report.md", _report(found))
    from bild.report.page import write_page

    page = write_page(found, out)
    sections = tuple(part.section for part in found.parts)
    missing = (*found.missing, *(each for part in found.parts for each in part.missing))
    return ReportFiles(text, tuple(figures), tuple(tables), sections, found.skipped, found.left_out, missing, page)


def write_sections(sections: list[Section], out: Path, root: Path, skipped: list[Skipped]) -> ReportFiles:
    """The short report of a demo: `table.md` and `pareto.png`/`.svg` only; `root` is where `skipped` points lie."""
    figures: list[Path] = []
    text = "# Speed against quality\n\n"
    for section, slug in zip(sections, slugs(sections), strict=True):
        stem = f"pareto-{slug}" if slug else "pareto"
        figures += save(section.records, out, stem)
        text += f"{markdown(section)}\n![Speedup against quality: {section.title}]({stem}.png)\n\n"
    lines = left_out(root, skipped)
    if lines:
        text += "Left out:\n\n" + "".join(f"- {line}\n" for line in lines) + "\n"
    table = write_text(out / "table.md", text.rstrip("\n") + "\n")
    return ReportFiles(table, tuple(figures), (), tuple(sections), tuple(skipped), tuple(lines))


def _report(found: Contents) -> str:
    """The whole report as Markdown."""
    points = sum(len(part.section.records) for part in found.parts)
    blocks = [f"# Speed against quality\n\n{plural(points, 'point')} in {plural(len(found.parts), 'section')}."]
    if len(found.parts) > 1:
        blocks[0] += " Points of different sections may not be compared; what differs stands in the table below."
    blocks += [table.markdown() for table in found.tables]
    blocks += [_part(part) for part in found.parts]
    if found.comparison:
        blocks.append(
            f"## {escape_markdown(str(found.comparison.left))} beside {escape_markdown(str(found.comparison.right))}"
        )
        for side in found.comparison.sides:
            blocks += [_picture(side.sheet, ""), *(table.markdown() for table in side.tables)]
        if found.comparison.unmatched:
            lines = "\n".join(f"- {escape_markdown(line)}" for line in found.comparison.unmatched)
            blocks.append(f"Without a like section in the other folder:\n\n{lines}")
    if found.missing:
        blocks.append("## Not shown\n\n" + "\n".join(map(_lacking, found.missing)))
    if found.left_out:
        blocks.append("## Left out\n\n" + "\n".join(f"- {escape_markdown(line)}" for line in found.left_out))
    return "\n\n".join(block.rstrip("\n") for block in blocks) + "\n"


def _part(part: Part) -> str:
    section = part.section
    blocks = [f"## {escape_markdown(section.title)}\n\n{escape_markdown(section.conditions)}"]
    blocks += [_picture(sheet, part.slug) for sheet in part.sheets]
    blocks += [table.markdown() for table in part.tables]
    if part.missing:
        blocks.append("### Not shown\n\n" + "\n".join(map(_lacking, part.missing)))
    return "\n\n".join(block.rstrip("\n") for block in blocks)


def _picture(sheet: Sheet, slug: str) -> str:
    folder = "/".join(filter(None, (FIGURES, slug)))
    heading = escape_markdown(sheet.title)
    return (
        f"### {heading}\n\n<picture>\n"
        f'  <source media="(prefers-color-scheme: dark)" srcset="{folder}/{sheet.stem}-dark.svg">\n'
        f'  <img src="{folder}/{sheet.stem}.svg" alt="{html.escape(sheet.caption)}">\n</picture>\n\n'
        f"{escape_markdown(sheet.caption)}"
    )


def _lacking(missing: Missing) -> str:
    return f"- {escape_markdown(missing.title)}: {escape_markdown(missing.why)}. Command: `{missing.command}`"
