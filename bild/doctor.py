"""`bild doctor` (or `python -m bild.doctor`): what this machine has, what is
missing, and how to fix it.

    bild doctor           the machine, and which tasks and models are here
    bild doctor tasks     every task, and the command that fetches it
    bild doctor models    every pair, and the command that fetches it
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from urllib.parse import urlparse

from packaging.requirements import Requirement
from rich.console import Console
from rich.text import Text

from bild.cli import load, options, typed
from bild.cli.overrides import in_brief
from bild.config import DTYPES, Checkpoints, ModelConfig, ShapeConfig, TaskConfig
from bild.errors import BildError, guard, out_of_memory
from bild.progress import folded

OK, MISSING, WARN = "ok", "missing", "note"
COLOURS = {OK: "green", MISSING: "red", WARN: "yellow"}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, what was seen, and what to do where it is not well."""

    what: str
    state: str
    seen: str
    mend: str = ""


def checked(what: str, good: bool, seen: str, mend: str, otherwise: str = WARN) -> Finding:
    """Return a finding that is well, or else one with what mends it."""
    return Finding(what, OK, seen) if good else Finding(what, otherwise, seen, mend)


def machine() -> list[Finding]:
    """Look at Python, packages, processor, memory, GPU and disk."""
    import psutil

    memory = psutil.virtual_memory()
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    busy = "times will be disturbed: stop other work before you measure"
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return [
        Finding("Python", OK, platform.python_version()),
        *_packages(),
        _compiler(),
        checked("processor", load <= cores / 2, f"{cores} threads, load {load:.1f}", busy),
        Finding("memory", OK, f"{memory.total / 2**30:.0f} GiB, {memory.available / 2**30:.0f} GiB free"),
        *_gpu(),
        checked("disk here", free > 5, f"{free:.0f} GiB free", "a large pair needs up to 8 GiB"),
    ]


def _packages() -> list[Finding]:
    try:
        needed = [Requirement(text) for text in requires("bild-bench") or []]
    except PackageNotFoundError:
        return [Finding("packages", MISSING, "bild-bench is not installed", "pip install -e . -c constraints.txt")]
    wrong = []
    for requirement in needed:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            if not requirement.specifier.contains(version(requirement.name), prereleases=True):
                wrong.append(f"{requirement.name} {version(requirement.name)} (needs {requirement.specifier})")
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is absent")
    shown = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "datasets"))
    mend = "make env, or pip install -c constraints.txt bild-bench"
    return [checked("packages", not wrong, "; ".join(wrong) or shown, mend, MISSING)]


def _compiler() -> Finding:
    """Try the C compiler that makes the CPU's own products."""
    from bild.engines.strips import compiled

    mend = "passes over a few tokens take longer on a CPU without one: apt install gcc, or CC=..."
    good = compiled() is not None
    return checked("C compiler", good, "compiles products for this processor" if good else "none that works", mend)


def _gpu() -> list[Finding]:
    """Look at every GPU and its driver, and at whether this torch can use them."""
    import torch

    from bild.models.device import OLDER, cuda_trouble, has_bf16, kernels_missing, nvidia

    if trouble := cuda_trouble():
        return [Finding("GPU", MISSING, *trouble)]
    if not torch.cuda.is_available():
        seen = f"none (torch built with CUDA: {torch.version.cuda or 'none'}); everything runs on the CPU"
        return [Finding("GPU", WARN, seen, "a T4 or better for the paper's pairs")]
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        size = properties.total_memory / 2**30
        half = "bf16 and fp16" if has_bf16(torch.device("cuda", index)) else "fp16 (bf16 is emulated)"
        seen = f"{properties.name}, {size:.0f} GiB, {half}"
        if kernels_missing(torch.cuda.get_device_capability(index), torch.cuda.get_arch_list()):
            mend = f"this torch has no code for it: make env CUDA={OLDER}"
            found.append(Finding(f"GPU {index}", MISSING, seen, mend))
            continue
        mend = "the mT5-large pair needs about 12 GB in fp32: use engine.dtype=fp16"
        found.append(checked(f"GPU {index}", size >= 12, seen, mend))
    driver = nvidia()
    if driver is None or driver.silent is not None:
        mend = "pip install nvidia-ml-py, to record clocks and heat"
        return [*found, Finding("GPU driver", WARN, "it cannot be asked (NVML)", mend)]
    runs = ".".join(map(str, driver.cuda))
    seen = f"{driver.driver}, for CUDA {runs} and older; torch is built for {torch.version.cuda}"
    return [*found, Finding("GPU driver", OK, seen)]


def hub() -> Finding:
    """Ask the hub for a connection, for three seconds at most."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Finding(
            "hub", WARN, f"offline by HF_HUB_OFFLINE; cache {constants.HF_HUB_CACHE}", "unset it to download"
        )
    address = urlparse(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=3).close()
    except OSError:
        mend = "copy a hub cache here and set HF_HOME to it, or give local folders"
        return Finding("hub", WARN, f"{address.hostname} cannot be reached; cache {constants.HF_HUB_CACHE}", mend)
    return Finding("hub", OK, f"{address.hostname} answers; cache {constants.HF_HUB_CACHE}")


def tasks() -> list[Finding]:
    """Find which data sets are on this machine. Nothing is downloaded."""
    from bild.hub import cached_snapshot
    from bild.tasks import load_task

    found = []
    for name in options("task"):
        task: TaskConfig = typed(TaskConfig, load("task", name))
        if task.data == "hub":
            revisions = [task.revision] if task.revision else ["main", "refs/convert/parquet"]
            there = any(cached_snapshot(task.path, "dataset", revision) for revision in revisions)
            at = f" --revision {task.revision}" if task.revision else ""
            mend = f"fetched at the first run, or by hf download {task.path} --repo-type dataset{at}"
            seen = f"{task.path} is {'' if there else 'not '}in the cache"
            found.append(checked(f"task={name}", there, seen, mend, MISSING))
        elif task.data == "embedded":
            found.append(Finding(f"task={name}", OK, f"{len(load_task(task).examples)} examples, in the package"))
        else:
            found.append(Finding(f"task={name}", OK, "your own data", "name them with task.path=..."))
    return found


def pairs() -> list[Finding]:
    """Find which checkpoints are on this machine. Nothing is downloaded or loaded."""
    from bild.cli.compose import shapes
    from bild.hub import cached_snapshot, ships

    found, known = [], shapes()
    for name in options("model"):
        model: ModelConfig = typed(ModelConfig, load("model", name))
        asked = {c for made in model.checkpoints.values() for c in (made.large, made.small) if c}
        asked |= {c for c in (model.large, model.small, model.tokenizer) if c}
        if not asked:
            found.append(Finding(f"model={name}", OK, "your own checkpoints", "model.large=... model.small=..."))
            continue
        absent = sorted(c for c in asked if not ships(c) and cached_snapshot(c, "model") is None)
        seen = "in the package" if all(map(ships, asked)) else "all of its checkpoints are in the cache"
        if absent:
            seen = f"{len(absent)} of {len(asked)} checkpoints are not in the cache"
        mend = f"fetched at the first run, or by hf download {' '.join(absent[:1])} ..."
        found.append(checked(f"model={name}", not absent, f"{seen}{_need(model, known)}", mend, MISSING))
    return found


def _need(model: ModelConfig, shapes: dict[str, ShapeConfig]) -> str:
    """Say what a pair needs on the device by dtype, engine=graph; nothing where its sizes are not known."""
    from bild.models.shapes import configs_named, need_of

    made = next(iter(model.checkpoints.values()), Checkpoints(model.large or "", model.small))
    configs = configs_named(made, model.exit, shapes)
    if configs is None:
        return ""
    needs = (f"{need_of(configs, 'graph', dtype, exit=model.exit).total / 1e9:.1f} GB in {dtype}" for dtype in DTYPES)
    return f"; on the device {', '.join(needs)}"


def trial() -> Finding:
    """Decode a sentence with the embedded pair here, on the default device."""
    import bild

    try:
        output = bild.generate(bild.load_pair("embedded"), "Zwei Hunde spielen im Schnee.")
    except (BildError, RuntimeError) as error:
        short = out_of_memory(error)
        why = str(short or error).splitlines()[0]
        return Finding("decoding", MISSING, why, "" if short else "install again: make clean, make env")
    return Finding("decoding", OK, f"the embedded pair wrote {output.text!r} in {output.run.total_ns / 1e6:.0f} ms")


def brief(name: str, find: Callable[[], list[Finding]]) -> Finding:
    """Return one line about all tasks or all models: which are here, and which are not."""
    try:
        findings = find()
    except BildError as error:  # a cache that may not be read
        return Finding(name, MISSING, str(error))
    here, absent = (
        in_brief(name.removesuffix("s"), (f.what.partition("=")[2] for f in findings if (f.state == OK) is good))
        for good in (True, False)
    )
    mend = f"fetched at the first run, or by the commands of bild doctor {name}"
    seen = "; ".join(f"{where}: {which}" for where, which in (("here", here), ("not here", absent)) if which)
    return checked(name, not absent, seen, mend, MISSING)


def report(findings: list[Finding]) -> None:
    """Print findings within the terminal's width, 80 columns in a pipe; what mends one stands below it."""
    console = Console(highlight=False)
    width = (console.width if console.is_terminal else 80) - 1
    fill = partial(textwrap.fill, width=width, break_on_hyphens=False, break_long_words=False)
    for f in findings:
        seen = fill(f"{f.what}: {f.seen}", initial_indent=" " * 9, subsequent_indent=" " * 11).lstrip()
        console.print(Text(f"{f.state:<9}", style=COLOURS[f.state]) + Text(seen), soft_wrap=True)
        if f.mend:
            console.print(Text(fill(f.mend, initial_indent=" " * 11, subsequent_indent=" " * 13)), soft_wrap=True)


def main() -> int:
    """Run the command line: exit code 0 where the embedded pair decodes, 1 where it does not, 2 for a wrong call."""
    broken = False
    lists = {"tasks": tasks, "models": pairs}

    def command() -> None:
        nonlocal broken
        if sys.argv[1:] in (["--help"], ["-h"]):
            print(folded((__doc__ or "").replace("`", "")))
        elif len(sys.argv) == 2 and sys.argv[1] in lists:
            report(lists[sys.argv[1]]())
        elif len(sys.argv) > 1:
            raise BildError(f"bild doctor takes tasks or models, but {' '.join(sys.argv[1:])!r} was given.")
        else:
            decoding = trial()
            report([*machine(), hub(), decoding, *(brief(name, find) for name, find in lists.items())])
            broken = decoding.state != OK

    return guard(command) or int(broken)


if __name__ == "__main__":
    sys.exit(main())
