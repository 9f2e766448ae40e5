"""The table and the figure of a bench: what they show, and the same bytes twice."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib import get_configdir

from bild.errors import BildError
from bild.report.bench import bench_sheet, bench_tables, main, notes, save_bench
from bild.results.bench import (
    ABSENT,
    BENCH_VERSION,
    FAILED,
    MEASURED,
    BackendRow,
    BenchResult,
    Overhead,
    Rates,
    Roofline,
    SameTokens,
    Spread,
    Verification,
    read_bench,
)
from bild.results.codec import write_json
from tests.cli.commands import REPOSITORY

FLOOR, SMALL_FLOOR = Roofline(155_000_000, 77_000_000, 5.0, "read"), Roofline(40_000_000, 77_000_000, 1.3, "read")
FLOORS = {width: Roofline(155_000_000, 77_000_000 * width, max(5.0, 0.8 * width), "read") for width in (1, 4, 16)}


def spread(value: float) -> Spread:
    return Spread(value, 0.9 * value, 1.2 * value)


def row(ms: float, kind: str = "peer", **changes: Any) -> BackendRow:
    roofline = changes.pop("roofline", FLOOR)
    filled: dict[str, Any] = {
        "kind": kind,
        "status": MEASURED,
        "precision": "fp32",
        "ms_per_token": spread(ms),
        "ttft_ms": spread(60.0),
        "speedup": spread(26.0 / ms),
        "gb_per_s": 155 / ms,
        "gflop_per_s": 77 / ms,
        "roofline": roofline,
        "over_roofline": ms / roofline.ms,
        "agreement": SameTokens("generate", 7, 7),
        "repeats_ms": {0: ms},
    }
    if kind == "engine":
        filled["verification"] = {
            width: Verification(spread(ms * (1 + width / 16)), spread(1 + width / 16), ms / FLOORS[width].ms)
            for width in FLOORS
        }
    return BackendRow(**(filled | changes))


def result(**changes: Any) -> BenchResult:
    rows = {
        "hf": row(26.0, "engine"),
        "fused": row(12.0, "engine"),
        "newcomer": row(13.0, "engine"),
        "generate": row(26.5, agreement=None),
        "assisted": BackendRow("peer", "skipped", "random weights", "fp32"),
        "generate-static": BackendRow("peer", FAILED, "list index out of range", "fp32"),
        "ctranslate2": BackendRow("peer", ABSENT, "not installed", "fp32"),
        "ctranslate2-int8": row(
            6.0, precision="int8", roofline=SMALL_FLOOR, agreement=SameTokens("generate", 5, 7, 4, 0.071)
        ),
        "fused, small model": row(2.0, "small", roofline=FLOOR),
    }
    filled: dict[str, Any] = {
        "schema": BENCH_VERSION,
        "name": "t5-small-fp32-cpu",
        "title": "t5-small (random weights)",
        "created": "2026-01-01T00:00:00+00:00",
        "command": "python -m bild.bench shape=t5-small",
        "dtype": "fp32",
        "device": "cpu",
        "threads": 1,
        "settings": {"source_length": 64, "tokens": 32},
        "model": {"parameters": 60_506_624},
        "environment": {
            "machine": {"name": "AMD EPYC, 2 threads"},
            "state": {"load_1min": 0.5},
            "state_after": {"load_1min": 1.0},
            "busy": None,
            "packages": {"torch": "2.13.0"},
            "git": {"sha": "0123456789abcdef", "dirty": False},
        },
        "rates": Rates(31.0, 155.8, 97.0, 1024, spread(25.0), spread(80.0)),
        "rooflines": FLOORS,
        "rows": rows,
        "overhead": Overhead(spread(1.7), 5.8, 70.0, 0.0002, "fused"),
        "repeats": 7,
    }
    return BenchResult(**(filled | changes))


def words(figure: Any) -> list[str]:
    return [text.get_text() for text in (*figure.texts, *(text for axes in figure.axes for text in axes.texts))]


def test_the_table_has_the_roofline_and_every_row() -> None:
    decode, widths = bench_tables(result())
    lines = decode.rows
    assert [line[0] for line in lines] == ["roofline, fp32", *result().rows]
    by_name = {line[0]: line[1:] for line in lines}
    assert by_name["roofline, fp32"][0] == "5.00"
    assert by_name["fused"][:2] == ("12.0 (10.8–14.4)", "2.17 (1.95–2.60)")
    assert by_name["fused"][4:] == ("2.40", "60.0", "7/7")
    assert by_name["ctranslate2"][0] == "absent"
    assert by_name["generate-static"][0] == "failed"
    assert widths.rows[2] == ("fused", "12.8 (1.06)", "15.0 (1.25)", "24.0 (2.00)")


def test_the_notes_tell_what_the_numbers_hide() -> None:
    text = "\n".join(notes(result()))
    for needed in (
        "over 31 GB/s (best sum of 155.8 MB)",
        "in the loop, median: 25 GB/s and 80 GFLOP/s",
        "1.70 µs a pass, 0.02 % of a round of 5.8 passes (70.0 ms, fused)",
        "generate-static: list index out of range.",
        "ctranslate2: not installed.",
        "ctranslate2-int8: parts from generate at token 5, where the large model prefers that token by 0.071 nats.",
        "torch 2.13.0, git 0123456789",
    ):
        assert needed in text
    assert "stopped after 3 whole repeats" in "\n".join(notes(result(repeats=3, interrupted=True)))


def test_bars_from_the_slowest_to_the_fastest_with_the_roofline_as_a_line() -> None:
    figure = bench_sheet(result()).draw()
    bars, widths = figure.axes
    names = [label.get_text() for label in bars.get_yticklabels()]
    assert names == ["generate", "hf", "newcomer", "fused", "ctranslate2-int8"]
    assert [patch.get_width() for patch in bars.patches] == [26.5, 26.0, 13.0, 12.0, 6.0]  # type: ignore[attr-defined]
    assert "roofline 5.00" in words(figure)
    assert "12.0  (2.4× roofline)" in words(figure)
    assert "6.00  (4.6× roofline)" in words(figure)
    lines = {str(line.get_label()): line for line in widths.get_lines()}
    assert list(lines["fused"].get_xdata()) == [1, 4, 16]  # type: ignore[arg-type]
    assert list(lines["fused"].get_ydata()) == [1.0625, 1.25, 2.0]  # type: ignore[arg-type]
    assert {"hf", "fused", "newcomer"} <= set(lines)


def test_the_axis_is_logarithmic_where_the_fast_would_be_squeezed() -> None:
    slow = {**result().rows, "slow": row(60.0)}
    assert bench_sheet(result(rows=slow)).draw().axes[0].get_xscale() == "log"
    assert bench_sheet(result()).draw().axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("rows", [None, {"generate": row(26.0)}], ids=["all", "one"])
def test_all_words_are_within_the_figure(rows: dict[str, BackendRow] | None) -> None:
    figure = bench_sheet(result(rows=rows) if rows else result()).draw()
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for text in (*figure.texts, *(text for axes in figure.axes for text in (*axes.texts, *axes.get_yticklabels()))):
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
        assert box.y0 >= 0, text
        assert box.y1 <= figure.bbox.height, text


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(BildError, match="has no measured row"):
        bench_sheet(result(rows={"ctranslate2": BackendRow("peer", ABSENT, "not installed")}))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_the_same_result_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    write_json(tmp_path / "json" / "x.json", result(), indent=1)
    assert read_bench(tmp_path / "json" / "x.json") == result()
    here, there = tmp_path / "here", tmp_path / "there"
    save_bench(result(), here)
    there.mkdir()
    (there / "x.json").write_bytes((tmp_path / "json" / "x.json").read_bytes())
    command = [sys.executable, "-m", "bild.report.bench", str(there / "x.json")]
    env = {"PYTHONHASHSEED": "5", "HOME": str(tmp_path), "TZ": "UTC5", "MPLCONFIGDIR": get_configdir()}
    subprocess.run(command, cwd=REPOSITORY, env=env, check=True, capture_output=True)
    (there / "x.json").unlink()
    assert digests(here) == digests(there)
    assert list(digests(here)) == ["t5-small-fp32-cpu.png", "t5-small-fp32-cpu.svg"]


@pytest.mark.slow
def test_a_figure_takes_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from bild.report.bench import read_bench, save_bench\n"
        f"save_bench(read_bench(Path({str(tmp_path)!r}) / 'x.json'), Path({str(tmp_path)!r}))\n"
        "assert not {'torch', 'transformers', 'hydra'} & set(sys.modules)"
    )
    write_json(tmp_path / "x.json", result(), indent=1)
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)


def test_drawing_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main([str(tmp_path / "none.json")]) == 2
    assert "error: " in capsys.readouterr().err


def test_a_partial_result_is_drawn(tmp_path: Path) -> None:
    partial = dataclasses.replace(result(), name="x-partial", interrupted=True, repeats=1)
    assert [path.name for path in save_bench(partial, tmp_path)] == ["x-partial.png", "x-partial.svg"]
