"""Run a command line: Hydra around a job, with a user's mistake told in one sentence."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from bild.cli.compose import check_all, check_options, complete, to_config, to_yaml
from bild.cli.overrides import (
    as_typed,
    conf_dir,
    groups,
    in_a_sentence,
    in_brief,
    option_at,
    options,
    parse,
    register,
    to_fields,
)
from bild.config import RunConfig
from bild.errors import HELPS, Arguments, BildError, explain, guard, shown
from bild.progress import folded

WIDTH = 79
_TRAINING = "a lower {}, with train.accumulate raised as much, takes less"
_HELPS = {
    "train": _TRAINING.format("train.batch"),
    "align": _TRAINING.format("train.batch or align.batch"),
    "bench": "dtype=fp16 halves the weights, and fewer engines and peers take less",
}
"""The options that help where memory is short, by command; others take those of a measurement."""


def flags(about: str = "", more: str = "") -> argparse.ArgumentParser:
    """Return the parser of what a command line takes beside overrides: Hydra's documented flags.

    Those that put another configuration in the place of the checked one (--config-name, ...) are left out.
    """
    parser = Arguments(
        usage=argparse.SUPPRESS,
        description=about,
        epilog=more,
        add_help=False,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true", help="show this, and run nothing")
    parser.add_argument("-m", "--multirun", action="store_true", help="run every combination of values, as in task=a,b")
    parser.add_argument(
        "-c",
        "--cfg",
        nargs="?",
        const="job",
        choices=["job", "hydra", "all"],
        metavar="job",
        help="show the configuration, and run nothing",
    )
    parser.add_argument("-p", "--package", metavar="key", help="with --cfg: show only this part")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: fill in references")
    parser.add_argument(
        "-i",
        "--info",
        nargs="?",
        const="all",
        choices=["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"],
        metavar="what",
        help="show how Hydra composes the configuration",
    )
    parser.add_argument("--hydra-help", action="store_true", help="show Hydra's own options, launchers among them")
    return parser


def run_hydra(job: Callable[[Any], None], name: str, schema: type = RunConfig) -> int:
    """Run a command line: compose, check, and call `job` once, or once per point with -m. Returns the exit code."""
    register(name, schema)
    failed = 0

    def command() -> None:
        nonlocal failed
        asked = flags().parse_intermixed_args(sys.argv[1:])
        overrides = to_fields(asked.overrides, schema)
        try:
            if asked.help or asked.hydra_help:
                check_options(parse(overrides), schema)
            if asked.help:
                print(_help(sys.modules[job.__module__].__doc__ or "", overrides, name, schema))
                return
            if asked.hydra_help:
                overrides = [each for each in overrides if each.startswith("hydra")]
            else:
                _check_flags(asked, schema)
                first = check_all(overrides, name, schema, multirun=asked.multirun)
                overrides = complete(overrides, schema)
        except BildError as error:
            raise BildError(as_typed(str(error), schema)) from error
        if not (
            asked.multirun
            or asked.cfg
            or asked.info
            or asked.hydra_help
            or any(o.startswith("hydra") for o in overrides)
        ):
            job(first)  # Hydra itself would compose twice more
            return
        failed = _hydra_main(job, name, schema, _for_hydra(asked), overrides)

    code = guard(command, "stopped; the same command goes on from here", _HELPS.get(name, HELPS))
    return code or failed


def _check_flags(asked: argparse.Namespace, schema: type) -> None:
    if asked.multirun and asked.cfg:
        raise BildError("--cfg shows one configuration: leave out -m, and name one value of each option.")
    if (asked.package or asked.resolve) and not asked.cfg:
        raise BildError("--package and --resolve say how a configuration is shown: add --cfg job, or leave them out.")
    found = option_at(asked.package or "task", schema)[0]
    if asked.package and (asked.cfg != "job" or found is None or found.schema is None):
        raise BildError(f"--package {shown(asked.package)} is no part of --cfg job: give task, threshold or the like.")


def _for_hydra(asked: argparse.Namespace) -> list[str]:
    """Return the flags anew, as Hydra's own parser takes them."""
    words = [f"--{name}={value}" for name in ("cfg", "package", "info") if (value := getattr(asked, name))]
    return words + [
        f"--{name.replace('_', '-')}" for name in ("multirun", "resolve", "hydra_help") if getattr(asked, name)
    ]


def _hydra_main(
    job: Callable[[Any], None], name: str, schema: type, flags: Sequence[str], overrides: Sequence[str]
) -> int:
    """Let Hydra call `job`, once or for each point; return the worst of their exit codes."""
    with tempfile.TemporaryDirectory() as scratch:

        def guarded(raw: DictConfig) -> None:
            try:
                job(to_config(raw, schema))
            except BrokenPipeError:
                raise
            except Exception as error:
                code, told_as = explain(error, helps=_HELPS.get(name, HELPS))
                print(told_as, file=sys.stderr)
                Path(scratch, f"failed{code}").touch()  # a launcher may run jobs in processes of their own

        # Hydra leaves a multirun.yaml in its sweep folder, which would be the working folder.
        sweep = [f"hydra.sweep.dir={scratch}"] if "--multirun" in flags else []
        sys.argv[1:] = [*flags, *sweep, *overrides]  # the only way into `hydra.main`
        # Hydra prefixes its own folder to relative paths; the absolute one also serves an installed wheel.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # its errors come here as they are
        with in_a_sentence():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)()
        return next((code for code in (1, 2) if Path(scratch, f"failed{code}").exists()), 0)


def _help(about: str, overrides: Sequence[str], name: str, schema: type) -> str:
    """Return what a command does, its flags, the options of its groups, and all keys with their values."""
    more = ["Choose from each group as group=option:"]
    for group in groups(schema):
        more.append(_entry(group, options(group)))
    more += ["", "Change any value as key=value; all keys, as they stand now:", ""]
    keys = to_yaml(overrides, name, schema)
    return flags(folded(about.replace("`", "")), "\n".join([*more, keys])).format_help()


def _entry(group: str, named: Sequence[str]) -> str:
    shown, first = in_brief(group, named), f"  {group:<12} "
    return textwrap.fill(shown, WIDTH, initial_indent=first, subsequent_indent=" " * 15, break_on_hyphens=False)
