"""Progress of long work on stderr: a bar in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
_QUIET_SECONDS = 10.0


def say(line: str) -> None:
    """Write a line of progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass items on, showing how many are done, the rate, and the time that remains."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from _lines(items, total, what)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # Drawn by hand: a refreshing thread would run beside what is being timed.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task(what, total=total, rate="")
        began = drawn = time.monotonic()
        for n, item in enumerate(items, 1):
            now = time.monotonic()
            if now - drawn > 0.5 or n == total:
                progress.update(task, completed=n, rate=f"{n / (now - began):.1f}/s")
                progress.refresh()
                drawn = now
            yield item


def _lines(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    began = said = time.monotonic()
    for n, item in enumerate(items, 1):
        now = time.monotonic()
        if now - said > _QUIET_SECONDS:
            rate = n / (now - began)
            print(f"{what}: {n}/{total}, {rate:.1f}/s, {_span((total - n) / rate)} left", file=sys.stderr, flush=True)
            said = now
        yield item


@contextmanager
def telling(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, total) now and then, which tells how far work is that one cannot iterate over."""
    began = said = time.monotonic()
    first = -1

    def tell(done: int, total: int) -> None:
        nonlocal said, first
        first = done if first < 0 else first
        now = time.monotonic()
        if now - said > _QUIET_SECONDS or (done == total and now - began > _QUIET_SECONDS):
            rate = (done - first) / (now - began)
            left = f", {rate:.1f}/s, {_span((total - done) / rate)} left" if rate > 0 else ""
            print(f"{what}: {done}/{total}{left}", file=sys.stderr, flush=True)
            said = now

    yield tell


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
