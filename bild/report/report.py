"""A report: what it shows, gathered before anything is written, and the files that it becomes."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bild.config import margin_of
from bild.errors import BildError
from bild.options import folder_of
from bild.report.atlas import atlas_table
from bild.report.compare import Comparison, compare, difference_table, seeds_table
from bild.report.figure import VARIANTS, Missing, Sheet
from bild.report.figures import sheets_of
from bild.report.figures.methods import methods_table
from bild.report.format import plural
from bild.report.paper import paper, paper_table
from bild.report.points import points_table, predicted_table
from bild.report.predictions import Sweeps, differs, sweeps_of
from bild.report.provenance import environment_table, signatures_table
from bild.report.sections import MARGIN, Section, find_sections
from bild.report.table import Table, escape_markdown, write_text
from bild.results import Skipped
from bild.results.codec import read_json, write_json
from bild.results.files import read_file, writing
from bild.results.predicted import Predicted, find_predicted

FIGURES, TABLES, PAGE, TEXT, MANIFEST = "figures", "tables", "page", "report.md", "files.json"


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

    @property
    def sections(self) -> list[Section]:
        """The sections of its parts."""
        return [part.section for part in self.parts]

    def sheets(self) -> list[tuple[str, Sheet]]:
        """Return all figures, each with the folder that it goes to."""
        sides = self.comparison.sides if self.comparison else ()
        return [*((part.slug, each) for part in self.parts for each in part.sheets), *(("", s.sheet) for s in sides)]

    def all_tables(self) -> list[tuple[str, Table]]:
        """Return all tables, each with the folder that it goes to."""
        sides = self.comparison.sides if self.comparison else ()
        whole = [("", table) for table in (*self.tables, *(table for side in sides for table in side.tables))]
        return [*((part.slug, table) for part in self.parts for table in part.tables), *whole]


def contents(root: Path, other: Path | None = None, margin: float = MARGIN) -> Contents:
    """Gather what a report on the results under `root` shows, beside those under `other` if given.

    Verdicts are told at `margin`, in the metric's points. BildError where nothing can be reported.
    """
    root = folder_of(root)
    sections, skipped = find_sections(root, margin_of(margin, "margin"))
    comparison = None if other is None else compare(sections, folder_of(other), root)
    predicted, unread = find_predicted(root)
    return make_contents(sections, root, [*skipped, *unread], predicted, comparison)


def make_contents(
    sections: Sequence[Section],
    root: Path,
    skipped: Sequence[Skipped] = (),
    predicted: Sequence[tuple[Path, Predicted]] = (),
    comparison: Comparison | None = None,
) -> Contents:
    """Gather a report of sections that were found already."""
    parts = []
    for section, slug in zip(sections, slugs(sections), strict=True):
        sweeps = sweeps_of(section, predicted)
        sheets, lacks = sheets_of(section, sweeps.points)
        tables = (
            points_table(section),
            predicted_table(section, sweeps.points),
            methods_table(section),
            environment_table(section),
            signatures_table(section),
        )
        parts.append(
            Part(section, slug, sweeps, tuple(sheets), tuple(lacks), tuple(table for table in tables if table))
        )
    first = paper_table(sections)
    atlas = atlas_table([(part.section, part.sweeps.points) for part in parts]) if first else None
    lacking = Missing(
        "The paper's Table 1 beside our figures",
        f"no point on one of the paper's tasks ({', '.join(paper()['table1'])})",
        "python -m bild.run experiment=paper/xsum-aligned-rb2-fb0.6",
    )
    apart = difference_table(sections, [part.slug for part in parts])
    lines = [*(f"{_under(item.path, root)}: {item.why}" for item in skipped), *_lonely(sections, predicted, root)]
    found = tuple(table for table in (atlas, first, apart, seeds_table(sections)) if table is not None)
    missing = () if first else (lacking,)
    return Contents(root, tuple(parts), found, missing, tuple(skipped), tuple(lines), comparison)


def slugs(sections: Sequence[Section]) -> list[str]:
    """Return names of folders that tell sections apart: empty for a single one, numbered where they look alike."""
    if len(sections) == 1:
        return [""]
    names = (
        (s.task.name, s.pair.name, s.engine.name, s.engine.dtype, s.engine.device)
        for s in (each.first for each in sections)
    )
    found = [re.sub(r"[^\w.]+", "-", "-".join(parts)).strip("-.") for parts in names]
    return [
        slug if found.count(slug) == 1 else f"{slug}-{found[: index + 1].count(slug)}"
        for index, slug in enumerate(found)
    ]


def _lonely(sections: Sequence[Section], predicted: Sequence[tuple[Path, Predicted]], root: Path) -> list[str]:
    """Return lines on predictions that were made under no section's conditions."""
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


@dataclass(frozen=True)
class ReportFiles:
    """A report, and the files that were written of it."""

    shown: Contents
    text: Path | None
    page: Path | None
    figures: list[Path]
    tables: list[Path]


def write_report(
    root: Path, out: Path, other: Path | None = None, margin: float = MARGIN, only: Sequence[str] = ()
) -> ReportFiles:
    """Write the report on the results under `root` to the folder `out`, side by side with those under `other` if given.

    Points that may not be compared stand in sections of their own, each with its own figures and tables; verdicts are
    told at `margin`. BildError where nothing can be reported or `out` cannot be written.
    """
    return write_contents(contents(root, other, margin), folder_of(out), only)


def write_contents(found: Contents, out: Path, only: Sequence[str] = ()) -> ReportFiles:
    """Write what was gathered to the folder `out`: all, or `only` the figures and tables of these names, or the page.

    BildError for a name that the report does not have.
    """
    sheets, tables = found.sheets(), found.all_tables()
    stems = [*(sheet.stem for _, sheet in sheets), *(table.stem for _, table in tables)]
    known = [*dict.fromkeys(stems), PAGE]
    if unknown := [name for name in only if name not in known]:
        raise BildError(f"--only {unknown[0]} is no part of this report: choose among {', '.join(known)}.")

    def wanted(name: str) -> bool:
        return not only or name in only

    drawn = [path for slug, each in sheets if wanted(each.stem) for path in each.save(out / FIGURES / slug, VARIANTS)]
    told = [path for slug, each in tables if wanted(each.stem) for path in each.save(out / TABLES / slug)]
    text = None if only else write_text(out / TEXT, _report(found))
    page = None
    if wanted(PAGE):
        from bild.report.page import write_page

        page = write_page(found, out)
    _keep(out, [*drawn, *told, *filter(None, (text, page))], whole=not only)
    return ReportFiles(found, text, page, drawn, told)


@dataclass(frozen=True)
class Manifest:
    """The files of a report, each with its SHA-256: what a later one removes where it does not write them."""

    schema: int
    files: dict[str, str]


def _keep(out: Path, written: Sequence[Path], whole: bool) -> None:
    """Note what was written; a `whole` report removes what earlier ones wrote beside it and nobody has changed since.

    A kill in the middle of that leaves files that the next report removes: the note names them until they are gone.
    """
    path, before = out / MANIFEST, dict[str, str]()
    with contextlib.suppress(BildError):  # a damaged one names nothing
        before = read_json(Manifest, path, "", "", version=1).files if path.is_file() else before
    now = {file.relative_to(out).as_posix(): _digest(file) for file in written}
    write_json(path, Manifest(1, before | now))
    if whole:
        with writing(out, "the report is whole, with files of an earlier one beside it"):
            for name in before.keys() - now.keys():
                file, parts = out / name, PurePosixPath(name).parts
                ours = parts[:1] in ((FIGURES,), (TABLES,)) and ".." not in parts and not file.is_symlink()
                if ours and file.is_file() and _digest(file) == before[name]:
                    file.unlink()
                    with contextlib.suppress(OSError):  # others are in it
                        file.parent.rmdir()
        write_json(path, Manifest(1, now))


def _digest(file: Path) -> str:
    return hashlib.sha256(read_file(file)).hexdigest()


def markdown(section: Section) -> str:
    """Write the points of a section as Markdown, with the ends of every interval."""
    title = f"## {escape_markdown(section.title)}\n\n{escape_markdown(section.conditions)}"
    return f"{title}\n\n{points_table(section).markdown()}"


def _report(found: Contents) -> str:
    """Write the whole report as Markdown."""
    points = sum(len(part.section.records) for part in found.parts)
    blocks = [f"# Speed against quality\n\n{plural(points, 'point')} in {plural(len(found.parts), 'section')}."]
    if len(found.parts) > 1:
        blocks[0] += " Points of different sections may not be compared; what differs stands in the table below."
    blocks += [table.markdown() for table in found.tables]
    titles = [section.title for section in found.sections]
    for part in found.parts:
        section, folder = part.section, "/".join(filter(None, (FIGURES, part.slug)))
        title = section.title if titles.count(section.title) == 1 else f"{section.title} ({part.slug})"
        blocks.append(f"## {escape_markdown(title)}\n\n{escape_markdown(section.conditions)}")
        blocks += [sheet.markdown(folder) for sheet in part.sheets] + [table.markdown() for table in part.tables]
        blocks += ["### Not shown", "\n".join(each.markdown() for each in part.missing)] if part.missing else []
    if both := found.comparison:
        blocks.append(f"## {escape_markdown(str(both.left))} beside {escape_markdown(str(both.right))}")
        for side in both.sides:
            blocks += [side.sheet.markdown(FIGURES), *(table.markdown() for table in side.tables)]
        blocks += _list("Without a like section in the other folder:", both.unmatched)
    blocks += ["## Not shown", "\n".join(each.markdown() for each in found.missing)] if found.missing else []
    return _join([*blocks, *_list("## Left out", found.left_out)])


def _list(heading: str, lines: Sequence[str]) -> list[str]:
    return [heading, "\n".join(f"- {escape_markdown(line)}" for line in lines)] if lines else []


def _join(blocks: Sequence[str]) -> str:
    return "\n\n".join(block.rstrip("\n") for block in blocks) + "\n"
