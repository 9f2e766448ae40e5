"""One self-contained HTML page of a report: it opens from a disk, makes no request, and replays thresholds itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bild.errors import BildError
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
    path = Path(out) / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BildError(f"The page cannot be written to {path} ({error.strerror}): choose another --out.") from None
    return path


def _title(contents: Contents) -> str:
    tasks = sorted({part.section.first.task.name for part in contents.parts})
    return f"BiLD on {' and '.join(tasks) if len(tasks) < 3 else f'{len(tasks)} tasks'}"
