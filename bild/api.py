"""The door for notebooks: decode one source with a pair, and see who wrote what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bild.config import ENGINES
from bild.decoding import Round, policy_for, setting
from bild.decoding.policies import live_refusal, paced
from bild.errors import BildError, one_of
from bild.measure.draft_costs import draft_costs
from bild.measure.live import Run, run_live
from bild.models import Pair


@dataclass(frozen=True)
class Output:
    """One decoded source."""

    tokens: list[int]
    """Token ids, beginning with the decoder start token; the end token is the last where the text ended."""
    origins: list[str]
    """Per token: "start", "small", "large" or "rollback"."""
    rounds: list[Round]
    text: str | None
    """None where the pair has no tokenizer."""
    run: Run
    """Times of the phases and every forward pass."""


def generate(
    pair: Pair,
    source: str | Sequence[int],
    *,
    engine: str = "fused",
    max_length: int = 128,
    source_limit: int = 1024,
    method: str = "bild",
    **options: Any,
) -> Output:
    """Decode a text, or token ids (end token included), greedily at batch size 1.

    `max_length` counts the start token, `source_limit` the end token of a text. `options` are the switches and
    thresholds of `conf/method` and `conf/threshold` (`fb=0.6`, `rb=2.0`, `keep="share"`, `alpha=0.2`, `max_draft=4`),
    in any combination that has a meaning. With `max_draft` "auto" the first text of a pair and engine is also the one
    on which its costs are measured, once in a process. Raises BildError for a value out of range, for an option
    without effect, and for a method that cannot run live.
    """
    one_of("engine", engine, ENGINES)
    if max_length < 2:
        raise BildError(f"max_length={max_length} is out of range: it counts the start token, so 2 or more.")
    how, threshold = setting(method, **options)
    refusal = live_refusal(how, engine)
    if refusal is not None:
        raise BildError(refusal)
    ids = pair.encode(source, source_limit)[0] if isinstance(source, str) else _checked(source, pair)
    make = policy_for(how, threshold, draft_costs(pair, engine, ids) if paced(how) else None)
    policy = make(start=pair.start, eos=pair.eos, max_length=max_length)
    if how.spec.exits:
        run = run_live(policy, ids, pair.calm_engine(engine), None)
    else:
        author = how.spec.author
        large = None if author == "small" else pair.engine("large", engine)
        run = run_live(policy, ids, large, None if author == "large" else pair.engine("small", engine))
    done = run.decoded
    text = None if pair.tokenizer is None else pair.decode(done.tokens)
    return Output(done.tokens, done.origins, done.rounds, text, run)


def _checked(ids: Sequence[int], pair: Pair) -> list[int]:
    wrong = [i for i in ids if not 0 <= i < pair.vocabulary]
    if wrong or not ids:
        what = f"the token id {wrong[0]}" if wrong else "no token ids"
        raise BildError(f"The source has {what}: it needs at least one id from 0 to {pair.vocabulary - 1}.")
    return list(ids)
