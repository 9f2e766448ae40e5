"""The options there are, in `conf/` and in a schema, and a user's arguments read as overrides of them."""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, ValueType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from bild.errors import BildError, refusing, shown
from bild.options import Option, options_of

GROUPS = ("task", "model", "method", "threshold", "engine", "decode", "experiment")
"""The groups of commands that measure points; a schema with groups of its own names them as its `GROUPS`."""
MOST_JOBS = 100_000
_OPTION = re.compile(r"(?P<sign>\+{0,2}|~)(?P<key>[A-Za-z_][\w/.-]*)=(?P<value>.*)", re.DOTALL)
_PART = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|([\[{])|([\]}])|(?<=[{,])\s*([\w.-]+)\s*(?=:)""")
"""A quoted text, the begin and the end of a list or a mapping, or a key of the latter."""
_INFINITE = re.compile(r"(?<=[\[{:=,+\-\s])\.(inf|nan)\b", re.IGNORECASE)


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


def closest(value: str, known: list[str]) -> str:
    """Return options as one list in words: all, or of many those that are most like a value."""
    if len(known) <= 12:
        return ", ".join(known)
    sought = value.casefold().replace("_", "-")
    close = sorted((each for each in known if sought and sought in each), key=lambda each: each.find(sought))[:4]
    close = close or difflib.get_close_matches(sought, known, n=4, cutoff=0.5) or known[:4]
    return f"{', '.join(close)} ... ({len(known)} in all, see --help)"


def load(group: str, option: str) -> DictConfig:
    """Read the file of an option as it stands, nothing filled in."""
    loaded = OmegaConf.load(conf_dir() / group / f"{option}.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded


_parser = functools.cache(OverridesParser.create)


def option_at(key: str, schema: type) -> tuple[Option | None, bool]:
    """Return what a dotted key stands for, if there is such a key, and whether it lies in a mapping."""
    kind, inside = Option(schema, {}), False
    for part in key.split("."):
        if kind.schema is not None and part in options_of(kind.schema):
            kind = options_of(kind.schema)[part]
        elif kind.schema is None and kind.holds(dict):
            kind, inside = kind.inner, True
        else:
            return None, inside
    return kind, inside or kind.holds(dict)


@functools.cache
def all_options(schema: type) -> dict[str, Option]:
    """Return every option of a schema by its dotted name."""
    found: dict[str, Option] = {}
    for name, option in options_of(schema).items():
        if option.schema is None:
            found[name] = option
        else:
            found |= {f"{name}.{key}": each for key, each in all_options(option.schema).items()}
    return found


def to_fields(arguments: Sequence[str], schema: type) -> list[str]:
    """Return arguments as Hydra takes them, of which users need not know.

    A word or a path stands for itself, with all its signs, and `.inf` is a number; `+` is put before a key of a
    mapping. What the schema's `ALIASES` name becomes its fields, which are lists: as `engine` is also a group,
    `engine=hf,fused` becomes `engines=[hf,fused]`.
    """
    aliases: dict[str, str] = getattr(schema, "ALIASES", {})
    found, entries = [], dict[tuple[str, str], list[str]]()
    for argument in arguments:
        match = _OPTION.fullmatch(argument)
        if match is None or match["sign"] == "~":
            found.append(argument)
            continue
        key, value = match["key"], match["value"]
        if key in aliases:
            key, value = aliases[key], value if value.startswith("[") else f"[{value}]"
        option, mapped = option_at(key, schema)
        word = key in groups(schema) or (option is not None and option.free)
        if not word:
            value = _INFINITE.sub(r"\1", f"={value}")[1:]
        if not value.startswith(("'", '"')) and ((word and value not in ("", "null")) or not _readable(value)):
            value = _as_words(value)
        path, _, name = key.rpartition(".")
        holder, _, entry = path.rpartition(".")
        above, around = (option_at(each, schema)[0] if each else None for each in (holder, path))
        whole = around is not None and around.holds(dict) and around.inner.schema is not None
        if whole and re.fullmatch(r"\{.*[^\s{}].*\}", value) and _readable(value):
            entries.setdefault((path, name), []).append(value[1:-1])
        elif above is not None and above.holds(dict) and _readable(f"{{{name}: {value}}}"):
            # Neither an entry that is not there nor one that is not whole can be added by itself.
            entries.setdefault((holder, entry), []).append(f"{name}: {value}")
        else:
            found.append(f"{'++' if mapped else ''}{key}={value}")
    return [*found, *(f"++{key}={{{entry}: {{{', '.join(told)}}}}}" for (key, entry), told in entries.items())]


def _as_words(value: str) -> str:
    """Quote a value, or every one of several; a function of Hydra's, such as range(...), stays."""
    if re.match(r"(choice|range|glob|interval|sort|shuffle|tag|extend_list|str|int|float|bool|json_str)\(", value):
        return value if _readable(value) else _quoted(value)
    several = value.split(",") if value[:1] not in "[{(" else [value]
    return ",".join(map(_quoted, several if all(several) else [value]))


def _quoted(text: str, by: Quote = Quote.single) -> str:
    return str(QuotedString(text, by).with_quotes())


def _readable(value: str) -> bool:
    try:
        _parser().parse_override(f"key={value}")
    except (HydraException, ValueError):
        return False
    return True


def as_typed(text: str, schema: type) -> str:
    """Put the words that users type into a sentence that names fields."""
    for typed, name in getattr(schema, "ALIASES", {}).items():
        text = re.sub(rf"\b{name}\b", typed, text)
    return text


def parse(overrides: Iterable[str]) -> list[Override]:
    """Read `group=option` and `key=value`. BildError for what is neither, and for a key that is given twice."""
    parser, parsed = _parser(), dict[str, Override]()
    for text in overrides:
        if text.startswith("~"):
            raise BildError(f"{shown(text)} takes an option away, which none can be: leave it out, or set it to null.")
        try:
            override = parser.parse_override(text if text.lstrip("+")[:1] not in ("", "=", "@") else "")
        except (HydraException, ValueError) as error:
            raise BildError(
                f"The option {shown(text)!r} cannot be read: write group=option or key=value, as --help lists them."
            ) from error
        key = override.get_key_element().lstrip("+")
        if key in parsed and values(parsed[key]) != values(override):
            both = " and ".join(shown(",".join(values(each))) for each in (parsed[key], override))
            raise BildError(f"{key} is given twice, as {both}: leave one of them out.")
        if (name := _twice(text)) is not None:
            raise BildError(f"{key} has {name} twice in one mapping: leave one of them out.")
        parsed[key] = override
    return list(parsed.values())


def _twice(text: str) -> str | None:
    """Return a key that a mapping in this text has twice, of which Hydra would take the last."""
    known: list[set[str]] = []
    for opens, closes, key in _PART.findall(text):
        if opens:
            known.append(set())
        elif closes:
            known = known[:-1]
        elif key and known:
            if key in known[-1]:
                return str(key)
            known[-1].add(key)
    return None


def values(override: Override) -> list[str]:
    """Return the values of an override, as they were typed."""
    if override.value_type in (ValueType.GLOB_CHOICE_SWEEP, ValueType.INTERVAL_SWEEP):
        raise BildError(f"{override.input_line} does not list its values: write them as in threshold.fb=0.3,0.6.")
    if override.is_sweep_override():
        line = f"{override.input_line} has no values: write them as in threshold.fb=0.3,0.6."
        with refusing(lambda _: line, HydraException, ValueError, ArithmeticError):
            found = list(itertools.islice(override.sweep_iterator(), MOST_JOBS + 1))
        if not 0 < len(found) <= MOST_JOBS:
            many = f"more than {MOST_JOBS:,} values" if found else "no values"
            raise BildError(f"{override.input_line} names {many}: write them as in threshold.fb=0.3,0.6.")
        return [_plainly(value) for value in found]
    return [_plainly(override.value())]


def given(override: Override) -> Iterator[tuple[Any, str]]:
    """Yield the values of an override, each with how it was typed."""
    if override.is_sweep_override():
        for value, typed in zip(override.sweep_iterator(), values(override), strict=True):
            yield value.text if isinstance(value, QuotedString) else value, typed
    else:
        value = override.value()
        yield value, value if isinstance(value, str) else (override.input_line or "").partition("=")[2]


_OF_SPLITS = r"task\.(split|confirm|config|files)|splits\.|sweep\.choose(?!.*=[\d.])"


def check_single_file(overrides: Iterable[Override], config: Any) -> None:
    """Refuse options that name splits of data that are one file: all of them would be that file in silence."""
    task = getattr(config, "task", None)
    if task is None or task.data != "file" or not Path(task.path).expanduser().is_file():
        return
    usual = load("task", task.name) if task.name in options("task") else {}
    for override in overrides:
        key, named = override.key_or_group, values(override)
        if re.match(_OF_SPLITS, f"{key}={named[0]}") and named not in (["null"], [usual.get(key.partition(".")[2])]):
            what = f"{key} has no effect beside task.path={shown(task.path)}, a single file, which is every split"
            raise BildError(f"{what}: leave it out, or give a folder with a file for each split.")


def _plainly(value: object) -> str:
    return value.text if isinstance(value, QuotedString) else "null" if value is None else str(value)


def refuse_several(override: Override, schema: type) -> None:
    """Refuse several values where one is wanted; BildError says how they are run, or how they are written as one."""
    key, several = override.get_key_element().lstrip("+"), ",".join(values(override)[:8])
    option, _ = option_at(key, schema)
    single = ""
    if option is not None and option.holds(list):
        single = f", or write {shlex.quote(f'{key}=[{several}]')} for a list"
    elif option is not None and option.free:
        single = f", or write {shlex.quote(f'{key}={_quoted(several, Quote.double)}')} if it is one"
    raise BildError(f"{key}={shown(several)} names several values: add -m to run them all{single}.")


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Turn an error of Hydra or OmegaConf inside into a BildError."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise BildError(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    """Return one sentence from an error of Hydra or OmegaConf, which knows its cause and key."""
    cause = error
    while isinstance(cause.__cause__, (HydraException, OmegaConfBaseException)):
        cause = cause.__cause__
    if isinstance(cause, MissingConfigException) and (cause.missing_cfg_file or "").startswith("hydra/launcher/"):
        name = str(cause.missing_cfg_file).rpartition("/")[2]
        return f"hydra/launcher={name} is not installed: pip install hydra-{name.partition('_')[0]}-launcher."
    key = getattr(cause, "full_key", None)
    if str(key).startswith("hydra.launcher."):
        return f"{key} is no option of this launcher: leave it out, or name the one that has it by hydra/launcher=..."
    if isinstance(cause, MissingMandatoryValue):
        return f"{key} is missing: give it, too."
    head = next((line.strip().rstrip(".") for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return f"{key}: {head[0].lower()}{head[1:]}." if key else f"{head}."
