"""The one exception that a user's mistake ends in, the checks that raise it most often, and where command lines end."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable


class BildError(Exception):
    """A user's mistake, told in one sentence: what was wrong, what was expected, what to do.

    The command lines print the message alone, without a traceback, and leave with exit code 2.
    """


def one_of(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of the choices; accept None, which stands for an option not given."""
    if value is not None and value not in choices:
        raise BildError(f"{name}={value} is not known: choose one of {', '.join(choices)}.")


def at_least(name: str, value: float | None, least: float) -> None:
    """Refuse NaN and a number below `least`; accept None, which stands for an option not given."""
    if value is not None and not value >= least:  # also refuses NaN
        raise BildError(f"{name}={value:g} is out of range: it must be {least:g} or more.")


def told(error: Exception) -> str:
    """Return what a library's error says, on one line and not at length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 160 else f"{text[:157]}...").rstrip(".")


def did_you_mean(word: str, known: Iterable[str], before: str = "") -> str:
    """Return " (did you mean ...?)" where a known word is close, else nothing; `before` is put before that word."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {before}{close[0]}?)" if close else ""


def guard(command: Callable[[], None], stopped: str = "stopped") -> int:
    """Call a command line's work and return its exit code: 0, or 2 after the sentence of a `BildError`.

    Ctrl-C gives 130 and the words that it was raised with, else the line `stopped`; a pipe that nobody reads any more
    (`... | head`) gives 141.
    """
    try:
        command()
    except BildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(str(error) or stopped, file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail at exit
        return 141
    return 0
