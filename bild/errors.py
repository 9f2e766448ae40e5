"""The one exception that a user's mistake ends in, the checks that raise it most often, and where command lines end."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, NoReturn


class BildError(Exception):
    """A user's mistake, told in one sentence: what was wrong, what was expected, what to do.

    The command lines print the message alone, without a traceback, and leave with exit code 2.
    """


class Arguments(argparse.ArgumentParser):
    """A parser of a command line's arguments, whose mistakes are BildErrors."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser`."""
        dashes = ", and options are written without dashes, as threshold.fb=0.6" if "=" in message else ""
        raise BildError(f"The command line cannot be read: {shown(message, 200)}; --help shows what there is{dashes}.")


_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Return text with a space for every control character but the line feed, and for those that turn its direction.

    What a terminal, a table, a figure or a page is given goes through here: a name or a source text could clear the
    screen or rewrite the lines above.
    """
    return _CONTROLS.sub(" ", text)


def shown(value: Any, most: int = 80) -> str:
    """Return a value as a sentence quotes it: on one line, as it would be typed, and not at length."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = "null" if value is None else text.lower() if isinstance(value, bool) else text
    text = " ".join(plain(text).split())
    return text if len(text) <= most else f"{text[: most - 20]}... ({len(text):,} characters)"


def one_of(name: str, value: str | None, choices: Collection[str] | None) -> None:
    """Refuse a word that is not one of the choices; accept None, which stands for an option not given."""
    if value is not None and choices is not None and value not in choices:
        raise BildError(f"{name}={shown(value)} is not known: choose one of {', '.join(choices)}.")


_SIZES = re.compile(r"([\d.]+ ?(?:[KMGTP]i?B|bytes))")
HELPS = "engine.dtype=fp16 halves the weights, and measure.library=0 leaves out the library's module"
"""The options that help a measurement whose models do not fit."""


def out_of_memory(error: BaseException, helps: str = HELPS) -> BildError | None:
    """Turn an error of torch (on CUDA or the CPU), NumPy or Python that memory is short into a sentence; else None.

    It has what was asked for and what was free, as far as the library tells, and the options that help.
    """
    text = str(error)
    cuda = type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in text  # torch may not be loaded here
    if not (cuda or isinstance(error, MemoryError) or "DefaultCPUAllocator" in text):
        return None
    asked = re.search(r"(?:allocate|for) " + _SIZES.pattern, text)
    free = re.search(_SIZES.pattern + r" is free", text)
    needed = f": {_readable(asked[1])} more were needed" if asked else ""
    had = f", and {free[1]} were free" if free else ""
    return BildError(f"The memory of {'the GPU' if cuda else 'this machine'} is full{needed}{had}; {helps}.")


def _readable(size: str) -> str:
    """Return "123456789 bytes" in GB; other sizes as they are."""
    number, _, unit = size.partition(" ")
    return f"{float(number) / 1e9:.2f} GB" if unit == "bytes" else size


def told(error: Exception) -> str:
    """Return what a library's error says, on one line and not at length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 160 else f"{text[:157]}...").rstrip(".")


def did_you_mean(word: str, known: Iterable[str], before: str = "") -> str:
    """Return " (did you mean ...?)" where a known word is close, else nothing; `before` is put before that word."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {before}{close[0]}?)" if close else ""


def guard(command: Callable[[], None], stopped: str = "stopped", helps: str = HELPS) -> int:
    """Call a command line's work and return its exit code: 0, or 2 after the sentence of a `BildError`.

    Where memory was short that sentence says so, and that `helps`.

    Ctrl-C gives 130 and the words that it was raised with, else the line `stopped`; a pipe that nobody reads any more
    (`... | head`) gives 141.
    """
    try:
        command()
    except (BildError, MemoryError, RuntimeError) as error:
        told_as = error if isinstance(error, BildError) else out_of_memory(error, helps)
        if told_as is None:
            raise
        print(f"error: {plain(str(told_as))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(str(error) or stopped, file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail at exit
        return 141
    return 0
