"""The configuration folder `conf/`, its groups, and their options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from bild.errors import BildError

GROUPS = ("task", "model", "method", "threshold", "engine", "decode", "experiment")
"""The groups of commands that measure points; a schema with groups of its own names them as its `GROUPS`."""


def conf_dir() -> Path:
    """Return the folder `conf/`: beside the package in a checkout, inside it in an installed wheel."""
    here = Path(__file__).resolve().parents[1]
    for place in (here / "conf", here.parent / "conf"):
        if (place / "run.yaml").is_file():
            return place
    raise BildError(f"The configuration folder conf/ is missing beside {here}: install bild-bench again.")


def groups(schema: type) -> tuple[str, ...]:
    """Return the groups of `conf/` that a command with this schema takes."""
    found: tuple[str, ...] = getattr(schema, "GROUPS", GROUPS)
    return found


_registered: dict[str, type] = {}


def register(name: str, schema: type) -> None:
    """Make a config dataclass known to Hydra as `<name>_schema`, which takes a fifth of a second where it is new."""
    if _registered.get(name) is not schema:
        ConfigStore.instance().store(name=f"{name}_schema", node=schema)
        _registered[name] = schema


def options(group: str) -> list[str]:
    """Return the options of a group, as they are typed."""
    folder = conf_dir() / group
    return sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))


def in_brief(group: str, named: Iterable[str]) -> str:
    """Return options as one list in words; those in a folder are only counted."""
    named = list(named)
    folders = Counter(option.partition("/")[0] for option in named if "/" in option)
    shown = [option for option in named if "/" not in option]
    return ", ".join(shown + [f"{folder}/... ({n}: bild list {group}s)" for folder, n in folders.items()])


def load(group: str, option: str) -> DictConfig:
    """Read the file of an option as it stands, nothing filled in."""
    loaded = OmegaConf.load(conf_dir() / group / f"{option}.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded
