from __future__ import annotations

import dataclasses
import json
import math
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bild.errors import BildError
from bild.results import SCHEMA_VERSION, Record, Threshold
from bild.results.parts import Intervals
from bild.results.record import SCHEMA_PATH, from_json, schema_text, to_json
from tests.records import make_record, make_sweep

SCHEMA = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(codec="utf-8"), max_size=8)


def _strategy(kind: Any, metadata: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type; a record has few kinds of fields."""
    if metadata.get("infinite"):
        return st.one_of(st.none(), st.just(math.inf), numbers)
    if "shape" in metadata:
        return _shape(metadata["shape"])
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _instances(kind)
    if typing.get_origin(kind) is dict:
        key, item = typing.get_args(kind)
        keys = st.integers(0, 10**6) if key is int else words
        return st.dictionaries(keys, _strategy(item, {}), max_size=3)
    if type(None) in typing.get_args(kind):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        return st.one_of(st.none(), *(_strategy(option, {}) for option in options))
    if typing.get_origin(kind) is list:
        return st.lists(_strategy(typing.get_args(kind)[0], {}), max_size=2)
    return {int: st.integers(-(2**63), 2**63 - 1), float: numbers, str: words, bool: st.booleans()}[kind]


def _shape(shape: dict[str, Any]) -> st.SearchStrategy[Any]:
    known = st.fixed_dictionaries(
        {name: _shape(kind) if isinstance(kind, dict) else _strategy(kind, {}) for name, kind in shape.items()}
    )
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), numbers, words)
    free = st.dictionaries(
        words, st.recursive(leaves, lambda inner: st.lists(inner, max_size=2), max_leaves=3), max_size=2
    )
    return st.builds(lambda more, needed: {**more, **needed}, free, known)


def _instances(kind: Any) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    if kind is Intervals:
        return st.builds(Intervals, st.floats(0.5, 1.0, exclude_max=True))
    return st.builds(
        kind, **{field.name: _strategy(hints[field.name], field.metadata) for field in dataclasses.fields(kind)}
    )


def _finished(record: Record) -> Record:
    """With the two things that fields must agree in."""
    scores = record.quality.scores | {"main": make_record().headline}
    return dataclasses.replace(
        record, schema=SCHEMA_VERSION, quality=dataclasses.replace(record.quality, headline="main", scores=scores)
    )


def _fields(record: Any, kind: type) -> Iterator[tuple[list[str], Any]]:
    """Path and value of every field of this type, through dataclasses and mappings."""
    pairs = (
        [(field.name, getattr(record, field.name)) for field in dataclasses.fields(record)]
        if dataclasses.is_dataclass(record)
        else list(record.items())
    )
    for name, value in pairs:
        if dataclasses.is_dataclass(value) or isinstance(value, dict):
            for path, inner in _fields(value, kind):
                yield [str(name), *path], inner
        elif type(value) is kind:
            yield [str(name)], value


FLOATS = ["__".join(path) for path, _ in _fields(make_record(), float) if path[0] != "threshold"]
ALL = ["__".join(path) for kind in (float, int, str) for path, _ in _fields(make_record(), kind)]


@pytest.mark.parametrize("record", make_sweep(), ids=lambda record: record.label)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert from_json(to_json(record)) == record


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(_instances(Record).map(_finished))
def test_any_record_comes_back_and_fits_the_schema(record: Record) -> None:
    text = to_json(record)
    assert from_json(text) == record
    VALIDATOR.validate(json.loads(text, parse_constant=pytest.fail))


def test_the_schema_file_is_the_one_of_the_dataclasses() -> None:
    assert SCHEMA_PATH.read_text(encoding="utf-8") == schema_text(), "run python -m bild.results.record"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_an_infinite_rollback_threshold_is_the_string_inf() -> None:
    record = make_record(threshold=Threshold(0.6, math.inf))
    plain = json.loads(to_json(record))
    assert plain["threshold"] == {"fb": 0.6, "rb": "inf", "exit": None, "alpha": None, "top": None}
    VALIDATOR.validate(plain)
    assert from_json(to_json(record)).threshold.rb == math.inf


def test_large_widths_have_integer_keys_again() -> None:
    record = make_record(counts__large_widths={1: 3, 11: 40})
    assert json.loads(to_json(record))["counts"]["large_widths"] == {"1": 3, "11": 40}
    assert from_json(to_json(record)).counts.large_widths == {1: 3, 11: 40}


@pytest.mark.spread(20)
@pytest.mark.parametrize("field", FLOATS)
@pytest.mark.parametrize(("value", "said"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite")])
def test_no_number_but_a_finite_one_is_written(field: str, value: float, said: str) -> None:
    with pytest.raises(BildError, match=f"the field {re.escape(field.replace('__', '.'))} is {said}"):
        to_json(make_record(**{field: value}))


def test_a_number_too_large_for_a_machine_is_no_number() -> None:
    with pytest.raises(BildError, match=r"the field seconds is inf, but it must be a finite number"):
        from_json(to_json(make_record()).replace('"seconds": 431.0', '"seconds": 1e999'))


@pytest.mark.parametrize("rb", [math.nan, -math.inf])
def test_a_rollback_threshold_may_be_infinite_but_not_nonsense(rb: float) -> None:
    with pytest.raises(BildError, match=r"threshold\.rb is"):
        to_json(make_record(threshold__rb=rb))


def test_a_wrong_type_is_refused_when_it_is_written() -> None:
    with pytest.raises(BildError, match=r"counts\.tokens must be an integer, but it is '12'"):
        to_json(make_record(counts__tokens="12"))
    with pytest.raises(BildError, match=r"environment\.path is a PosixPath, which JSON cannot hold"):
        to_json(make_record(environment=make_record().environment | {"path": Path()}))


def _plain() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(to_json(make_record()))
    return plain


def _at(plain: dict[str, Any], path: list[str]) -> dict[str, Any]:
    for name in path[:-1]:
        plain = plain[name]
    return plain


# In these mappings any key may be absent.
FREE = ("quality__scores", "quality__difference__", "counts__large_widths", "environment__packages__", "threshold__")
OPTIONAL = (
    "method__stop",
    "method__keep",
    "environment__python",
    "environment__load",
    "environment__machine__driver",
    "task__data__where",
)


@pytest.mark.parametrize(
    "field", [field for field in ALL if field not in OPTIONAL and (not field.startswith(FREE) or field.endswith("low"))]
)
def test_a_missing_field_is_named(field: str) -> None:
    plain, path = _plain(), field.split("__")
    del _at(plain, path)[path[-1]]
    with pytest.raises(
        BildError, match=f"some/record.json is not a record: the field {re.escape('.'.join(path))} is missing"
    ):
        from_json(json.dumps(plain), "some/record.json")
    assert not VALIDATOR.is_valid(plain)


@pytest.mark.spread(40)
@pytest.mark.parametrize("wrong", [[], {}, True])
@pytest.mark.parametrize("field", [field for field in ALL if field not in OPTIONAL])
def test_a_field_of_the_wrong_type_is_named(field: str, wrong: Any) -> None:
    plain, path = _plain(), field.split("__")
    _at(plain, path)[path[-1]] = wrong
    with pytest.raises(BildError, match=f"record.json is not a record: the field {re.escape('.'.join(path))} must be"):
        from_json(json.dumps(plain))
    assert not VALIDATOR.is_valid(plain)


def test_null_stands_only_where_it_may() -> None:
    plain = _plain()
    plain["latency"]["library"] = None
    plain["threshold"] = {"fb": None, "rb": None}
    assert from_json(json.dumps(plain)).latency.library is None
    VALIDATOR.validate(plain)
    plain["latency"]["phases"] = None
    with pytest.raises(BildError, match=r"latency\.phases must be an object, but it is null"):
        from_json(json.dumps(plain))


@pytest.mark.parametrize("where", [[], ["latency"], ["latency", "speedup", "total"]])
def test_an_unknown_field_is_named(where: list[str]) -> None:
    plain = _plain()
    _at(plain, [*where, "new"])["new"] = 1
    with pytest.raises(BildError, match=f"the field {re.escape('.'.join([*where, 'new']))} is unknown"):
        from_json(json.dumps(plain))
    assert not VALIDATOR.is_valid(plain)
    _at(plain, [*where, "new"])["9" * 5000] = _at(plain, [*where, "new"]).pop("new")
    with pytest.raises(BildError, match=r"9\.\.\. \(5,000 characters\) is unknown"):
        from_json(json.dumps(plain))


@pytest.mark.parametrize("version", [0, 4, 99])
def test_another_schema_version_is_refused_before_its_fields_are_read(version: int) -> None:
    with pytest.raises(BildError, match=rf"a/record.json has schema version {version}, but .* reads versions 1 to 3"):
        from_json(json.dumps({"schema": version, "entirely": "different"}), "a/record.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"record"', "{}", '{"schema": "1"}', b"\xff\xfe{"])
def test_what_is_no_record_at_all_is_one_sentence(text: str | bytes) -> None:
    with pytest.raises(BildError, match=r"^x/record\.json is not (valid JSON|a record)") as caught:
        from_json(text, "x/record.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_the_literals_that_are_not_json_are_refused(literal: str) -> None:
    text = to_json(make_record()).replace('"seconds": 431.0', f'"seconds": {literal}')
    assert literal in text
    with pytest.raises(BildError, match=rf"r\.json is not valid JSON: it holds {literal}"):
        from_json(text, "r.json")


def test_the_headline_must_be_one_of_the_scores() -> None:
    with pytest.raises(BildError, match=r"quality\.headline names rouge1"):
        to_json(make_record(quality__headline="rouge1"))


@pytest.mark.parametrize("key", ["one", "+1", "01", "-1", "1.0", ""])
def test_a_width_that_is_no_integer_is_refused(key: str) -> None:
    plain = _plain()
    plain["counts"]["large_widths"] = {key: 1}
    with pytest.raises(BildError, match=r"counts\.large_widths has the key"):
        from_json(json.dumps(plain))
    assert not VALIDATOR.is_valid(plain)


def test_headline_and_its_difference() -> None:
    record = make_record()
    assert record.headline is record.quality.scores["bleu"]
    assert record.headline_difference == record.quality.difference["bleu"]  # type: ignore[index]
    assert make_record(quality__difference=None).headline_difference is None


def test_a_record_of_version_2_is_read_with_what_it_could_know() -> None:
    made = make_record()
    plain = json.loads(to_json(made)) | {"schema": 2}
    for name in ("examples", "origin", "data", "settled"):
        del plain["quality"][name]
    for name in ("sessions", "between", "percentiles"):
        del plain["latency"][name]
    for name in ("lower", "upper", "sd"):
        del plain["quality"]["difference"]["bleu"][name]
    read = from_json(json.dumps(plain))
    assert (read.schema, read.quality.examples, read.quality.origin) == (SCHEMA_VERSION, 888, "live")
    assert (read.quality.data, read.quality.settled) == (made.task.data["hash"], 0)
    assert (read.latency.sessions, read.latency.between, read.latency.percentiles) == ([], None, None)
    found, expected = read.headline_difference, made.headline_difference
    assert found is not None
    assert expected is not None
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)
    assert found.lower == pytest.approx(expected.lower, abs=1e-3)
    assert found.low < found.lower < found.value < found.upper < found.high
    plain["quality"]["difference"]["bleu"] = {"value": "much", "low": 0, "high": 1}
    with pytest.raises(BildError, match=r"quality\.difference\.bleu"):
        from_json(json.dumps(plain))
