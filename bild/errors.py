"""The one exception that a user's mistake ends in."""

from __future__ import annotations


class BildError(Exception):
    """A user's mistake, told in one sentence: what was wrong, what was expected, what to do.

    The command lines print the message alone, without a traceback, and leave with exit code 2.
    """
