from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from bild.report import make_section
from bild.report.figure import DARK, LIGHT, PALETTE, VARIANTS, Sheet, css_colors
from bild.report.figures import sheets_of
from bild.report.figures.front import front_sheet
from bild.results.parts import Joint
from tests.records import make_sweep

SWEEP = make_section(make_sweep(pair__name="mt5-large-aligned", joint=Joint(0.008, 0.4, -0.3)))


@cache
def shared() -> Sheet:
    """One that has been drawn already, where that is not what is tested."""
    return front_sheet(SWEEP)


@pytest.mark.slow
def test_all_variants_are_the_same_bytes_twice(tmp_path: Path) -> None:
    one, two = (front_sheet(SWEEP).save(tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in one] == [
        "pareto.svg",
        "pareto.pdf",
        "pareto.png",
        "pareto-dark.svg",
        "pareto-phone.svg",
        "pareto-phone-dark.svg",
    ]
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert b"CreationDate" not in one[1].read_bytes()
    assert len(VARIANTS) == 4


@pytest.mark.slow
def test_files_and_page_share_one_drawing_a_width(tmp_path: Path) -> None:
    drawn = []
    sheet = front_sheet(SWEEP)
    counted = Sheet("pareto", "", "", lambda theme, width: drawn.append(width) or sheet.make(theme, width))
    counted.save(tmp_path)
    assert counted.css_svg("phone").count("<svg") == 1
    assert (tmp_path / "pareto-phone.svg").read_text(encoding="utf-8") == counted.svg("light", "phone")
    assert drawn == ["print", "phone"]


def test_a_dark_figure_has_none_of_the_light_colours() -> None:
    sheet = shared()
    light, dark = sheet.svg("light"), sheet.svg("dark")
    found = set(re.findall(r"#[0-9a-f]{6}\b", dark))
    assert DARK.paper in found
    assert not found & {LIGHT.paper, LIGHT.ink, LIGHT.strong, *(LIGHT.text(color) for color in PALETTE)}
    assert len(dark) == len(light)


def test_one_svg_for_both_modes_names_every_colour_that_differs() -> None:
    svg = shared().css_svg("phone")
    light, dark = css_colors([svg])
    assert light.keys() == dark.keys()
    assert LIGHT.paper in light.values()
    assert DARK.paper in dark.values()
    plain = re.sub(r"var\(--bild-[0-9a-f-]+, (#[0-9a-f]{6})\)", r"\1", svg)
    assert "var(" not in plain
    assert plain == shared().svg("light", "phone")


@pytest.mark.spread(1)
@pytest.mark.parametrize("width", ["print", "phone"])
def test_nothing_is_outside_any_figure(width: str) -> None:
    sheets, missing = sheets_of(SWEEP)
    assert [sheet.stem for sheet in sheets] == ["pareto", "heat", "phases", "work"]
    assert all(each.command.startswith("python -m bild.") for each in missing)
    for sheet in sheets:
        figure = sheet.draw("dark", width)
        figure.draw_without_rendering()
        whole = figure.bbox
        for text in (*figure.texts, *(each for axes in figure.axes for each in (axes.xaxis.label, axes.yaxis.label))):
            box = text.get_window_extent()
            assert box.x0 >= -1, (sheet.stem, text.get_text())
            assert box.x1 <= whole.width + 1, (sheet.stem, text.get_text())
        legend = figure.legends[0].get_window_extent() if figure.legends else None
        assert legend is None or legend.x1 <= whole.width + 1
        lowest = min(text.get_window_extent().y0 for text in figure.texts)
        assert lowest >= 0
        for axes in figure.axes:
            assert legend is None or legend.y0 >= axes.get_window_extent().y1 - 1, sheet.stem


def test_the_overlay_says_on_the_figure_where_it_comes_from() -> None:
    figure = front_sheet(SWEEP).draw()
    words = " ".join(text.get_text() for text in figure.texts)
    names = " ".join(text.get_text() for text in figure.legends[0].get_texts())
    assert "measured by others on another machine (NVIDIA T4, fp32)" in words
    assert "without a decoder cache" in words
    assert "reproduction (T4, no decoder cache)" in names
