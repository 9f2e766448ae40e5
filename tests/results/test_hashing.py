from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.errors import BildError
from bild.results import config_hash
from tests.lanes import many

REPOSITORY = Path(__file__).parents[2]


def test_the_hash_is_sha256_of_canonical_json() -> None:
    wanted = hashlib.sha256(b'{"a":2,"b":["inf",null,true,0.5]}').hexdigest()
    assert config_hash({"b": [math.inf, None, True, 0.5], "a": 2.0}) == wanted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"rb": 2}, {"rb": 2.0}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": {"x": 1, "y": [2]}}, {"a": {"y": (2.0,), "x": 1.0}}),
        ({"rb": math.inf}, {"rb": "inf"}),
        ({"rb": 0.0}, {"rb": -0.0}),
        ({"rb": 1e3}, {"rb": 1000}),
    ],
)
def test_equal_settings_have_equal_hashes(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert config_hash(one) == config_hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"rb": 2}, {"rb": 2.5}),
        ({"rb": 2}, {"rb": "2"}),
        ({"rb": 1}, {"rb": True}),
        ({"rb": None}, {}),
        ({"rb": 0.1 + 0.2}, {"rb": 0.3}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": {"b": 1}}, {"a.b": 1}),
        ({"prompt": "ü"}, {"prompt": "u"}),
        ({"rb": math.inf}, {"rb": -math.inf}),
    ],
)
def test_different_settings_have_different_hashes(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert config_hash(one) != config_hash(other)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@many(100)
@given(st.dictionaries(st.text(max_size=3), json_values, max_size=4))
def test_the_hash_survives_json_and_the_order_of_keys(payload: dict[str, Any]) -> None:
    again = json.loads(json.dumps(dict(reversed(payload.items()))))
    assert config_hash(again) == config_hash(payload)
    assert len(config_hash(payload)) == 64


def test_the_hash_is_the_same_in_another_process() -> None:
    script = "from bild.results import config_hash; print(config_hash({'a': 1, 'b': [0.1, 'ü']}))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7", "LC_ALL": "C"}
    )
    assert done.stdout.strip() == config_hash({"b": [0.1, "ü"], "a": 1})


def test_nan_is_refused_by_name() -> None:
    with pytest.raises(BildError, match=r"^threshold\.rb\[1\] is NaN"):
        config_hash({"threshold": {"rb": [1.0, math.nan]}})


@pytest.mark.parametrize("payload", [{"a": Path()}, {"a": {1, 2}}, {1: "a"}, {"a": b"x"}])
def test_what_has_no_canonical_json_is_a_type_error(payload: Any) -> None:
    with pytest.raises(TypeError):
        config_hash(payload)
