"""The report's other figures and its tables, as markup for the page. All text is escaped here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from bild.report.figure import css_colors

if TYPE_CHECKING:
    from bild.report.contents import Contents
    from bild.report.figure import Missing, Sheet
    from bild.report.table import Table

SVG_BYTES = 900_000
"""Of all figures together: those that do not fit stay files beside the page."""
_SVG = re.compile(r"<svg\b.*</svg>", re.S)
_ID = re.compile(r'(?<=\bid=")|(?<=url\(#)|(?<=xlink:href="#)|(?<=\bhref="#)')


def extras(contents: Contents) -> str:
    """A section of figures and one of tables; empty where the report has none."""
    found, left = [], SVG_BYTES
    sheets = [sheet for part in contents.parts for sheet in part.sheets]
    svgs = []
    for index, sheet in enumerate(sheets):
        svg = sheet.css_svg("phone")
        markup = _figure(sheet, svg, index)
        if len(markup) <= left:
            svgs.append(svg)
            found.append(markup)
            left -= len(markup)
    missing = [_missing(each) for part in contents.parts for each in part.missing]
    tables = [*contents.tables, *(table for part in contents.parts for table in part.tables)]
    blocks = []
    if found or missing:
        style = f"<style>{_colors(svgs)}</style>" if svgs else ""
        blocks.append(
            _section("figures", "Figures", f'{style}<div class="sheets">{"".join(found)}</div>{"".join(missing)}')
        )
    if tables:
        blocks.append(_section("tables", "Tables", "".join(map(_table, tables))))
    return "\n".join(blocks)


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{body}</section>'


def _colors(svgs: Sequence[str]) -> str:
    """The figures' colours in both themes, as a style sheet."""
    light, dark = ("".join(f"{name}:{color};" for name, color in each.items()) for each in css_colors(svgs))
    return f':root{{{light}}}@media screen{{:root[data-theme="dark"]{{{dark}}}}}'


def _figure(sheet: Sheet, svg: str, index: int) -> str:
    """The SVG without its prologue; ids are made unique, because several figures stand in one document."""
    drawn = _SVG.search(svg)
    assert drawn is not None
    svg = _ID.sub(f"f{index}-", drawn[0])
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(sheet.title)}" ', 1)
    caption = f"<figcaption><strong>{escape(sheet.title)}.</strong> {escape(sheet.caption)}</figcaption>"
    return f"<figure>{svg}{caption}</figure>"


def _missing(missing: Missing) -> str:
    return (
        f'<p class="note"><strong>{escape(missing.title)}</strong> is not here: {escape(missing.why)}. Make it: '
        f"<code>{escape(missing.command)}</code></p>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in table.headings)
    rows = "".join(_row(row) for row in table.rows)
    notes = "".join(f'<p class="quiet">{escape(note)}</p>' for note in table.notes)
    return (
        f'<div class="table-block"><h3>{escape(table.title)}</h3>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{notes}</div>"
    )


def _row(row: Iterable[str]) -> str:
    first, *others = row
    return f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(text)}</td>" for text in others)}</tr>'
