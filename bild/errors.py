"""The one exception that a user's mistake ends in, and the checks that raise it most often."""

from __future__ import annotations


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
