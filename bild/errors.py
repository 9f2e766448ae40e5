"""The one exception that a user's mistake ends in."""

from __future__ import annotations


class BildError(Exception):
    """A user's mistake, told in one sentence: what was wrong, what was expected, what to do.

    The command lines print the message alone, without a traceback, and leave with exit code 2.
    """


def told(error: Exception) -> str:
    """Return what a library's error says, on one line and not at length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 160 else f"{text[:157]}...").rstrip(".")
