"""From overrides to a checked configuration: a task or a pair that was not named is chosen to fit the other."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bild.cli.checks import check_heeded, check_options
from bild.cli.overrides import (
    GROUPS,
    conf_dir,
    groups,
    load,
    options,
    parse,
    refuse_several,
    register,
    sentence,
    to_fields,
    values,
)
from bild.config import MethodConfig, ModelConfig, RunConfig, ShapeConfig, TaskConfig, ThresholdConfig
from bild.errors import BildError, did_you_mean
from bild.options import options_of


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
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield
    except (HydraException, OmegaConfBaseException) as error:
        raise BildError(sentence(error)) from error


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
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), *layers))
    except OmegaConfBaseException as error:
        raise BildError(sentence(error)) from error


def as_written(path: Path, schema: type, there: Mapping[str, Any], options: Sequence[str]) -> Any:
    """Return the configuration that a point's file holds, but for `there` and options as they are typed.

    Keys that the schema no longer has are left out. BildError for options that there are not, and for groups.
    """
    check_options(parse(options), schema)
    if chosen := [option for option in options if option.partition("=")[0] in groups(schema)]:
        raise BildError(f"{chosen[0]} chooses from a group: a point that is run again takes key=value only.")
    plain = OmegaConf.to_container(OmegaConf.load(path))
    config = typed(schema, _known(schema, plain), there, OmegaConf.from_dotlist(list(options)))
    check_fit(config)
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
    raise BildError(
        f"model={model.name} does not fit task={task.name} ({task.kinds[-1]}): {takes}this task takes {taken}."
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
    return configs[0]


def published_settings(task: str, model: str) -> list[tuple[MethodConfig, ThresholdConfig]]:
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
