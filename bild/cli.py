"""What the command lines share: Hydra's composition over `conf/`, with a user's mistake told in one sentence.

Options are checked against the typed schema before Hydra sees them, because its own messages speak of structs and
append operators; and a task or a pair that was not named is chosen to fit the other.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import sys
import tempfile
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, ValueType
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bild.config import RunConfig
from bild.decoding.methods import USED
from bild.errors import BildError

_WRONG_TYPE = re.compile(
    r"Value '(?P<value>.*?)'.*could not be converted to (?P<wanted>\w+).*full_key: (?P<key>\S+)", re.S
)
GROUPS = ("task", "model", "method", "threshold", "engine", "experiment")
"""Of the commands that measure points; a schema with groups of its own names them as its `GROUPS`."""


def conf_dir() -> Path:
    """The folder `conf/`: beside the package in a checkout, inside it in an installed wheel."""
    here = Path(__file__).resolve().parent
    for place in (here / "conf", here.parent / "conf"):
        if (place / "run.yaml").is_file():
            return place
    raise BildError(f"The configuration folder conf/ is missing beside {here}: install bild-bench again.")


def groups(schema: type) -> tuple[str, ...]:
    """The groups of `conf/` that a command with this schema takes."""
    found: tuple[str, ...] = getattr(schema, "GROUPS", GROUPS)
    return found


def to_fields(arguments: Sequence[str], schema: type) -> list[str]:
    """Arguments as typed, with what the schema's `ALIASES` name turned into its fields, which are lists.

    A word that is also a group would be taken by Hydra for a choice in it: `engine=hf,fused` becomes
    `engines=[hf,fused]`.
    """
    aliases: dict[str, str] = getattr(schema, "ALIASES", {})
    found = []
    for argument in arguments:
        typed, equals, value = argument.partition("=")
        if equals and typed in aliases:
            argument = f"{aliases[typed]}={value if value.startswith('[') else f'[{value}]'}"
        found.append(argument)
    return found


def _as_typed(text: str, schema: type) -> str:
    """A sentence that names fields, with the words that users type for them."""
    for typed, name in getattr(schema, "ALIASES", {}).items():
        text = re.sub(rf"\b{name}\b", typed, text)
    return text


def register(name: str, schema: type) -> None:
    """Make a config dataclass known to Hydra as `<name>_schema`."""
    ConfigStore.instance().store(name=f"{name}_schema", node=schema)


def options(group: str) -> list[str]:
    """The options of a group, as they are typed."""
    folder = conf_dir() / group
    return sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))


def _load(group: str, option: str) -> DictConfig:
    loaded = OmegaConf.load(conf_dir() / group / f"{option}.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded


def complete(overrides: Sequence[str], schema: type = RunConfig) -> list[str]:
    """Name the task that fits a pair, or the pair that fits a task, where only one of the two was named."""
    if "task" not in groups(schema):
        return list(overrides)
    named = {o.key_or_group: o for o in _parse(overrides) if o.key_or_group in GROUPS}
    if "experiment" in named or ("task" in named) == ("model" in named):
        return list(overrides)
    have, lack, key = ("task", "model", "pair") if "task" in named else ("model", "task", "task")
    wanted = {_load(have, option).get(key) for option in _values(named[have])}
    if len(wanted) > 1:
        raise BildError(
            f"{have}={','.join(_values(named[have]))} need different values of {lack}: name one with {lack}=..."
        )
    return [*overrides, f"{lack}={wanted.pop()}"]


def compose(overrides: Sequence[str], name: str = "run", schema: type = RunConfig) -> Any:
    """The configuration object for some overrides, checked; what `python -m bild.<name>` gets, for use in Python."""
    register(name, schema)
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        overrides = to_fields(overrides, schema)
        _check_options(_parse(overrides), schema)
        return _resolve(complete(overrides, schema), name, schema)


def to_config(raw: DictConfig, schema: type = RunConfig) -> Any:
    """From Hydra's dictionary to the dataclass, whose own checks then run."""
    config = OmegaConf.to_object(raw)
    assert isinstance(config, schema)
    if "task" in groups(schema):
        check_fit(config)
    return config


def check_fit(config: Any) -> None:
    """Refuse a pair that was not made for the task, naming what would fit."""
    if config.model.fit(config.task) is not None:
        return
    tasks, pairs = [], []
    for option in options("task"):
        task = _load("task", option)
        if option in config.model.checkpoints if config.model.checkpoints else task.kind in config.model.fits:
            tasks.append(option)
    for option in options("model"):
        model = _load("model", option)
        made = model.get("checkpoints")
        if config.task.name in made if made else config.task.kind in model.fits:
            pairs.append(option)
    raise BildError(
        f"model={config.model.name} does not fit task={config.task.name} ({config.task.kind}): this pair takes "
        f"task={' or '.join(tasks)}, this task takes model={' or '.join(pairs)}, or any pair by model=folders."
    )


def run_hydra(job: Callable[[Any], None], name: str, schema: type = RunConfig) -> int:
    """Run a command line: compose, check, and call `job` once, or once per point with -m. Returns the exit code."""
    register(name, schema)
    failed: list[str] = []

    def guarded(raw: DictConfig) -> None:
        try:
            job(to_config(raw, schema))
        except BildError as error:
            failed.append(str(error))
            print(f"error: {error}", file=sys.stderr)

    def command() -> None:
        sys.argv[1:] = to_fields(sys.argv[1:], schema)
        arguments = get_args_parser().parse_intermixed_args()
        overrides = arguments.overrides
        kept = [a for a in sys.argv[1:] if a not in overrides]
        if not (arguments.hydra_help or arguments.help or arguments.info or arguments.shell_completion):
            if arguments.multirun and arguments.cfg:
                raise BildError("--cfg shows one configuration: leave out -m, and name one value of each option.")
            try:
                _check_all(overrides, name, schema, multirun=arguments.multirun)
            except BildError as error:
                raise BildError(_as_typed(str(error), schema)) from error
            overrides = complete(overrides, schema)
        with tempfile.TemporaryDirectory() as scratch:
            # Hydra leaves a multirun.yaml there, which would lie in the working folder.
            sweep = [f"hydra.sweep.dir={scratch}"] if arguments.multirun else []
            sys.argv[1:] = [*kept, *sweep, *overrides]
            # Hydra prefixes its own folder to relative paths; the absolute one also serves an installed wheel.
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)()

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


def _parse(overrides: Iterable[str]) -> list[Override]:
    try:
        parsed: list[Override] = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise BildError(
            f"The option {error.override!r} cannot be read: write group=option or key=value, "
            "such as task=xsum or threshold.fb=0.6."
        ) from error
    return parsed


def _values(override: Override) -> list[str]:
    if override.value_type in (ValueType.GLOB_CHOICE_SWEEP, ValueType.INTERVAL_SWEEP):
        raise BildError(f"{override.input_line} does not list its values: write them as in threshold.fb=0.3,0.6.")
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    value = override.value()
    return [value.text if isinstance(value, QuotedString) else str(value)]


def _check_options(overrides: Sequence[Override], schema: type) -> None:
    for override in overrides:
        key = override.key_or_group
        if key.partition(".")[0].partition("/")[0] == "hydra":
            continue
        if key in groups(schema):
            known = options(key)
            for value in _values(override):
                if value not in known:
                    raise BildError(f"{key}={value} is not known: choose one of {_listed(value, known)}.")
        else:
            _check_key(key, schema)


def _check_key(key: str, schema: type) -> None:
    kind: Any = schema
    path: list[str] = []
    for part in key.split("."):
        if not dataclasses.is_dataclass(kind):
            if typing.get_origin(kind) is dict:
                return
            raise BildError(f"{key} is not an option: {'.'.join(path)} is a single value.")
        told = typing.get_type_hints(kind)
        hints = {field.name: told[field.name] for field in dataclasses.fields(kind)}
        if part not in hints:
            where = f"{'.'.join(path)} has" if path else "there are"
            close = difflib.get_close_matches(part, hints, n=1)
            hint = f" (did you mean {'.'.join([*path, close[0]])}?)" if close else ""
            raise BildError(f"{key} is not an option{hint}: {where} {', '.join(hints)}.")
        path.append(part)
        kind = _plain_type(hints[part])


def _plain_type(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def _listed(value: str, known: list[str]) -> str:
    if len(known) <= 12:
        return ", ".join(known)
    close = difflib.get_close_matches(value, known, n=4, cutoff=0.5) or known[:4]
    return f"{', '.join(close)} ... ({len(known)} in all, see --help)"


def _check_all(overrides: Sequence[str], name: str, schema: type, *, multirun: bool) -> None:
    """Compose every job, or in a wide sweep every single value, before the first one runs."""
    parsed = _parse(overrides)
    _check_options(parsed, schema)
    swept = [o for o in parsed if o.is_sweep_override()]
    if swept and not multirun:
        one = swept[0]
        raise BildError(
            f"{one.input_line} names several values: add -m to run them all, or quote it if it is one value."
        )
    first = {o.key_or_group: _values(o)[0] for o in swept}
    fixed = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
    jobs = [first] + [first | {o.key_or_group: value} for o in swept for value in _values(o)[1:]]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for job in jobs:
            config = _resolve(complete([*fixed, *(f"{k}={v}" for k, v in job.items())], schema), name, schema)
            if "method" in groups(schema):
                _check_heeded([o.key_or_group for o in parsed], config)


def _check_heeded(keys: Sequence[str], config: Any) -> None:
    """Refuse a named option that the chosen method does not heed: a threshold without effect misleads."""
    used = USED[config.method.name]
    several = hasattr(config, "points")
    for key in keys:
        group, _, option = key.partition(".")
        if several and (group == "threshold" or key in ("method", "method.name", "method.max_draft")):
            raise BildError(f"{key} has no effect here: each of the points has its own, so set points=[...] instead.")
        inert = (option not in used[group] and option != "name") if option and group in used else key == "threshold"
        if inert and not (key == "threshold" and used["threshold"]):
            raise BildError(
                f"{key} has no effect with method={config.method.name}: leave it out, or choose method=bild."
            )


def _resolve(overrides: Sequence[str], name: str, schema: type) -> Any:
    try:
        return to_config(hydra.compose(name, list(overrides)), schema)
    except (HydraException, OmegaConfBaseException) as error:
        raise BildError(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    """One sentence from a message of Hydra or OmegaConf: its cause comes first, the key on a line of its own."""
    cause = error
    while isinstance(cause.__cause__, (HydraException, OmegaConfBaseException)):
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    found = _WRONG_TYPE.search(str(cause))
    if found and found["key"]:
        what = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}.get(found["wanted"])
        return f"{found['key']}={found['value']} is not {what or 'a ' + found['wanted']}: give {what or 'that'}."
    key = next((line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), None)
    head = lines[0] if lines else type(error).__name__
    return f"{key}: {head[0].lower()}{head[1:].rstrip('.')}." if key else f"{head.rstrip('.')}."
