"""One self-contained HTML page of a report: it opens from a disk, makes no request, and replays thresholds itself.

Its data first; then template, style, scripts and libraries put together around them, and shut off from the network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import Setting
from bild.errors import BildError
from bild.report.figure import css_colors
from bild.report.figures.front import spans_of
from bild.report.format import interval_name, metric_name, setting_of
from bild.report.page.points import Grid, grids_of, place, replayed, section_points
from bild.report.page.sample import sample_of
from bild.report.points import session_note
from bild.report.predictions import FB, RB
from bild.report.sections import Section
from bild.report.table import write_text
from bild.results import Record
from bild.results.predicted import PredictedPoint
from bild.results.prices import PRICES, read_prices

if TYPE_CHECKING:
    from bild.report.figure import Sheet
    from bild.report.report import Contents, Part
    from bild.tree import Tree

HERE = Path(__file__).parent
VENDOR = ("d3.min.js", "plot.umd.min.js")
SCRIPTS = (
    *("dom", "share", "tree", "policy", "score", "prices"),
    *("replays", "tokens", "front", "explore", "examples", "main"),
)
"""In the order they need each other."""
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'none'; base-uri 'none'; form-action 'none'"
)
"""Nothing is fetched, and no script runs but those that were put in here, whose hashes it names."""
SVG_BYTES = 900_000
"""The most that all figures may take together: those that do not fit stay files beside the page."""
_SVG = re.compile(r"<svg\b.*</svg>", re.S)
_ID = re.compile(r'(?<=\bid=")|(?<=url\(#)|(?<=xlink:href="#)|(?<=\bhref="#)')
_SLOT = re.compile(r"\{\{(\w+)\}\}")
NAME = "index.html"
SAMPLE_BYTES = 2_500_000
"""The most that all samples of a page may take together."""
NOTHING = "There is nothing to replay here"


def write_page(contents: Contents, out: Path) -> Path:
    """Write `index.html` to the folder `out` and return its path. BildError where it cannot be written."""
    tasks = sorted({part.section.first.task.name for part in contents.parts})
    title = f"BiLD on {' and '.join(tasks) if len(tasks) < 3 else f'{len(tasks)} tasks'}"
    return write_text(Path(out) / NAME, document(title, page_data(contents.parts, contents.left_out), extras(contents)))


def page_data(parts: Sequence[Part], left_out: Sequence[str]) -> dict[str, Any]:
    """Return all data of the page, ready for JSON."""
    told = [_section(part, index, SAMPLE_BYTES // len(parts)) for index, part in enumerate(parts)]
    names = [section["name"] for section in told]
    for index, section in enumerate(told):
        if names.count(section["name"]) > 1:
            section["name"] += f" ({names[: index + 1].count(section['name'])})"
    about = _about([part.section for part in parts])
    return {"schema": 1, "sections": told, "about": about, "left_out": list(left_out)}


def _section(part: Part, index: int, bytes_: int) -> dict[str, Any]:
    section = part.section
    sample, grids, missing = _sample(part, bytes_)
    points = section_points(section, part.sweeps.points, grids)
    hollow = (
        " Hollow marks are predicted and have no bars here; dashed: their front."
        if any(not p["measured"] for p in points)
        else ""
    )
    return {
        "index": index,
        "name": f"{section.first.task.name}, {section.first.pair.name}, {section.first.engine.dtype}",
        "title": section.title,
        "conditions": f"{section.conditions}; {section.size}. {session_note(section)}",
        "metric": metric_name(section.first),
        "caption": (
            f"Up: {metric_name(section.first)} less vanilla's {section.base:.2f}, paired; bands: losses of "
            f"{section.margin:g} and 1 point. Full marks are shown to lose at most {section.margin:g}, pale ones not. "
            f"Bars are {interval_name(section.first)}; the line is the front.{hollow}"
        ),
        "chosen": next((section.records.index(chosen) for chosen in section.picks if chosen is not None), None),
        "margin": section.margin,
        "spans": spans_of(section, part.sweeps.points),
        "points": points,
        "sample": sample,
        "missing": missing,
    }


def _sample(part: Part, bytes_: int) -> tuple[dict[str, Any] | None, list[Grid], str]:
    """Return the section's sample and its grids, or None and why there is none."""
    record = part.section.first
    folder, predicted = _tree_folder(part)
    if folder is None:
        why = "there is no decision tree beside these results. To grow one, run"
        return None, [], f"{NOTHING}: {why} {part.section.command('sweep')}"
    from bild.tree import open_tree

    try:
        tree = open_tree(folder)
        if tree.identity["data"] != record.quality.data:
            return None, [], f"{NOTHING}: the decision tree beside these results is of other examples."
        points = settings_of(tree, predicted, part.section.records)
        if not points:
            return None, [], f"{NOTHING}: the tree beside these results reaches no setting that has rounds."
        prices = read_prices(tree.path / PRICES) if (tree.path / PRICES).is_file() else None
        grids = grids_of(points)
        sample = sample_of(tree, points, record.quality.headline, prices, bytes_=bytes_)
        sample |= {"grids": [grid.told() for grid in grids], "start": _start(part.section, grids)}
        return sample, grids, ""
    except BildError as error:
        return None, [], f"{NOTHING}: {error}"


def _tree_folder(part: Part) -> tuple[Path | None, Sequence[PredictedPoint]]:
    """Return the tree of the newest predictions, and these; else one that lies beside the section's points."""
    if part.sweeps.trees:
        return list(part.sweeps.trees.items())[-1]
    beside = next((path.parent / "tree" for path in part.section.folders.values()), None)
    return beside if beside is not None and beside.is_dir() else None, ()


def settings_of(tree: Tree, predicted: Sequence[PredictedPoint], records: Sequence[Record]) -> list[Setting]:
    """Return each setting once that the page replays: those predicted from the tree, and any measured one it reaches.

    Without predictions nothing says what the tree was grown for, so those of a usual grid are tried.
    """
    swept = [setting_of(point) for point in predicted]
    tried = [setting_of(record) for record in records]
    tried += [] if predicted else [(MethodConfig("bild"), ThresholdConfig(fb, rb)) for fb in FB for rb in RB]
    found = [point for point in swept if point is not None and replayed(point)]
    for point in tried:
        if point is not None and replayed(point) and point not in found and _reaches(tree, point):
            found.append(point)
    return found


def _reaches(tree: Tree, point: Setting) -> bool:
    try:
        return not tree.missing([point])
    except BildError:  # a tree of an older format knows no ranks
        return False


def _start(section: Section, grids: Sequence[Grid]) -> dict[str, int]:
    """Return where the sliders begin: at a pick: the fastest shown, else one of the paper's; else in a middle."""
    for chosen in section.picks:
        if chosen is not None and (found := place(grids, setting_of(chosen))):
            return found
    return {"grid": 0, "fb": len(grids[0].fbs) // 2, "value": len(grids[0].values) // 2}


def _about(sections: Sequence[Section]) -> list[str]:
    """Say where the numbers come from, a sentence or two for each section."""
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


def vendored() -> dict[str, dict[str, str]]:
    """Return for each bundled library: package, version, registry, file, licence and sha256."""
    found: dict[str, dict[str, str]] = json.loads((HERE / "vendor" / "vendored.json").read_text(encoding="utf-8"))
    return found


def document(title: str, data: Mapping[str, Any], figures: str = "") -> str:
    """Return the whole page. `title` and `data` are escaped here; `figures` must be safe markup."""
    sources = [(HERE / "vendor" / name).read_text(encoding="utf-8") for name in VENDOR]
    sources += [(HERE / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    sources = [f"\n{source.strip()}\n" for source in sources]
    versions = vendored()
    return fill(
        (HERE / "template.html").read_text(encoding="utf-8"),
        {
            "title": html.escape(title),
            "policy": POLICY.format(scripts=" ".join(f"'sha256-{_digest(source)}'" for source in sources)),
            "style": (HERE / "style.css").read_text(encoding="utf-8").strip(),
            "figures": figures,
            "data": script_safe(json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))),
            "scripts": "\n".join(f"<script>{source}</script>" for source in sources),
            "d3": versions["d3.min.js"]["version"],
            "plot": versions["plot.umd.min.js"]["version"],
        },
    )


def script_safe(text: str) -> str:
    """Return JSON that can stand in a <script>: no tag, comment or line end of JavaScript's can begin in it."""
    return re.sub("[&<>\u2028\u2029]", lambda sign: f"\\u{ord(sign[0]):04x}", text)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return the template with every {{name}} replaced, once: what is put in is not looked at again."""
    return _SLOT.sub(lambda slot: values[slot[1]], template)


def _digest(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest()).decode("ascii")


def extras(contents: Contents) -> str:
    """Return a section of figures and one of tables as safe markup; empty where the report has none."""
    found, svgs, left = [], [], SVG_BYTES
    for index, sheet in enumerate(sheet for part in contents.parts for sheet in part.sheets):
        svg = sheet.css_svg("phone")
        markup = _figure(sheet, svg, index)
        if len(markup) <= left:
            svgs.append(svg)
            found.append(markup)
            left -= len(markup)
    missing = [each.html() for part in contents.parts for each in part.missing]
    tables = [*contents.tables, *(table for part in contents.parts for table in part.tables)]
    blocks = []
    if found or missing:
        light, dark = ("".join(f"{name}:{color};" for name, color in each.items()) for each in css_colors(svgs))
        colors = f':root{{{light}}}@media screen{{:root[data-theme="dark"]{{{dark}}}}}'
        style = f"<style>{colors}</style>" if svgs else ""
        sheets = f'<div class="sheets">{"".join(found)}</div>'
        blocks.append(_part("figures", "Figures", f"{style}{sheets}{''.join(missing)}"))
    if tables:
        blocks.append(_part("tables", "Tables", "".join(table.html() for table in tables)))
    return "\n".join(blocks)


def _part(name: str, title: str, body: str) -> str:
    return f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{body}</section>'


def _figure(sheet: Sheet, svg: str, index: int) -> str:
    """Return the SVG without its prologue; ids are made unique, because several figures stand in one document."""
    drawn = _SVG.search(svg)
    assert drawn is not None
    svg = _ID.sub(f"f{index}-", drawn[0])
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(sheet.title)}" ', 1)
    caption = f"<figcaption><strong>{html.escape(sheet.title)}.</strong> {html.escape(sheet.caption)}</figcaption>"
    return f"<figure>{svg}{caption}</figure>"
