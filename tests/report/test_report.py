from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bild.errors import BildError
from bild.report import write_report
from bild.report.__main__ import main
from bild.results import PointFolder
from tests.records import make_record, make_sweep

REPOSITORY = Path(__file__).parents[2]
COMMAND = """
import sys
from bild.report.__main__ import main
from bild.results import find_records, to_frame
code = main(sys.argv[1:])
to_frame(find_records(sys.argv[1])[0])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def one_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    """One file a figure: what all of them look like is tested elsewhere."""
    monkeypatch.setattr("bild.report.report.VARIANTS", (("", "light", "print", ("svg",)),))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Thirteen finished points and one that is not."""
    root = tmp_path / "results"
    for record in make_sweep():
        with PointFolder.open(root, "iwslt2017", "mt5", record.label, record.hash, {"engine": "fused"}) as folder:
            folder.finish(record)
    (root / "iwslt2017" / "mt5" / "bild-fb0.1-rb1-ababababab").mkdir()
    (root / "iwslt2017" / "mt5" / "bild-fb0.1-rb1-ababababab" / "config.yaml").write_text("{}")
    return root


def test_the_command_prints_the_table_and_writes_the_files_without_torch(results: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMAND, str(results), "--out", str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (modules,) = done.stderr.splitlines()  # and nothing else
    loaded = {name.partition(".")[0] for name in modules.split()}
    assert {"matplotlib", "pandas", "rich"} <= loaded
    assert not {"torch", "transformers", "hydra", "omegaconf"} & loaded
    assert {"report.md", "figures", "tables"} <= {path.name for path in (tmp_path / "demo").iterdir()}
    assert "BiLD 0.9/2" in done.stdout
    assert "Left out: iwslt2017/mt5/bild-fb0.1-rb1-ababababab: unfinished" in done.stdout
    assert f"Written: {tmp_path}/demo/index.html, {tmp_path}/demo/report.md, " in done.stdout
    assert "Not shown: Latency per example: " in done.stdout
    assert "Make it: python -m bild.run task=iwslt2017 " in done.stdout
    written = (tmp_path / "demo" / "report.md").read_text(encoding="utf-8")
    assert "| BiLD 0.9/2 |" in written
    assert 'src="figures/pareto.svg"' in written
    assert "## Left out\n\n- iwslt2017/mt5/bild-fb0.1-rb1-ababababab: unfinished" in written
    for name in ("pareto", "heat", "phases"):
        assert (tmp_path / "demo" / "figures" / f"{name}-phone-dark.svg").is_file()


@pytest.mark.slow
@pytest.mark.spread(1)
@pytest.mark.parametrize("columns", ["40", "100", "160"])
def test_the_table_is_whole_at_any_width(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main([str(results), "--out", str(tmp_path / "demo")]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert "39.1 ±0.9 -1.20 ±0.20 refuted 1.78 ±0.02" in " ".join(out.split())


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "broken", "unfinished"])
def test_nothing_usable_is_one_sentence_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    root = tmp_path / "results"
    if kind == "file":
        root.write_text("")
    elif kind != "missing":
        root.mkdir()
    if kind == "broken":
        (root / "record.json").write_text(json.dumps({"schema": 5}))
    if kind == "unfinished":
        (root / "samples.jsonl").write_text("")
    assert main([str(root), "--out", str(tmp_path / "demo")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(root) in err
    assert err.rstrip().endswith((".", "run."))
    assert not (tmp_path / "demo").exists()


def test_a_place_that_cannot_be_written_is_one_sentence_and_code_2(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(results), "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_wrong_option_is_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--no-such-option"]) == 2
    assert "--no-such-option" in capsys.readouterr().err


@pytest.mark.slow
def test_several_sections_have_a_figure_each(results: Path, tmp_path: Path) -> None:
    for index, changes in enumerate(
        (
            {"engine__dtype": "fp16"},
            {"environment__machine__fingerprint": "b"},
        )
    ):
        record = make_record(**changes)
        with PointFolder.open(results / f"more{index}", "t", "p", record.label, record.hash, {}) as folder:
            folder.finish(record)
    files = write_report(results, tmp_path / "demo")
    assert len(files.shown.sections) == 3
    assert [path.parent.name for path in files.figures if path.name == "pareto.svg"] == [
        "iwslt2017-mt5-aligned-fused-fp16-cuda",
        "iwslt2017-mt5-aligned-fused-fp32-cuda-1",
        "iwslt2017-mt5-aligned-fused-fp32-cuda-2",
    ]
    assert all(path.is_file() for path in (files.text, *files.figures, *files.tables))
    text = files.text.read_text(encoding="utf-8")
    assert text.count("\n## iwslt2017 ") == 3
    assert all(str(path.relative_to(tmp_path / "demo")) in text for path in files.figures)
    assert "### What keeps the sections apart" in text
    assert "| environment.machine | 9ab1c2 |" in text


@pytest.mark.parametrize("killed", [False, True])
def test_what_an_earlier_report_wrote_and_this_one_does_not_goes(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    record, out = make_record(engine__dtype="fp16"), tmp_path / "out"
    with PointFolder.open(results / "more", "t", "p", record.label, record.hash, {}) as folder:
        folder.finish(record)
    both = write_report(results, out)
    gone, changed = both.tables[0].parent, both.figures[0]
    assert gone.name.endswith("fp16-cuda")
    changed.write_text("of the user")
    (gone / "own.csv").write_text("of the user")
    (tmp_path / "victim").write_text("precious")
    listed = json.loads((out / "files.json").read_text())
    listed["files"]["figures/../../victim"] = hashlib.sha256(b"precious").hexdigest()
    (out / "files.json").write_text(json.dumps(listed))
    shutil.rmtree(results / "more")
    if killed:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", interrupt)
            with pytest.raises(KeyboardInterrupt):
                write_report(results, out)
        assert "fp16" not in (out / "report.md").read_text(encoding="utf-8")
    one = write_report(results, out)
    left = {path for path in out.rglob("*") if path.is_file()}
    whole = {one.text, one.page, *one.figures, *one.tables, out / "files.json"}
    assert left == whole | {changed, gone / "own.csv"}
    assert (tmp_path / "victim").read_text() == "precious"
    assert {*json.loads((out / "files.json").read_text())["files"]} == {
        path.relative_to(out).as_posix() for path in whole - {out / "files.json"}
    }
    write_report(results, out, only=["pareto"])
    assert {path for path in out.rglob("*") if path.is_file()} == left


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_the_report_is_the_same_twice_and_returns_what_was_left_out(results: Path, tmp_path: Path) -> None:
    one, two = write_report(results, tmp_path / "one"), write_report(results, tmp_path / "two")
    for first, second in zip((one.text, *one.figures, *one.tables), (two.text, *two.figures, *two.tables), strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert [item.path.name for item in one.shown.skipped] == ["bild-fb0.1-rb1-ababababab"]
    with pytest.raises(BildError, match="holds no finished point"):
        write_report(one.shown.skipped[0].path, tmp_path)
