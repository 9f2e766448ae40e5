"""The commands that make what a report lacks."""

from __future__ import annotations

import re
import shlex

from bild.report.sections import Section


def run_command(section: Section, *options: str, multirun: bool = False) -> str:
    """A `python -m bild.run` on the section's task, pair, split, samples, engine and dtype, with these options."""
    first = section.first
    name, layers = split_exit(first.pair.name)
    words = [f"task={first.task.name}", f"model={name}"]
    if layers is not None:
        words.append(f"model.exit={layers}")
    if first.task.data.get("samples") is not None:
        words.append(f"task.samples={first.task.data['samples']}")
    words += [f"task.split={first.task.split}", f"engine={first.engine.name}", f"engine.dtype={first.engine.dtype}"]
    return " ".join(["python -m bild.run", *(["-m"] if multirun else []), *map(shlex.quote, (*words, *options))])


def split_exit(pair: str) -> tuple[str, int | None]:
    """A pair's name without `-exitN`, and N."""
    found = re.fullmatch(r"(.+)-exit(\d+)", pair)
    return (found[1], int(found[2])) if found else (pair, None)
