"""From overrides to a checked configuration: a task or a pair that was not named is chosen to fit the other.

Options are checked against the typed schema before Hydra sees them: its own messages speak of structs and operators.
"""

from __future__ import annotations

import re
import shlex
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from bild.cli.overrides import (
    GROUPS,
    all_options,
    check_single_file,
    closest,
    conf_dir,
    given,
    groups,
    in_a_sentence,
    load,
    option_at,
    options,
    parse,
    refuse_several,
    register,
    to_fields,
    values,
)
from bild.config import METHODS, MethodConfig, ModelConfig, RunConfig, ShapeConfig, TaskConfig, ThresholdConfig
from bild.decoding.methods import Setting, heeds
from bild.errors import BildError, did_you_mean, shown
from bild.options import Option, options_of

KINDS_OF_TASK = ("translation", "summarisation")
_LOOKED_UP = re.compile(r"\$\{[^}]*[:$]")
"""A resolver of OmegaConf (`${oc.env:HOME}`), but no reference to another key (`${train.epochs}`)."""


def check_options(overrides: Sequence[Override], schema: type) -> None:
    """Refuse an option of a group, a key or a value that there is not, and what is looked up outside the configuration.

    BildError names what there is.
    """
    for override in overrides:
        key = override.get_key_element().lstrip("+")
        if key.partition(".")[0].partition("/")[0] == "hydra":
            if key != "hydra/launcher" and not key.startswith("hydra.launcher."):
                raise BildError(
                    f"{key} is not an option: of Hydra's there are hydra/launcher and hydra.launcher alone."
                )
            continue
        if _LOOKED_UP.search(override.input_line or ""):
            raise BildError(
                f"{key} looks something up by ${{...:...}}, and records keep what options hold, secrets too: write the "
                f'value itself, or let the shell fill it in, as in {key}="$NAME".'
            )
        if key in groups(schema):
            known = options(key)
            for value in values(override):
                if value not in known:
                    raise BildError(f"{key}={shown(value)} is not known: choose one of {closest(value, known)}.")
        else:
            _check_key(key, schema, {each.key_or_group for each in overrides})
            option, _ = option_at(key, schema)
            assert option is not None
            for value, text in given(override):
                if value == "" and option.free and "empty" not in option.metadata:
                    raise BildError(f"{key} is empty: give {option}, or leave it out.")
                option.checked(key, value, text)


def _check_key(key: str, schema: type, chosen: set[str]) -> None:
    kind, path = Option(schema, {}), ""
    for part in key.split("."):
        if kind.holds(dict):
            kind = kind.inner
        elif kind.schema is None:
            raise BildError(f"{key} is not an option: {path} is a single value.")
        elif not path and part not in (*options_of(schema), *GROUPS) and (same := _ending(key, schema)):
            raise BildError(f"{key} is not an option (did you mean {same}?): {same.rpartition('.')[0]} has it.")
        else:
            kind = kind.part(path, part, key)
            if kind.schema is not None and type(None) in typing.get_args(kind.hint) and not path and part not in chosen:
                raise BildError(f"{key} has no effect here: name {part}=... first, such as {part}={options(part)[0]}.")
        path = f"{path}.{part}".lstrip(".")


def _ending(key: str, schema: type) -> str:
    return next((each for each in all_options(schema) if each.endswith(f".{key}")), "")


def check_heeded(overrides: Sequence[Override], config: Any) -> None:
    """Refuse a named option that the chosen method does not heed: a threshold without effect misleads.

    A schema of several points names as `OWN` the options that each of them has for itself, and what to set instead.
    """
    method, threshold = config.method, config.threshold
    heeded = heeds(method, threshold)
    own: dict[str, str] = getattr(config, "OWN", {})
    for override in overrides:
        key = override.key_or_group
        if key in ("model.small", "model.revision_small") and config.model.exit and values(override) != ["null"]:
            raise BildError(
                f"{key} has no effect beside model.exit={config.model.exit}, which makes the small model of the large "
                "one's first layers: leave one of them out, or set it to null."
            )
        group, _, option = key.partition(".")
        if (instead := own.get(key, own.get(f"{group}.*"))) is not None:
            raise BildError(f"{key} has no effect here: each of the points has its own, so set {instead} instead.")
        if key == "threshold":
            loaded = (load("threshold", value) for value in values(override))
            sets = {str(name) for one in loaded for name, given in one.items() if given is not None}
        elif group in ("method", "threshold") and option not in ("", "name"):
            sets = {option}
        else:
            continue
        if sets and not sets & heeded:
            usual = ((name, heeds(MethodConfig(name), ThresholdConfig())) for name in ("bild", *METHODS))
            other = next((name for name, found in usual if sets & found), "bild")
            how = "".join(f" method.{name}={value}" for name in ("stop", "keep") if (value := getattr(method, name)))
            raise BildError(
                f"{key} has no effect with method={method.name}{how}: leave it out, or choose method={other}."
            )


def complete(overrides: Sequence[str], schema: type = RunConfig) -> list[str]:
    """Name the task that fits a pair, or the pair that fits a task, where only one of the two was named."""
    if "method" not in groups(schema):
        return list(overrides)
    named = {o.key_or_group: o for o in parse(overrides) if o.key_or_group in GROUPS}
    if "experiment" in named or ("task" in named) == ("model" in named):
        return list(overrides)
    have, lack, key = ("task", "model", "pair") if "task" in named else ("model", "task", "task")
    wanted = {load(have, option).get(key) for option in values(named[have])}
    if len(wanted) > 1:
        raise BildError(
            f"{have}={','.join(values(named[have]))} need different values of {lack}: name one with {lack}=..."
        )
    return [*overrides, f"{lack}={wanted.pop()}"]


@contextmanager
def composing(name: str, schema: type) -> Iterator[None]:
    """Initialise Hydra over `conf/`, which allows only one at a time; its own errors become BildErrors."""
    register(name, schema)
    GlobalHydra.instance().clear()
    with in_a_sentence(), hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def compose(overrides: Sequence[str], name: str = "run", schema: type = RunConfig) -> Any:
    """Return the configuration object for some overrides, checked: what `bild <name>` gets, for use in Python."""
    overrides = to_fields(overrides, schema)
    check_options(parse(overrides), schema)
    with composing(name, schema):
        return to_config(hydra.compose(name, complete(overrides, schema)), schema)


def to_yaml(overrides: Sequence[str], name: str, schema: type) -> str:
    """Return all keys with the values that some overrides give them, unchecked."""
    with composing(name, schema):
        return OmegaConf.to_yaml(hydra.compose(name, list(overrides)))


def to_config(raw: DictConfig, schema: type = RunConfig) -> Any:
    """Turn Hydra's dictionary into the dataclass, whose own checks then run."""
    config = OmegaConf.to_object(raw)
    assert isinstance(config, schema)
    if "method" in groups(schema):
        check_fit(config)
    return config


def typed(schema: type, *layers: Mapping[Any, Any]) -> Any:
    """Return an object of a config dataclass from mappings, the later ones winning; wrong types become BildErrors."""
    with in_a_sentence():
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), *layers))


def as_written(path: Path, schema: type, there: Mapping[str, Any], options: Sequence[str]) -> Any:
    """Return the configuration that a point's file holds, but for `there` and options as they are typed.

    Keys that the schema no longer has are left out. BildError for options that there are not, and for groups.
    """
    parsed = parse(options)
    check_options(parsed, schema)
    if chosen := [option for option in options if option.partition("=")[0] in groups(schema)]:
        raise BildError(f"{chosen[0]} chooses from a group: a point that is run again takes key=value only.")
    plain = OmegaConf.to_container(OmegaConf.load(path))
    config = typed(schema, _known(schema, plain), there, OmegaConf.from_dotlist(list(options)))
    check_fit(config)
    check_heeded(parsed, config)
    check_single_file(parsed, config)
    return config


def _known(schema: Any, plain: Any) -> Any:
    if schema is None or not isinstance(plain, dict):
        return plain
    return {name: _known(each.schema, plain[name]) for name, each in options_of(schema).items() if name in plain}


def check_fit(config: Any) -> None:
    """Refuse a pair that was not made for the task, naming what would fit."""
    if config.model.fit(config.task) is not None:
        return
    model, task = config.model, config.task
    tasks = [option for option in options("task") if _suits(model, typed(TaskConfig, load("task", option)))]
    pairs = [option for option in options("model") if _suits(typed(ModelConfig, load("model", option)), task)]
    takes = f"this pair takes task={' or '.join(tasks)}, " if tasks else ""
    taken = (
        f"model={' or '.join(pairs)}, or any pair by model=folders" if pairs else "a pair of your own, by model=folders"
    )
    hint = "" if task.kind in KINDS_OF_TASK else did_you_mean(task.kind, KINDS_OF_TASK)
    raise BildError(
        f"model={model.name} does not fit task={task.name} ({task.kinds[-1]}{hint}): {takes}this task takes {taken}."
    )


def _suits(model: ModelConfig, task: TaskConfig) -> bool:
    return task.name in model.checkpoints if model.checkpoints else bool({*task.kinds} & {*model.fits})


def pair_options(name: str, task: str | None, *, exit: int | None = None) -> tuple[str, str | None, dict[str, Any]]:
    """Return (large, small, other options of `load_pair`) for a name in conf/model; a checkpoint's stays as it is."""
    known = options("model")
    if name not in known:
        if exit is None and "/" not in name:
            hint = did_you_mean(name, known)
            plain = ", ".join(option for option in known if "/" not in option)
            raise BildError(
                f"There is no pair {name}{hint}: name one of {plain}, or pretrained/..., or give two checkpoints."
            )
        return name, None, {}
    made = list(load("model", name).get("checkpoints") or {})
    if task is None and len(made) > 1:
        raise BildError(f"The pair {name} has checkpoints for each task: name one with task={' or '.join(made)}.")
    named = [f"model={name}", *(f"{key}={value}" for key, value in (("task", task), ("model.exit", exit)) if value)]
    config = compose(named)
    model, checkpoints = config.model, config.model.fit(config.task)
    same = ("tokenizer", "revision_large", "revision_small", "exit")
    others = {"name": model.pair_name, **{key: getattr(model, key) for key in same}}
    return checkpoints.large, checkpoints.small, others


def check_all(overrides: Sequence[str], name: str, schema: type, *, multirun: bool) -> Any:
    """Compose every job, or in a wide sweep every single value, before the first one runs; return the first one."""
    parsed = parse(overrides)
    swept = {
        o.get_key_element(): list(o.sweep_string_iterator()) for o in parsed if o.is_sweep_override() and values(o)
    }
    if swept and not multirun:
        refuse_several(next(o for o in parsed if o.is_sweep_override()), schema)
    check_options(parsed, schema)
    first = {key: found[0] for key, found in swept.items()}
    fixed = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
    jobs = [first] + [first | {key: value} for key, found in swept.items() for value in found[1:]]
    configs: list[Any] = []
    with composing(name, schema):
        for job in jobs:
            overrides = complete([*fixed, *(f"{k}={v}" for k, v in job.items())], schema)
            configs.append(to_config(hydra.compose(name, overrides), schema))
            folders = [each.folder for each in configs if hasattr(each, "folder")]
            if len(folders) > len({*folders}):
                raise BildError(
                    f"Several of these would train in the folder {folders[-1]}: give each its own, as in "
                    f"{shlex.quote(f'out={folders[-1]}-${{{next(iter(swept))}}}')}."
                )
            if "method" in groups(schema):
                check_heeded(parsed, configs[-1])
            check_single_file(parsed, configs[-1])
    return configs[0]


def published_settings(task: str, model: str) -> list[Setting]:
    """Return the paper's BiLD settings for a task and a pair, in the order of their names; none where it has none."""
    found = []
    for option in options("experiment"):
        chosen = load("experiment", option).get("defaults", [])
        # Composing takes a tenth of a second, so only those that name the task and the pair are composed.
        if {"override /task": task} in chosen and {"override /model": model} in chosen:
            config: RunConfig = compose([f"experiment={option}"])
            if config.method.name == "bild":
                found.append((config.method, config.threshold))
    return found


def shapes() -> dict[str, ShapeConfig]:
    """Return the shapes of published checkpoints, by name."""
    return {option: typed(ShapeConfig, load("shape", option)) for option in options("shape")}
