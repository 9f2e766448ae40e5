"""The wheel has all that a run needs: configuration, models, data; and works without a repository around it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.cli.commands import REPOSITORY, environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling, which builds it, is absent"),
    pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is absent"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout without a network."""
    out = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(out), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("bild_bench-*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with nothing but the wheel's contents."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def tracked(folder: Path, pattern: str) -> set[str]:
    """Files below a folder of the checkout, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob(pattern) if path.is_file()}


def test_the_configuration_is_in_it(unpacked: Path) -> None:
    assert (unpacked / "bild" / "conf" / "run.yaml").is_file()
    assert tracked(unpacked / "bild" / "conf", "*.yaml") == tracked(REPOSITORY / "conf", "*.yaml")


def test_the_embedded_pair_is_in_it(unpacked: Path) -> None:
    embedded = unpacked / "bild" / "models" / "embedded"
    for name in ("large/model.safetensors", "small/model.safetensors", "large/config.json", "tokenizer.json"):
        source = REPOSITORY / "bild" / "models" / "embedded" / name
        assert (embedded / name).read_bytes() == source.read_bytes()
    assert (embedded / "README.md").is_file()


def test_the_data_the_schema_and_the_types_are_in_it(unpacked: Path) -> None:
    data = Path("bild") / "tasks" / "data"
    assert tracked(unpacked / data, "*.jsonl") == tracked(REPOSITORY / data, "*.jsonl") != set()
    assert (unpacked / "bild" / "results" / "record.schema.json").is_file()
    assert (unpacked / "bild" / "py.typed").is_file()


def test_all_of_the_package_and_nothing_else_is_in_it(unpacked: Path) -> None:
    assert tracked(unpacked / "bild", "*.py") == tracked(REPOSITORY / "bild", "*.py")
    top = {path.name for path in unpacked.iterdir()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"bild"}
    assert len(top) == 2


def test_the_licence_is_in_it_and_in_the_source_distribution(unpacked: Path, tmp_path: Path) -> None:
    licence = (REPOSITORY / "LICENSE").read_bytes()
    (found,) = unpacked.glob("*.dist-info/licenses/LICENSE")
    assert found.read_bytes() == licence
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CITATION.cff", "CHANGELOG.md", "conf/paper.yaml", "bild/paper.py"} <= names


def test_its_size_is_that_of_the_pairs_that_ship(wheel: Path) -> None:
    weights = sum(file.stat().st_size for file in (REPOSITORY / "bild/models/embedded").rglob("*.safetensors"))
    assert weights < wheel.stat().st_size * 1.1 < weights + 6e6


def test_the_command_bild_is_in_it(unpacked: Path, tmp_path: Path) -> None:
    (metadata,) = unpacked.glob("*.dist-info")
    assert "bild = bild.cli.door:main" in (metadata / "entry_points.txt").read_text()
    command = [sys.executable, "-c", "import sys; from bild.cli.door import main; sys.exit(main())", "list", "models"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(path=unpacked), capture_output=True, text=True, check=True
    )
    assert "embedded-aligned" in done.stdout


def test_a_command_works_from_another_folder(unpacked: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bild.run", "--cfg", "job", "task=xsum", "threshold.fb=0.3"]
    env = environment(path=unpacked)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    shown = yaml.safe_load(done.stdout)
    assert (shown["task"]["name"], shown["model"]["name"], shown["threshold"]["fb"]) == ("xsum", "t5-large", 0.3)
    script = "import bild.cli; print(bild.cli.conf_dir())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(unpacked / "bild" / "conf")


def test_a_run_works_from_another_folder(unpacked: Path, tmp_path: Path) -> None:
    options = (
        "task.samples=1",
        "measure.warmup=0",
        "measure.library=0",
        "measure.calm_minutes=0",
        "task.target_limit=8",
    )
    command = [sys.executable, "-m", "bild.run", *options]
    env = environment(path=unpacked)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("results/embedded/embedded/*/record.json"))) == 1
