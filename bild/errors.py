"""The one exception that a user's mistake ends in, the checks that raise it most often, and where command lines end."""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TextIO

from bild.limits import watch_memory_limit


class BildError(Exception):
    """A user's mistake, told in one sentence: what was wrong, what was expected, what to do.

    It is on one line, whatever it quotes. The command lines print it without a traceback, and leave with exit code 2.
    """

    def __str__(self) -> str:
        return plain(super().__str__()).replace("\n", " ")


class Arguments(argparse.ArgumentParser):
    """A parser of a command line's arguments, whose mistakes are BildErrors, and which takes no value twice."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See `argparse.ArgumentParser`."""
        words = [word.partition("=")[0] for word in (sys.argv[1:] if args is None else args)]
        for option in self._actions:
            last_counts = option.nargs != 0 and not isinstance(option.default, list)
            if last_counts and sum(map(words.count, option.option_strings)) > 1:
                raise BildError(f"{option.option_strings[-1]} is given twice: leave one of them out.")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser`."""
        takes = "=" in message and any(each.dest == "overrides" for each in self._actions)
        dashes = ", and options are written without dashes, as key=value" if takes else ""
        raise BildError(f"The command line cannot be read: {shown(message, 200)}; --help shows what there is{dashes}.")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """See `argparse.ArgumentParser`; a help that cannot be written is told."""
        sys.stdout.flush()
        super().exit(status, message)


_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Return text with a space for every control character but the line feed, and for those that turn its direction.

    All that a terminal, a table, a figure or a page is given: a name could clear the screen or rewrite lines above.
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


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a disk, a share of one or a file that can grow no more."""
_SIZES = re.compile(r"([\d.]+ ?(?:[KMGTP]i?B|bytes))")
_SHORT = re.compile(
    "DefaultCPUAllocator|bad_alloc|annot allocate memory|unable to mmap|failed to map segment|"
    "can't start new thread|Thread creation failed|could not create a (primitive|memory object)$|"
    "error return without exception set"
)
"""Words of torch, oneDNN, safetensors, the loader of libraries and Python where memory or a thread is short."""
_NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded|File too large|[(]os error (28|122|27)[)]")
"""Words of libraries in Rust, which raise no OSError."""
HELPS = "engine.dtype=fp16 halves the weights, and measure.library=0 leaves out the library's module"
"""The options that help a measurement whose models do not fit."""
ROOM = "end what else takes it, or use a machine that has more, and run again"
"""What helps where no option does."""


def out_of_memory(error: BaseException, helps: str = ROOM) -> BildError | None:
    """Turn an error of torch (on CUDA or the CPU), NumPy or Python that memory is short into a sentence; else None.

    It has what was asked for and what was free, as far as the library tells, and the options that help.
    """
    text = str(error)
    cuda = type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in text  # torch may not be loaded here
    if isinstance(error, BildError) or not (
        cuda
        or isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError | OSError | ImportError | SystemError) and _SHORT.search(text))
    ):
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


def told(error: BaseException) -> str:
    """Return what a library's error says, on one line and not at length."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return text.rstrip(".") if len(text) <= 160 else f"{text[:154]} [...]"


@contextmanager
def refusing(sentence: Callable[[str], str], *kinds: type[Exception]) -> Iterator[None]:
    """Turn an error inside, of these kinds or a library's of any, into the BildError of a sentence on what it says."""
    try:
        yield
    except Exception as error:
        if isinstance(error, BildError) or (kinds and not isinstance(error, kinds)):
            raise
        short = None if kinds else out_of_memory(error) or refused(error)  # not to be fetched or trained again
        raise short or BildError(sentence(told(error))) from error


def did_you_mean(word: str, known: Iterable[str], before: str = "") -> str:
    """Return " (did you mean ...?)" where a known word is close, else nothing; `before` is put before that word."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(word.casefold(), folded, n=1)
    return f" (did you mean {before}{folded[close[0]]}?)" if close else ""


def guard(command: Callable[[], None], stopped: str = "stopped", helps: str = ROOM) -> int:
    """Call a command line's work, whatever comes of it, and return its exit code: 0, or that of `explain`.

    Where memory was short its sentence says that `helps`. A signal to end (Ctrl-C, SIGTERM, SIGHUP) is told by the
    words that it was raised with, else by the line `stopped`. What an encoding cannot show stands there escaped.
    """
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("stdout", "stderr"):  # None where whoever started the process has closed it
        stream = getattr(sys, name) or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _ending_in_order():
            Path.cwd()  # libraries end in the middle where it is gone
            command()
            sys.stdout.flush()  # what cannot be written is told now
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich has taken it for itself
            return explain(error.__context__)[0]
        raise
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:  # perhaps stdout: nothing is left to fail at exit
            _forget(sys.stdout)
        code, told_as = explain(error, stopped, helps)
        try:
            print(told_as, file=sys.stderr, end="\n" if told_as else "", flush=True)
        except OSError:
            _forget(sys.stderr)
        return code
    return 0


def explain(error: BaseException, stopped: str = "stopped", helps: str = ROOM) -> tuple[int, str]:
    """Return the exit code that an error ends a command with, and the line that tells it.

    2 for a mistake, a disk or a memory that is full; 130 for Ctrl-C, 143 for SIGTERM, 141 for a pipe that nobody reads;
    1 for what nobody thought of, whose traceback goes to a file that the line names.
    """
    if isinstance(error, KeyboardInterrupt):
        return error.code if isinstance(error, Ended) else 130, str(error) or stopped
    if isinstance(error, BrokenPipeError):
        return 141, ""
    known = error if isinstance(error, BildError) else out_of_memory(error, helps) or refused(error)
    if known is not None:
        return 2, f"error: {known}"
    before = error.__context__
    while before is not None and not isinstance(before, KeyboardInterrupt):
        before = before.__context__
    if before is not None:  # what came in the middle of a library, which then failed over it
        return explain(before, stopped, helps)
    what = f"{type(error).__name__}: {told(error)}" if str(error) else type(error).__name__
    return 1, f"error: This is a defect of bild ({what}): please report it with {_kept_traceback(error)}."


class Ended(KeyboardInterrupt):
    """A signal that ends the process, raised where Ctrl-C is, so that all that is open closes as it does then."""

    code = 143


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Raise `Ended` where SIGTERM or SIGHUP comes, unless whoever started the process heeds or ignores them."""

    def end(number: int, frame: object) -> None:
        ended = Ended()
        ended.code = 128 + number
        raise ended

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    mine = threading.current_thread() is threading.main_thread()
    heard = [number for number in signals if mine and signal.getsignal(number) == signal.SIG_DFL]
    for number in heard:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


def refused(error: BaseException) -> BildError | None:
    """Return the sentence for what the system refused (a file, the disk, a name that it does not know); else None."""
    if isinstance(error, Exception) and not isinstance(error, OSError) and _NO_ROOM.search(str(error)):
        return BildError("The disk is full: free some space and run again; what was finished before is kept.")
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if error.errno == errno.ENOENT and error.filename is None:
        return BildError("The working folder was removed or moved: change to one that is there and run again.")
    which = f"{error.filename} could not be used" if error.filename is not None else "The output could not be written"
    mend = "free some space" if error.errno in FULL else "fix that"
    return BildError(f"{which} ({error.strerror}): {mend} and run again; what was finished before is kept.")


def _kept_traceback(error: BaseException) -> str:
    """Write the traceback to a file of its own, and return its name; without room for one, the place it came from."""
    lines = traceback.format_exception(error)
    try:
        file, name = tempfile.mkstemp(prefix="bild-traceback-", suffix=".txt")
        with os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace") as opened:
            opened.writelines([shlex.join(sys.argv), "\n", *lines])
    except OSError:
        frames = traceback.extract_tb(error.__traceback__)
        return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "the command"
    return name


def _forget(stream: TextIO) -> None:
    """Send to nowhere what a stream still holds and is told."""
    with suppress(OSError, ValueError, AttributeError):  # it is no stream of the system's, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _leave(number: int, frame: object) -> None:
    os._exit(130)


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if (short := out_of_memory(error)) is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {short}", file=sys.stderr, flush=True)
        os._exit(2)


def _is_command(words: Sequence[str]) -> bool:
    """Tell whether a process of these words is the command `bild`, or one of its verbs by `python -m`."""
    module = words[words.index("-m") + 1] if "-m" in words[1:-1] else ""
    named = Path(words[1]).stem == "bild" if len(words) > 1 else False
    return named or (module.partition(".")[0] == "bild" and module.count(".") <= 1)


# While a command is still imported: nothing is open, nothing is to be told of Ctrl-C. `guard` takes it from there.
if _is_command(sys.orig_argv):
    sys.excepthook = _hook
    watch_memory_limit()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
