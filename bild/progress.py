"""Long work: its progress on stderr, and the garbage collector kept out of it.

Progress is a bar in a terminal and a line every few seconds elsewhere, with rate and time left.
"""

from __future__ import annotations

import gc
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

T = TypeVar("T")
Tell = Callable[..., None]
"""Called as `tell(done, total, note="")`; the note is shown beside the rate."""
_LINE_SECONDS, _BAR_SECONDS = 10.0, 0.5


def clock(seconds: float) -> str:
    """Write a duration as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def timestamp() -> str:
    """Return the time as files have it: ISO, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def folded(text: str, width: int = 79, indent: str = "", further: str = "") -> str:
    """Break paragraphs between words; one that is indented, and a command at the end of a note, stay whole.

    `indent` stands before the first line, `further` before the others.
    """
    fill = partial(textwrap.fill, width=width, break_on_hyphens=False, break_long_words=False)
    found = []
    for paragraph in text.strip("\n").split("\n\n"):
        prose, *command = re.split(r"(?<=\.) (?=(?:Make it|Next): )", paragraph, maxsplit=1)
        whole = paragraph.startswith(" ")
        found.append(paragraph if whole else fill(prose, initial_indent=indent, subsequent_indent=further))
        found[-1] += "".join(f"\n{further}{each}" for each in ([] if whole else command))
    return "\n\n".join(found)


def say(line: str) -> None:
    """Write a line of progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass items on, showing how many are done, the rate, and the time that remains."""
    with telling(what, begin=0) as tell:
        for n, item in enumerate(items, 1):
            yield item
            tell(n, total)


@contextmanager
def telling(what: str, *, begin: int | None = None) -> Iterator[Tell]:
    """Give a function to call now and then with (done, total), for work that one cannot iterate over.

    The rate is that since `begin`, the number that was done before; without it, since the first call.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _every(_LINE_SECONDS, begin, lambda done, total, told: say(f"{what}: {told}"))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
    # Drawn by hand: a refreshing thread would run beside what is being timed.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task(what, total=None, told="")

        def draw(done: int, total: int, told: str) -> None:
            bar.update(task, completed=done, total=total, told=told)
            bar.refresh()

        yield _every(_BAR_SECONDS, begin, draw)


def _every(seconds: float, begin: int | None, show: Callable[[int, int, str], None]) -> Tell:
    """Call `show` with (done, total, all in words) at most so often, and at the end of work that took so long."""
    began = shown = time.monotonic()

    def tell(done: int, total: int, note: str = "") -> None:
        nonlocal begin, shown
        begin = done if begin is None else begin
        now = time.monotonic()
        if now - shown > seconds or (done == total and now - began > seconds):
            rate = (done - begin) / (now - began)
            pace = [f"{rate:.1f}/s", f"{clock(max(0, total - done) / rate)} left"] if rate > 0 else []
            show(done, total, ", ".join(part for part in [f"{done}/{total}", *pace, note] if part))
            shown = now

    return tell


@contextmanager
def collector_off() -> Iterator[None]:
    """Collect no garbage inside, where it would be charged to what is timed, or look at all objects again and again.

    Also a decorator.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
