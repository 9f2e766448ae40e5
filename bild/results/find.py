"""Where results lie: what a notebook or a fresh clone shows when nobody says."""

from __future__ import annotations

from pathlib import Path

from bild.errors import BildError
from bild.results import find_records

EXAMPLE = "example"
HOW = "run one first, such as `make sweep`, or `make example` for the small one that this project shows"


def find_results(start: Path | str = ".") -> Path:
    """The folder of results/ to report on, in `start` or a folder above it: one's own runs, else the example.

    BildError where neither has a finished point.
    """
    for folder in (Path(start).resolve(), *Path(start).resolve().parents):
        results = folder / "results"
        if not results.is_dir():
            continue
        own = [path for path in sorted(results.iterdir()) if path.is_dir() and path.name != EXAMPLE]
        if any(_has_points(path) for path in own):
            return results if not (results / EXAMPLE).is_dir() else _newest(own)
        if _has_points(results / EXAMPLE):
            return results / EXAMPLE
    raise BildError(f"There are no results to show: {HOW}.")


def find_tree(start: Path | str = ".") -> Path:
    """The folder of the decision tree that was grown last, among the results that `find_results` finds.

    Where one's own runs have none, that of the example. BildError where it has none either.
    """
    shown = find_results(start)
    results = shown if shown.name == "results" else shown.parent
    for place in (shown, results / EXAMPLE):
        found = sorted(place.rglob("tree/*/tree.json"), key=lambda path: (path.stat().st_mtime, path))
        if found:
            return found[-1].parent
    raise BildError(f"There is no decision tree among the results: {HOW}.")


def _has_points(folder: Path) -> bool:
    return folder.is_dir() and any(folder.rglob("record.json")) and bool(find_records(folder)[0])


def _newest(folders: list[Path]) -> Path:
    """Of several tasks beside an example, the one that was run last: they are not to be mixed with the example."""
    return max((path for path in folders if _has_points(path)), key=lambda path: path.stat().st_mtime)
