"""Running a command line: Hydra around a job, with a user's mistake told in one sentence."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from bild.cli.compose import check_all, complete, to_config
from bild.cli.groups import conf_dir, register
from bild.cli.overrides import as_typed, to_fields
from bild.config import RunConfig
from bild.errors import BildError


def run_hydra(job: Callable[[Any], None], name: str, schema: type = RunConfig) -> int:
    """Run a command line: compose, check, and call `job` once, or once per point with -m. Returns the exit code."""
    register(name, schema)
    failures: list[str] = []
    """A folder with one file for each job that failed: a launcher may run jobs in processes of their own."""
    failed = False

    def guarded(raw: DictConfig) -> None:
        try:
            job(to_config(raw, schema))
        except BildError as error:
            print(f"error: {error}", file=sys.stderr)
            with tempfile.NamedTemporaryFile(dir=failures[0], delete=False):
                pass

    def command() -> None:
        nonlocal failed
        sys.argv[1:] = to_fields(sys.argv[1:], schema)
        arguments = get_args_parser().parse_intermixed_args()
        overrides = arguments.overrides
        kept = [a for a in sys.argv[1:] if a not in overrides]
        if not (arguments.hydra_help or arguments.help or arguments.info or arguments.shell_completion):
            if arguments.multirun and arguments.cfg:
                raise BildError("--cfg shows one configuration: leave out -m, and name one value of each option.")
            try:
                check_all(overrides, name, schema, multirun=arguments.multirun)
            except BildError as error:
                raise BildError(as_typed(str(error), schema)) from error
            overrides = complete(overrides, schema)
        with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as noted:
            failures.append(noted)
            # Hydra leaves a multirun.yaml there, which would lie in the working folder.
            sweep = [f"hydra.sweep.dir={scratch}"] if arguments.multirun else []
            sys.argv[1:] = [*kept, *sweep, *overrides]
            # Hydra prefixes its own folder to relative paths; the absolute one also serves an installed wheel.
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)()
            failed = any(Path(noted).iterdir())

    code = guard(command)
    return code or (2 if failed else 0)


def guard(command: Callable[[], None]) -> int:
    """Call a command; a BildError becomes one sentence on stderr and exit code 2, Ctrl-C exit code 130."""
    try:
        command()
    except BildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0
