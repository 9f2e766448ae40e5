"""The ends of sentences."""

from __future__ import annotations

import pytest

from bild.metrics.statistics import one_per_line, sentences


@pytest.mark.parametrize(
    "parts",
    [
        ["One sentence."],
        ["No full stop at the end"],
        ["The first.", "The second!", "The third?", "The fourth"],
        ["Is it?!", "It is."],
        # Lower case after a full stop: outputs of T5 often look so.
        ["he is 41 .", "he was born in leeds ."],
        ["The storm hit the city .", "Nobody was hurt ."],
        # Closing marks stay with their sentence.
        ['"We won," he said.', "“It is over.”", "(They had tried.)", "'Why?'", "Nobody knows."],
        # Titles, initials, abbreviations before a name or a number.
        ["Dr. Smith met Mrs. J. K. Jones and Gen. Lee at St. Mary's.", "They talked."],
        ["It opened on Feb. 3 in Portland, Ore. after a year."],
        ["It cost $3.5m, i.e. 2.1 per cent more than in 2.0.1 vs. 2.0.", "So it goes."],
        ["They live in the U.S. and the U.K. with R.E.M. records."],
        ["He was born in the U.S.", "He left at 5 a.m.", "The train was late."],
        ["She works for Acme Corp. in London.", "She moved there from Smith Inc.", "It is large."],
        # A single "no" or "i" is a word.
        ["He said no.", "She left."],
        ["So did i.", "we went home."],
        # Dots that trail off end a sentence before a capital only.
        ["Wait... there is more..."],
        ["He waited...", "Nobody came."],
        # No space, no end.
        ["Visit www.example.com or mail a.b@example.com now."],
        ["The index rose 1.5%.", "Oil fell."],
    ],
    ids=lambda parts: parts[0],
)
def test_boundaries(parts):
    assert sentences(" ".join(parts)) == parts


def test_line_ends_are_boundaries_and_stay():
    text = "police say he fled\nhe was caught in leeds. he is 41\n\n  two others got away  \n"
    assert sentences(text) == ["police say he fled", "he was caught in leeds.", "he is 41", "two others got away"]


def test_windows_line_ends_leave_no_trace():
    assert sentences("One.\r\nTwo.\r\n") == ["One.", "Two."]


@pytest.mark.parametrize("blank", ["", " ", "\n\n", " \t\n "])
def test_a_blank_text_has_no_sentences(blank):
    assert sentences(blank) == []
    assert one_per_line(blank) == ""


def test_nothing_but_white_space_is_lost():
    text = 'Mr. X said: "No!" (Twice.) Then... He left at 5 p.m. on Fri. with 3.5 kg.\nAnd so on.'
    assert "".join(one_per_line(text).split()) == "".join(text.split())


def test_splitting_twice_changes_nothing():
    text = "Dr. Smith came. He left! Did he? (Yes.) On Jan. 5 the U.S. team won... Nobody knows why."
    assert one_per_line(one_per_line(text)) == one_per_line(text)


def test_a_degenerate_output_is_no_trouble():
    assert sentences("." * 100_000) == ["." * 100_000]
    assert len(sentences(". " * 100_000)) == 100_000
    assert sentences("a" * 100_000 + ". B") == ["a" * 100_000 + ".", "B"]
