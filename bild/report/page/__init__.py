"""One self-contained HTML page of a report: it opens from a disk, makes no request, and replays thresholds itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bild.report.files import write_text
from bild.report.page.data import page_data
from bild.report.page.document import document
from bild.report.page.extras import extras

if TYPE_CHECKING:
    from bild.report.contents import Contents

NAME = "index.html"

__all__ = ["NAME", "write_page"]


def write_page(contents: Contents, out: Path) -> Path:
    """Write `index.html` to the folder `out` and return its path. BildError where it cannot be written."""
    text = document(_title(contents), page_data(contents.parts, contents.left_out), extras(contents))
    return write_text(Path(out) / NAME, text)


def _title(contents: Contents) -> str:
    tasks = sorted({part.section.first.task.name for part in contents.parts})
    return f"BiLD on {' and '.join(tasks) if len(tasks) < 3 else f'{len(tasks)} tasks'}"
