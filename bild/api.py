"""The door for notebooks: load a pair by name, decode one source or several, and see who wrote what."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from bild import models
from bild.config import ENGINES, DecodeConfig
from bild.decoding import Round, policy_for, setting
from bild.decoding.policies import live_refusal, paced
from bild.errors import BildError, shown
from bild.measure.draft_costs import draft_costs
from bild.measure.live import Run, engines_of, run_live
from bild.models import Pair
from bild.options import LONG, Option, check_fields, number, word


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

    def __repr__(self) -> str:
        told = f"{len(self.tokens)} tokens" if self.text is None else f"{self.text!r}: {len(self.tokens)} tokens"
        small = self.origins.count("small")
        return f"Output({told}, {small} by the small model, {self.run.total_ns / 1e6:.1f} ms)"


def load_pair(large: str = "embedded", small: str | None = None, *, task: str | None = None, **options: Any) -> Pair:
    """Load a pair by its name in `conf/model` ("embedded-aligned", "t5-large"), or two folders or hub ids.

    A name whose checkpoints were fine-tuned for one task each needs `task` ("xsum"). `options` are those of
    `bild.models.load_pair`: name, tokenizer, dtype, device, exit, revision_large, revision_small.
    A folder that is called like a pair is written with its path ("./t5-large"). Raises BildError where there is no
    such pair, where it does not fit the task, or where its checkpoints cannot be loaded.
    """
    given = {"large": large, "small": small, "task": task} | {key: options.get(key) for key in ("name", "tokenizer")}
    large, small, task, options["name"], options["tokenizer"] = (
        Option(str | None if name != "large" else str, {}).checked(name, value) for name, value in given.items()
    )
    if "" in (large, small):
        raise BildError("The name of a checkpoint is empty: give a pair, two folders or two hub ids.")
    if small is None:
        from bild.cli import pair_options  # Hydra's configuration, for those who name a pair

        large, small, named = pair_options(large, task, exit=options.get("exit"))
        options = named | {name: value for name, value in options.items() if value is not None}
    elif task is not None:
        raise BildError(f"task={task} has no effect beside two checkpoints: leave it out, or name a pair alone.")
    return models.load_pair(large, small, **options)


@overload  # the type checker sees a text as a sequence of texts, too
def generate(pair: Pair, source: str | Sequence[int], **options: Any) -> Output: ...
@overload
def generate(pair: Pair, source: Sequence[str] | Sequence[Sequence[int]], **options: Any) -> list[Output]: ...
def generate(
    pair: Pair,
    source: Any,
    *,
    engine: str = "fused",
    max_length: int = 128,
    source_limit: int = 1024,
    method: str = "bild",
    sample: bool = False,
    top_p: float = 1.0,
    temperature: float = 1.0,
    seed: int = 0,
    **options: Any,
) -> Output | list[Output]:
    """Decode a text, or token ids (end token included), at batch size 1; of a list, one after the other.

    Tokens are chosen greedily, or with `sample` drawn from the nucleus `top_p` at `temperature`, by noise that `seed`
    and the source fix (docs/algorithm.md).

    `max_length` counts the start token, `source_limit` the end token of a text. `options` are the switches and
    thresholds of `conf/method` and `conf/threshold` (`fb=0.6`, `rb=2.0`, `keep="share"`, `alpha=0.2`, `max_draft=4`),
    in any combination that has a meaning. With `max_draft` "auto" the first text of a pair and engine is also the one
    on which its costs are measured, once in a process. Raises BildError for a value out of range, for an option
    without effect, and for a method that cannot run live.
    """
    decode = DecodeConfig(sample, top_p, temperature, seed)
    limits = _Limits(engine, max_length, source_limit)
    source = _read(source, pair)
    if isinstance(source, list) and source and not isinstance(source[0], int):
        same = dataclasses.asdict(limits) | dataclasses.asdict(decode) | options
        return [generate(pair, each, method=method, **same) for each in source]
    how, threshold = setting(method, **options)
    refusal = live_refusal(how, engine, sample)
    if refusal is not None:
        raise BildError(refusal)
    ids = pair.encode(source, limits.source_limit)[0] if isinstance(source, str) else _checked(source, pair)
    make = policy_for(how, threshold, draft_costs(pair, engine, ids, decode) if paced(how) else None)
    policy = make(start=pair.start, eos=pair.eos, max_length=limits.max_length)
    run = run_live(policy, ids, *engines_of(pair, method, engine), decode)
    done = run.decoded
    text = None if pair.tokenizer is None else pair.decode(done.tokens)
    return Output(done.tokens, done.origins, done.rounds, text, run)


@dataclass
class _Limits:
    engine: str = word("fused", ENGINES)
    max_length: int = number(128, 2, LONG, what="it counts the start token, so it is")
    source_limit: int = number(1024, 1, LONG)

    def __post_init__(self) -> None:
        check_fields("", self)


def _read(source: Any, pair: Any) -> str | list[Any]:
    """Return a source as a text, or a list of token ids, texts or lists of ids. BildError for anything else."""
    if not isinstance(pair, Pair):
        raise BildError(f"pair={shown(pair)} is not a pair: load one with bild.load_pair().")
    found = source.tolist() if hasattr(source, "tolist") else source
    if isinstance(found, str):
        if not found.strip() or any("\ud800" <= sign <= "\udfff" for sign in found):
            raise BildError(f"The source {shown(found)!r} is empty, or has half a character: give a text.")
        return found
    if not isinstance(found, Sequence) or isinstance(found, bytes | bytearray):
        raise BildError(f"The source is of type {type(source).__name__}: give a text, token ids, or a list of either.")
    if any(isinstance(each, bool | float | None) for each in found):
        raise BildError("The source is a list, but neither of texts nor of whole numbers, which token ids are.")
    return list(found)


def _checked(ids: Sequence[int], pair: Pair) -> list[int]:
    wrong = [i for i in ids if not (isinstance(i, int) and 0 <= i < pair.vocabulary)]
    if wrong or not ids:
        what = f"the token id {shown(wrong[0])}" if wrong else "no token ids"
        raise BildError(f"The source has {what}: it needs at least one id from 0 to {pair.vocabulary - 1}.")
    return list(ids)
