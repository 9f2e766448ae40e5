"""Progress on stderr: lines where nobody looks on, a bar in a terminal, and nothing on stdout."""

from __future__ import annotations

import time

import pytest

from bild.progress import clock, folded, say, telling, track


class Clock:
    """A clock that each look moves on by some seconds."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 100.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_quick_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(5), 5, "xsum")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_long_work_says_a_line_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", Clock(4.0))
    assert list(track("abcdefgh", 8, "xsum, 2 points")) == list("abcdefgh")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "xsum, 2 points: 3/8, 0.2/s, 0:20 left",  # after 12 s
        "xsum, 2 points: 6/8, 0.2/s, 0:08 left",  # after 24 s
        "xsum, 2 points: 8/8, 0.2/s, 0:00 left",
    ]


def test_work_that_is_told_of_goes_on_from_what_was_done_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", Clock(6.0))
    with telling("trees") as tell:
        for done in (50, 52, 54):
            tell(done, 60)
        tell(56, 60, "one waits")
        tell(60, 60)
        tell(61, 60), tell(62, 60)
    assert capsys.readouterr().err.splitlines() == [
        "trees: 52/60, 0.2/s, 0:48 left",  # 2 in 12 s
        "trees: 56/60, 0.2/s, 0:16 left, one waits",
        "trees: 60/60, 0.3/s, 0:00 left",
        "trees: 62/60, 0.3/s, 0:00 left",
    ]


def test_a_line_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("epoch 1")
    assert capsys.readouterr() == ("", "epoch 1\n")


def test_an_item_is_passed_on_before_the_next_is_asked_for() -> None:
    asked = []

    def items():
        for i in range(3):
            asked.append(i)
            yield i

    for item in track(items(), 3, "xsum"):
        assert asked[-1] == item


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TTY_COMPATIBLE", "1"), ("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "120")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(time, "monotonic", Clock(1.0))
    assert list(track(range(3), 3, "xsum")) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert "xsum" in err
    assert "3/3" in err


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_spans(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_prose_is_broken_between_words_and_a_command_is_not() -> None:
    assert folded("one two-three four five", 13, "  ", "    ") == "  one\n    two-three\n    four five"
    assert folded("ab cd.\n\n    bild run a=b   # as it is", 6) == "ab cd.\n\n    bild run a=b   # as it is"
    assert folded("Not shown: no point. Make it: bild run task=xsum", 12) == (
        "Not shown:\nno point.\nMake it: bild run task=xsum"
    )
