"""The page as one file: template, style, scripts, libraries and data put together, and shut off from the network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bild.report.figure import css_colors

if TYPE_CHECKING:
    from bild.report.figure import Sheet
    from bild.report.report import Contents

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
    return (
        text.replace("&", "\\u0026")
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


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
        blocks.append(_section("figures", "Figures", f"{style}{sheets}{''.join(missing)}"))
    if tables:
        blocks.append(_section("tables", "Tables", "".join(table.html() for table in tables)))
    return "\n".join(blocks)


def _section(name: str, title: str, body: str) -> str:
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
