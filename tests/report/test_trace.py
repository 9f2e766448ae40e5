"""Traces on the terminal: every token with its fate, in colours or in marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bild.errors import BildError
from bild.report.trace import FATES, fates, numbers, pieces, reason, show_traces
from bild.results.sample import SampleLog
from tests.records import make_sample

WORDS = {0: "", 1: "", 2: " Der", 3: " Hund", 4: " läuft", 5: "s", 6: " [red]Katze", 7: "."}
ROUNDS: list[dict[str, Any]] = [
    {"start": 1, "drafted": [], "probs": [], "stop": "none", "token_nll": [], "kept": 0, "wrote": 2, "rollback": False},
    {
        "start": 2, "drafted": [3, 5], "probs": [0.912, 0.8, 0.314], "stop": "unsure", "token_nll": [0.02, 7.5],
        "kept": 1, "wrote": 4, "rollback": True,
    },
    {"start": 4, "drafted": [6], "probs": [0.9, 0.2], "stop": "unsure", "token_nll": [0.1], "kept": 1, "wrote": 7,
     "rollback": False},
    {"start": 6, "drafted": [1], "probs": [0.99], "stop": "eos", "token_nll": [0.0], "kept": 1, "wrote": None,
     "rollback": False},
]  # fmt: skip
TOKENS = [0, 2, 3, 4, 6, 7, 1]


def decode(ids: Sequence[int]) -> str:
    return "".join(WORDS[token] for token in ids).lstrip()


@pytest.fixture
def point(tmp_path: Path) -> Path:
    log = SampleLog(tmp_path)
    for i in range(3):
        made = make_sample(id=f"e{i}", tokens=TOKENS, text=decode(TOKENS), large_passes=4)
        log.append(made, ROUNDS if i else [])
    log.close()
    return tmp_path


def show(point: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **environment: str) -> str:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm-256color", "COLUMNS": "120"} | environment).items():
        monkeypatch.setenv(name, value)
    show_traces(point, 2, decode, {"e1": "The [bold]dog\x1b[2J\0"})
    return capsys.readouterr().out


def test_without_a_terminal_marks_stand_for_colours(
    point: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = show(point, monkeypatch, capsys)
    assert not {"\x1b", "\0"} & set(out)
    assert "[large model]" in out
    assert "{large model, taking back}" in out
    assert "e1   6 tokens, 4 large passes" in out
    assert "The [bold]dog" in out
    rounds = [" ".join(line.split()) for line in out.splitlines()[-4:]]
    assert rounds == [
        "1 no draft [Der]",
        "2 small model unsure; 1 taken back Hund~s~ (?) {läuft} p .91 .80 .31 nll 0.0 7.5",
        "3 small model unsure [red]Katze (?)[.] p .90 .20 nll 0.1",
        "4 end of text ⏎ p .99 nll 0.0",
    ]
    assert "One model wrote it all" in out
    assert "e2" not in out


def test_colours_where_they_are_forced_and_none_where_they_are_not_wanted(
    point: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    coloured = show(point, monkeypatch, capsys, FORCE_COLOR="1")
    assert "\x1b[" in coloured
    assert "~s~" not in coloured
    plain = show(point, monkeypatch, capsys, FORCE_COLOR="1", NO_COLOR="1")
    assert "~s~" in plain
    assert "38;" not in plain


def test_a_narrow_terminal_gives_the_numbers_a_line_of_their_own(
    point: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = show(point, monkeypatch, capsys, COLUMNS="70").splitlines()
    assert max(map(len, lines[2:])) <= 70
    assert any(line.strip() == "p .91 .80 .31  nll 0.0 7.5" for line in lines)


def test_every_token_of_a_round_has_a_fate() -> None:
    assert list(fates(ROUNDS[1])) == [("small", 3), ("taken", 5), ("dropped", None), ("rollback", 4)]
    assert {fate for each in ROUNDS for fate, _ in fates(each)} == set(FATES)
    assert reason(ROUNDS[3]) == "end of text"
    assert numbers(ROUNDS[0]) == ""


def test_a_piece_keeps_the_space_before_it() -> None:
    assert pieces([-1, 2, 3, 5, 7, 1], decode) == {1: "", 2: " Der", 3: " Hund", 5: "s", 7: "."}
    assert pieces([7], decode) == {7: "."}
    assert pieces([], decode) == {}


def test_a_damaged_trace_is_told_in_a_sentence(point: Path) -> None:
    (point / "trace.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(BildError, match="is damaged"):
        show_traces(point, 1, decode, {})
