from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
from rich.console import Console

from bild.claims import claims_of
from bild.claims import table as claims_table
from bild.report import Table, make_section, markdown, points_table
from bild.report.bench import bench_tables
from bild.results import Interval, Record, Threshold
from bild.results.interval import Difference
from bild.results.parts import Library, SessionPace, Stationarity
from bild.results.predicted import Agreement, Metric
from bild.sweep.show import front_table
from tests.records import SIGNATURE, SWEEP, made_difference, made_method, make_point, make_record, make_sweep
from tests.report.sweeps import LIKE, guess
from tests.report.test_bench import result as bench


def printed(records: list[Record], width: int | None = None, margin: float = 0.5) -> str:
    """The table as a pipe has it, or as a terminal of this width."""
    table = points_table(make_section(records, margin=margin), brief=True)
    return rendered(table, table.width) if width is None else rendered(table.within(width), width)


def rendered(table: Table, width: int) -> str:
    """A table as a terminal of this width has it."""
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(table.rich())
    return capture.get()


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if f" {name} " in line.split("astest")[0] and "±" in line]
    return [cell for cell in line.replace("*", " ").split("  ") if cell.strip()]


def test_a_row_has_every_number_of_its_point() -> None:
    cells = [cell.strip() for cell in row(printed(make_sweep()), "BiLD 0.6/4")]
    assert cells == [
        "BiLD 0.6/4",
        "39.1 ±0.9",
        "-1.20 ±0.20",
        "refuted",
        "1.78 ±0.02",
        "1 session",
        "5.93 ±0.24",
        "5.44",
        "160/300/520?",
        "5.90",
        "0.97",
        "7.77",
    ]


def test_anchors_show_what_they_have() -> None:
    text = printed(make_sweep())
    assert [cell.strip() for cell in row(text, "vanilla")[1:]] == [
        "40.3 ±0.9",
        "–",
        "–",
        "1.00",
        "–",
        "3.33 ±0.13",
        "9.69",
        "160/300/520?",
        "–",
        "–",
        "1.00",
    ]
    assert [cell.strip() for cell in row(text, "small")[7:]] == ["3.71", "160/300/520?", "–", "–", "–"]


def test_points_on_the_front_are_starred() -> None:
    starred = {line[3:].split("  ")[0] for line in printed(make_sweep()).splitlines() if line.startswith("*  ")}
    assert "BiLD 0.7/4" in starred
    assert "small" in starred
    assert not {"vanilla", "BiLD 0.7/3", "speculative k10"} & starred


WIDE = [
    make_record(
        method__rules="authors",
        method__max_draft=12,
        threshold__fb=0.65,
        threshold__rb=math.inf,
        quality__difference={"bleu": made_difference(-12.345, -12.36, -12.33)},
        latency__speedup__total=Interval(12.3456, 12.344, 12.347),
        latency__ms_per_token=1234.5,
        hash=hash_,
    )
    for hash_ in ("a" * 64, "b" * 64)
]


def names(text: str) -> list[str]:
    """The names in the first column, unfolded: they begin at the fourth column, after the mark of the front."""
    found: list[str] = []
    end = text.index("Switches that differ") if "Switches that differ" in text else text.index("* on the front")
    for line in text[text.index("───") : end].splitlines()[1:]:
        part, *cells = (cell.strip() for cell in line[3:].split("  "))
        if any(cells):
            found.append(part)
        elif part:
            found[-1] += f" {part}"
    return found


@pytest.mark.parametrize("records", [make_sweep(), WIDE, [make_record(latency__library=None)]])
@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_shows_a_line_a_point_and_says_what_has_no_room(records: list[Record], width: int) -> None:
    text = printed(records, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert names(text) == list(make_section(records).names.values())
    assert "No room for: " in text
    assert "so does a pipe (| cat)" in " ".join(text.split())
    assert "No room for" not in printed(records)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_printed_table_has_a_line_a_row(width: int) -> None:
    section = make_section(make_sweep())
    points = [
        guess(0.1 * fb, rb, method__first="small", method__rules="authors") for fb in (2, 8) for rb in (1.0, 10.0)
    ]
    measured = Agreement(32, 1.5, Interval(1.2, 1.1, 1.3), 0.2, 0.2, False)
    points[0] = dataclasses.replace(points[0], agreement=measured, dropped="it took too long")
    sweep = SimpleNamespace(points=points, task="embedded", pair="embedded-aligned", engine=LIKE.engine, examples=1000)
    sweep.metric = Metric("rougeLsum", "")
    tables = [front_table(sweep, 0.5), *bench_tables(bench()), claims_table(section, claims_of(section, 0.5), 0.5)]  # type: ignore[arg-type]
    for table in tables:
        shown = table.within(width)
        lines = rendered(shown, width).partition("─")[2].splitlines()[1:]
        assert shown.width <= width, table.stem
        for row, line in zip(shown.rows, lines, strict=False):
            assert all(cell in line for cell in row), table.stem


def test_sixty_columns_hold_what_a_claim_needs() -> None:
    lines = printed(make_sweep(), 60).splitlines()
    (line,) = [line for line in lines if "BiLD 0.6/4" in line and "refuted" in line]
    assert line.split() == ["*", "BiLD", "0.6/4", "-1.20", "±0.20", "refuted", "1.78", "±0.02"]


def test_a_long_name_is_folded_between_its_words() -> None:
    lines = [line[3:].split("  ")[0].strip() for line in printed(WIDE, 60).splitlines()]
    assert lines[lines.index("BiLD 0.65/∞ k12") :][:2] == ["BiLD 0.65/∞ k12", "#aaaaaa"]


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (made_difference(-0.1, -0.3, 0.1), "shown"),
        (made_difference(-1.2, -1.4, -1.0), "refuted"),
        (made_difference(-0.3, -0.9, 0.3), "undecided +"),
    ],
)
def test_a_verdict_stands_beside_each_difference(difference: Difference, words: str) -> None:
    assert f" {words}" in printed([make_record(quality__difference={"bleu": difference})])
    assert "shown" in row(printed([make_record(quality__difference={"bleu": difference})], margin=2.0), "BiLD 0.6/2")[3]


def test_quality_and_speed_have_a_count_each() -> None:
    records = make_sweep(latency__examples=40)
    text = printed(records)
    assert "n=888" in text.splitlines()[4]
    assert "n=40" in text.splitlines()[4]
    records[3] = make_point(*SWEEP[3], latency__examples=12)
    assert " timed " in printed(records).splitlines()[4]
    assert "12 to 40 timed examples" in " ".join(printed(records).split())


def test_sessions_are_told_with_their_spread() -> None:
    several = [SessionPace(number, 200, 9.6, 1.6, 1.0) for number in range(5)]
    text = " ".join(printed(make_sweep(latency__sessions=several, latency__between=0.021, sessions=5)).split())
    assert " 2.1 % (5) " in text
    assert "5 sessions, whose spread is in the interval." in text
    assert "1 session: the machine's state is not in the interval." in " ".join(printed(make_sweep()).split())


def test_what_is_slower_than_the_library_is_not_recommended_without_saying_so() -> None:
    slow = [
        make_point(*row, latency__library=Library(32, 30.0, 32.1, Interval(0.5 * row[4], 0.4 * row[4], 0.6 * row[4])))
        for row in SWEEP
    ]
    text = " ".join(printed(slow).split())
    assert (
        "Fastest shown within 0.5 of vanilla: BiLD 0.8/3 (1.64 ±0.02×, slower than the library's generate(): 0.82×"
        in text
    )
    assert "slower than" not in printed(make_sweep())


def test_switches_that_differ_are_told() -> None:
    text = " ".join(printed([*make_sweep()[:3], make_record(method__first="small")]).split())
    assert "Switches that differ from the preset: first=small" in text


def test_the_footer_says_what_a_reader_must_know() -> None:
    text = " ".join(printed(make_sweep()).split())
    for needed in (
        SIGNATURE,
        "NVIDIA T4, 4 cores",
        "fp32",
        "fused engine",
        "888 examples",
        "95 % intervals",
        "Fastest shown within 0.5 of vanilla: BiLD 0.8/3 (1.64 ±0.02×). Picked on these examples and not confirmed",
        "as the paper chose, fastest BiLD at no loss: BiLD 0.9/2 (1.53 ±0.02×)",
        "at a loss of 1 point at most: BiLD 0.7/4 (1.73 ±0.02×)",
        "git 4f2a9c1d0b",
        "32 examples",
    ):
        assert needed in text


def test_warnings_are_shown() -> None:
    records = make_sweep()[1:3]
    drifting = dataclasses.replace(
        records[0].latency, stationarity=Stationarity(0.2, "the machine slowed down by 20 %")
    )
    records[0] = dataclasses.replace(records[0], latency=drifting)
    records[1] = dataclasses.replace(records[1], counts=dataclasses.replace(records[1].counts, truncated_sources=1))
    text = " ".join(printed(records).split())
    assert "Warning: the machine slowed down by 20 % (small)" in text
    assert "Note: 1 source cut at the length limit. (speculative k10)" in text
    assert "vanilla has no record of its own" in text
    assert "fastest BiLD at no loss: none" in text
    assert "Warning" not in printed(make_sweep())


def test_every_version_of_the_code_is_named() -> None:
    records = make_sweep()[:2]
    records.append(
        make_point("bild", 0.5, 1.0, 10, 1.2, 40.0, 1, 1, environment__git={"sha": "beef" * 10, "dirty": True})
    )
    records.append(make_point("bild", 0.5, 2.0, 10, 1.2, 40.0, 1, 1, environment__git={"sha": None, "dirty": None}))
    text = " ".join(printed(records).split())
    assert "git unknown, 4f2a9c1d0b, beefbeefbe with uncommitted changes" in text


def test_brackets_in_names_are_no_markup() -> None:
    assert "[red]task[/red]" in printed([make_record(task__name="[red]task[/red]")])


def test_markdown_has_the_same_rows_with_the_ends_of_the_intervals() -> None:
    records = make_sweep()
    text = markdown(make_section(records))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == len(records) + 2
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert (
        "| \\* | BiLD 0.6/4 | 39.13 [38.22, 40.07] | -1.200 [-1.404, -1.006] | refuted "
        "| 1.780 [1.760, 1.800] | 1 session | 5.927 [5.690, 6.164] | 5.44 | 160/300/520? | 5.90 | 0.97 | 7.77 | "
    ) in text.replace("\\[", "[").replace("\\]", "]")
    assert text.startswith("## iwslt2017 (validation), pair mt5-aligned, BLEU\n")
    assert SIGNATURE.replace("|", "\\|") in text


def test_a_pipe_in_a_name_does_not_break_the_markdown() -> None:
    text = markdown(make_section([make_record(method=made_method("a|b"), threshold=Threshold(None, None))]))
    assert "| a\\|b |" in text


def test_rouge_goes_by_its_full_name() -> None:
    score = make_record().headline
    record = make_record(quality__scores={"rougeLsum": score}, quality__headline="rougeLsum", quality__difference=None)
    assert "ROUGE-Lsum" in printed([record])
