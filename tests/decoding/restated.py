"""BiLD written down a second time, token by token, without the package: what the policies are compared with.

A model is a function from a prefix (token ids, start token included) to the log-probabilities of the next token. The
restatements call it as often as they like and keep no answer, so nothing here can go wrong by caching.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

NextToken = Callable[[Sequence[int]], Sequence[float]]


def best(logp: Sequence[float]) -> int:
    """The first of the likeliest tokens."""
    return max(range(len(logp)), key=lambda token: (logp[token], -token))


def greedy(model: NextToken, prefix: Sequence[int], *, eos: int, max_length: int) -> list[int]:
    """The prefix, and what the model writes on by itself."""
    y = list(prefix)
    while len(y) < max_length and y[-1] != eos:
        y.append(best(model(y)))
    return y


@dataclass
class Written:
    """A text, and the passes that it took: model and number of new positions, `L1 S2 S1 L3`."""

    tokens: list[int]
    calls: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    """In order: "fallback", "rollback", and "hidden" where the earliest unlikely token is the large model's own, and
    later ones were not looked at."""
    margins: list[float] = field(default_factory=list)
    """Distance of each comparison from going the other way; near 0 is a near-tie."""


class _Watched:
    """Notes how close the decisions are."""

    def __init__(self) -> None:
        self.margins: list[float] = []

    def choice(self, logp: Sequence[float]) -> int:
        first, second = sorted(logp, reverse=True)[:2]
        self.margins.append(first - second)
        return best(logp)

    def below(self, a: float, b: float) -> bool:
        self.margins.append(abs(a - b))
        return a < b


def authors(
    small: NextToken,
    large: NextToken,
    *,
    fb: float,
    rb: float,
    max_draft: int,
    start: int,
    eos: int,
    max_length: int,
) -> Written:
    """Decode as the authors' code does, quirks and wasted positions included.

    Each model has a cache of `cached` positions. A pass takes all of the text that its cache lacks as its window, and
    what is outside of the window is not looked at again.
    """
    y, by_small = [start], [False]
    calls, events = list[str](), list[str]()
    watch = _Watched()
    large_cached = small_cached = 0
    turn, steps_left = "large", 0
    while True:
        if turn == "large":
            window = range(large_cached, len(y))
            calls.append(f"L{len(window)}")
            choice = watch.choice(large(y))
            written = [at for at in window if by_small[at]]
            too_unlikely = [at for at in written if watch.below(rb, -large(y[:at])[y[at]])]
            if too_unlikely:
                at = too_unlikely[0]
                instead = watch.choice(large(y[:at]))
                events.append("hidden" if instead == y[at] else "rollback")
                if instead != y[at]:
                    y, by_small = [*y[:at], instead], [*by_small[:at], False]
                    small_cached = min(small_cached, at)
                    continue
            large_cached = len(y)
            y.append(choice)
            by_small.append(False)
            if choice == eos or len(y) == max_length:
                break
            turn, steps_left = "small", max_draft
        else:
            calls.append(f"S{len(y) - small_cached}")
            logp = small(y)
            if watch.below(math.exp(max(logp)), fb):
                events.append("fallback")
                turn = "large"
                continue
            small_cached = len(y)
            y.append(watch.choice(logp))
            by_small.append(True)
            if y[-1] == eos or len(y) == max_length:
                break
            steps_left -= 1
            if steps_left == 0:
                turn = "large"
    return Written(y, calls, events, watch.margins)


def paper(
    small: NextToken,
    large: NextToken,
    *,
    fb: float,
    rb: float,
    max_draft: int,
    start: int,
    eos: int,
    max_length: int,
    first: str = "large",
    after_rollback: str = "small",
) -> list[int]:
    """The paper's two policies as this project mends them: `rules=paper`.

    The large model reads every token that the small one wrote, the last ones too. It replaces the first that it finds
    less likely than `rb` allows and would not have written itself, and drops what follows.
    """

    def taken_back(at: int) -> bool:
        logp = large(y[:at])
        return -logp[y[at]] > rb and best(logp) != y[at]

    y, unread, turn = [start], 0, first
    while True:
        over = len(y) == max_length or (len(y) > 1 and y[-1] == eos)
        if over and not unread:
            return y
        if turn == "large" or over:
            wrong = next((at for at in range(len(y) - unread, len(y)) if taken_back(at)), None)
            unread = 0
            if wrong is not None:
                y = [*y[:wrong], best(large(y[:wrong]))]
                turn = after_rollback
            elif not over:
                y.append(best(large(y)))
                turn = "small"
        else:
            logp = small(y)
            if math.exp(max(logp)) < fb:
                turn = "large"
                continue
            y.append(best(logp))
            unread += 1
            if unread == max_draft:
                turn = "large"
