from __future__ import annotations

import hashlib
import itertools
import math
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from matplotlib import get_configdir
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

from bild.errors import BildError
from bild.report import draw, make_section, save
from bild.report.figures.front import library_position
from bild.report.labels import Box, extent
from bild.results import Interval, Record
from bild.results.parts import Library
from tests.records import SWEEP, VANILLA_QUALITY, make_point, make_record, make_sweep
from tests.report.test_labels import holds, overlaps

REPOSITORY = Path(__file__).parents[2]
SAVE = """
import sys
from pathlib import Path
from bild.report import save
from tests.records import make_sweep
save(make_sweep(), Path(sys.argv[1]))
"""


@cache
def usual() -> Figure:
    """The sweep that most tests look at. Shared: tests must not change it."""
    return draw(make_sweep())


def marks(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """The points of each named series."""
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()]  # type: ignore[union-attr]
        for line in figure.axes[0].get_lines()
        if not str(line.get_label()).startswith("_")
    }


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in (*figure.texts, *figure.axes[0].texts)]


def labels(figure: Figure) -> list[Annotation]:
    return [text for text in figure.axes[0].texts if isinstance(text, Annotation)]


def dense() -> list[Record]:
    """Far more points on one spot than there is room for names."""
    return make_sweep() + [
        make_point("bild", 0.01 * i, float(j), 10, 1.5 + 0.004 * i, 40.0 + 0.01 * j, 5.0, 1.0)
        for i in range(1, 9)
        for j in range(1, 6)
    ]


def test_every_point_is_drawn_in_its_series() -> None:
    records = make_sweep()
    shown = marks(usual())
    assert shown["vanilla (large model)"] == [(1.0, 0.0)]
    assert shown["small model"] == [(2.61, records[1].headline_difference.value)]  # type: ignore[union-attr]
    assert shown["speculative"] == [(1.21, 0.0)]
    bild = [line for line in usual().axes[0].get_lines() if line.get_label() == "BiLD fb/rb"]
    assert sorted((float(x), float(y)) for line in bild for x, y in line.get_xydata()) == sorted(  # type: ignore[union-attr]
        (record.latency.speedup.total.value, record.headline_difference.value)
        for record in records
        if record.method.name == "bild" and record.headline_difference is not None
    )


def test_full_marks_are_shown_pale_ones_are_not() -> None:
    lines = usual().axes[0].get_lines()
    full = [line.get_xydata()[0][0] for line in lines if line.get_label() == "BiLD fb/rb" and _is_full(line)]  # type: ignore[index]
    assert sorted(full) == [1.53, 1.62, 1.64]


def _is_full(line: Line2D) -> bool:
    return isinstance(line.get_markerfacecolor(), str)


def test_scores_stand_at_the_right_and_margins_as_bands() -> None:
    figure = usual()
    figure.draw_without_rendering()
    axes = figure.axes[0]
    (scores,) = axes.child_axes
    assert scores.get_ylim() == pytest.approx([VANILLA_QUALITY + end for end in axes.get_ylim()])
    assert {"−0.5", "−1"} <= set(words(figure))


def test_the_front_is_a_line_through_what_nothing_beats() -> None:
    line = marks(usual())["Pareto front"]
    assert line == sorted(line)
    assert line[0] == pytest.approx((1.53, 0.05))
    assert line[-1] == pytest.approx((2.61, 35.62 - VANILLA_QUALITY))
    assert 1.70 not in {speedup for speedup, _ in line}
    assert (1.0, 0.0) not in line


def test_both_intervals_are_bars() -> None:
    record = make_point("bild", 0.6, 2.0, 10, 1.5, 39.0, 5, 1)
    lines = [line.get_xydata().tolist() for line in draw([record]).axes[0].get_lines()]  # type: ignore[union-attr]
    speed, lost = record.latency.speedup.total, record.headline_difference
    assert lost is not None
    assert [[speed.low, lost.value], [speed.high, lost.value]] in lines
    assert [[speed.value, lost.low], [speed.value, lost.high]] in lines


def test_a_wild_interval_leaves_the_frame_and_squeezes_no_point() -> None:
    records = make_sweep()
    records[3] = make_point(*SWEEP[3], latency__speedup__total=Interval(1.53, 0.02, 90.0))
    left, right = draw(records).axes[0].get_xlim()
    assert -0.2 < left < 1
    assert 2.61 < right < 4


def test_points_are_named_by_their_thresholds() -> None:
    records = [*make_sweep(), make_point("bild", 0.0, math.inf, 10, 2.2, 37.0, 0.0, 0.0)]
    texts = words(draw(records))
    assert {"0.9/2", "0.5/5", "0/∞", "vanilla", "small", "speculative k10"} <= set(texts)


def test_an_unusual_draft_limit_is_told() -> None:
    texts = words(draw([*make_sweep(), make_point("bild", 0.6, 2.0, 4, 1.4, 40.0, 0.0, 0.0)]))
    assert "0.6/2 k4" in texts
    assert "0.6/2" in texts


def test_the_authors_rules_have_a_mark_of_their_own() -> None:
    records = [*make_sweep()[:4], make_record(method__rules="authors", threshold__fb=0.7)]
    assert "BiLD, authors' rules" in marks(draw(records))


@pytest.mark.spread(1)
@pytest.mark.parametrize("records", [make_sweep(), dense()], ids=["sweep", "dense"])
def test_no_label_overlaps_another_or_a_point(records: list[Record]) -> None:
    figure = draw(records)
    figure.draw_without_rendering()  # moves the texts to their places
    axes = figure.axes[0]
    boxes, section = [extent_of_text(note) for note in labels(figure)], make_section(records)
    assert len(boxes) >= (13 if len(records) < 40 else 8)  # of many, only the front and the picks are named
    for one, other in itertools.combinations(boxes, 2):
        assert not overlaps(one, other)
    for record in records:
        x, y = axes.transData.transform(section.at(record))
        assert not any(overlaps(box, Box(x - 4, y - 4, x + 4, y + 4)) for box in boxes)
    frame = Box(*axes.get_window_extent().extents)
    assert all(holds(frame, box) for box in boxes)


def test_a_long_name_at_the_edge_stays_within_the_frame() -> None:
    records = [make_sweep()[0], make_point("some-method-with-a-long-name", None, None, None, 1.5, 39.0, 0, 0)]
    figure = draw(records)
    figure.draw_without_rendering()
    frame = Box(*figure.axes[0].get_window_extent().extents)
    names = {note.get_text(): extent_of_text(note) for note in labels(figure)}
    assert holds(frame, names["some-method-with-a-long-name"])
    assert holds(frame, names["vanilla"])


def extent_of_text(note: Annotation) -> Box:
    """Without its leader."""
    renderer = note.figure.canvas.get_renderer()  # type: ignore[union-attr]
    return Box(*Text.get_window_extent(note, renderer).extents)


def test_points_without_room_for_a_label_are_counted_and_the_front_goes_first() -> None:
    figure = draw(dense())
    named = set(words(figure))
    missing = len(dense()) - sum(note.get_text() != "" for note in labels(figure)) + 1  # one note is the library's
    assert missing > 0
    assert f"{missing} points without a label" in " ".join(words(figure))
    assert "0.5/5" in named
    assert not any("without a label" in text for text in words(usual()))


def test_title_and_caption_name_the_conditions() -> None:
    text = " ".join(words(usual())).replace("\n", " ")
    for needed in (
        "iwslt2017 (validation), pair mt5-aligned, BLEU",
        "fused engine, fp32, cuda, 1 thread; NVIDIA T4, 4 cores",
        "n = 888 examples",
        "95 % intervals",
        "1 session: the machine's state is not in the interval.",
    ):
        assert needed in text


@pytest.mark.spread(1)
@pytest.mark.parametrize("changes", [{}, {"environment__machine__name": "A very long name of a machine " * 5}])
def test_all_words_are_within_the_figure(changes: dict[str, str]) -> None:
    figure = draw([*make_sweep(**changes), make_record(method__rules="authors", **changes)])
    figure.draw_without_rendering()  # places the legend
    for text in (*figure.texts, *figure.axes[0].texts, *figure.legends[0].get_texts()):
        box = extent(text)
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y0 >= 0
        assert box.y1 <= figure.bbox.height


def test_the_library_stands_where_vanilla_puts_it() -> None:
    records = make_sweep()
    assert library_position(records) == pytest.approx(1 / records[0].latency.library.speedup.value)  # type: ignore[union-attr]
    assert "library generate(): 0.30×" in words(usual())


def test_without_vanillas_record_times_per_token_place_the_library() -> None:
    assert library_position([make_record()]) == pytest.approx(9.68 / 32.1)


def test_without_a_timing_the_library_is_not_drawn() -> None:
    records = make_sweep(latency__library=None)
    assert library_position(records) is None
    assert not any("generate()" in text for text in words(draw(records)))


@pytest.mark.spread(1)
@pytest.mark.parametrize(("over", "marker"), [(1 / 0.95, "^"), (1 / 0.7, "^"), (4.0, "<"), (0.1, ">")])
def test_the_librarys_mark_is_an_arrow_where_it_lies_outside(over: float, marker: str) -> None:
    library = Library(32, 30.0, 32.1, make_record().latency.speedup.total)
    library = Library(32, 30.0, 32.1, type(library.speedup)(over, over * 0.98, over * 1.02))
    figure = draw(make_sweep(latency__library=library))
    (mark,) = [line for line in figure.axes[0].get_lines() if line.get_color() == "#6b6b6b"]
    left, right = figure.axes[0].get_xlim()
    (x,) = mark.get_xdata()  # type: ignore[misc]
    assert mark.get_marker() == marker
    assert x == pytest.approx(min(max(1 / over, left), right))


def test_points_that_may_not_be_compared_are_refused(tmp_path: Path) -> None:
    records = [*make_sweep(), make_record(engine__dtype="bf16")]
    with pytest.raises(BildError, match=r"differ in engine\.dtype \(fp32 and bf16\)"):
        save(records, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_single_point_is_drawn() -> None:
    assert len(labels(draw([make_record(latency__library=None)]))) == 1


def test_a_bootstrap_interval_need_not_hold_its_estimate() -> None:
    record = make_record(latency__speedup__total__low=1.61, quality__scores__bleu__high=39.0)
    assert marks(draw([record]))["BiLD fb/rb"] == [(1.6, -0.72)]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes_in_two_processes(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    other = {"PYTHONHASHSEED": "5", "HOME": str(tmp_path), "TZ": "UTC5", "MPLCONFIGDIR": get_configdir()}  # its fonts
    subprocess.run([sys.executable, "-c", SAVE, str(there)], cwd=REPOSITORY, env=other, check=True)
    save(make_sweep(), here)
    assert list(digests(here)) == ["pareto.png", "pareto.svg"]
    assert digests(here) == digests(there)


def test_the_files_are_whole_images_without_a_date(tmp_path: Path) -> None:
    png, svg = save(make_sweep(), tmp_path / "new" / "folder", "name")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert (png.name, svg.name) == ("name.png", "name.svg")
    text = svg.read_text(encoding="utf-8")
    assert text.rstrip().endswith("</svg>")
    assert "dc:date" not in text


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BildError, match=r"pareto.png cannot be written .*choose another folder"):
        save(make_sweep(), tmp_path / "file")


def test_a_far_small_model_stands_at_the_edge_with_where_it_lies_and_squeezes_nothing() -> None:
    records = [record for record in make_sweep() if record.method.name != "small"]
    near = draw(records).axes[0].get_xlim()
    small = next(point for point in SWEEP if point[0] == "small")
    beyond = make_point(*small[:4], 40.0, *small[5:])
    figure = draw([*records, beyond])
    assert figure.axes[0].get_xlim() == pytest.approx(near)
    assert any(text.startswith("small: 40.00×, ") for text in words(figure))
    assert not any(text.startswith("small: ") for text in words(draw(make_sweep())))


def test_a_name_with_dollar_signs_is_no_formula() -> None:
    import matplotlib.pyplot as plt

    from bild.report.figure import LIGHT, style

    with plt.rc_context(style(LIGHT)):
        assert not plt.rcParams["text.parse_math"]
