"""The corpus as token ids, and its batches: their order and BPE-dropout are decided by the seed and the epoch."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bild.errors import BildError
from bild.models.pair_spec import affixes_of
from bild.tasks import Dataset

IGNORED = -100
_POOL = 50
"""Batches that are sorted by length together: enough to save padding, few enough to stay mixed."""
_ENDINGS = 4
"""Endings that are looked at for each beginning of a recombined source."""


class Batch(NamedTuple):
    """Padded token ids. The decoder is fed `targets` shifted right by the start token."""

    sources: Tensor
    """[b, S] int64, padded with the padding id."""
    source_mask: Tensor
    """[b, S] int64, 1 where there is a token."""
    targets: Tensor
    """[b, T] int64, end token included, padded with -100."""
    indices: Sequence[int] = ()
    """The places of its examples in the corpus, where it is a batch of one."""


@dataclass
class Corpus:
    """Encoded examples: ids with the end token, cut to the task's limits."""

    sources: list[list[int]]
    targets: list[list[int]]
    words: list[list[str]] | None = None
    """The sources as words before any merge, where BPE-dropout is on."""

    def __len__(self) -> int:
        return len(self.targets)


def encode_corpus(
    data: Dataset, tokenizer: Any, *, eos: int, prompt: str, source_limit: int, target_limit: int
) -> Corpus:
    """Encode the examples of a task; `target_limit` counts the start token, as everywhere."""
    if not len(data):
        raise BildError("There is nothing to train on: the split has no examples.")

    def ids(texts: list[str], limit: int, before: Sequence[int], behind: Sequence[int]) -> list[list[int]]:
        found = tokenizer(texts, add_special_tokens=False, truncation=False)["input_ids"]
        return [[*[*before, *one][: max(limit - len(behind), 0)], *behind] for one in found]

    sources = ids([prompt + example.source for example in data], source_limit, *affixes_of(tokenizer, eos))
    return Corpus(sources, ids([example.reference for example in data], target_limit - 1, [], [eos]))


class SubwordDropout:
    """BPE-dropout (Provilkov et al., 2020): every merge of a word is left out with a probability, at each step anew.

    The library has it too, but seeds it from the system; a run must be repeatable and resumable.
    """

    def __init__(self, tokenizer_json: str, probability: float) -> None:
        from tokenizers import Tokenizer

        plain = json.loads(tokenizer_json)  # the library has read it
        if plain["model"].get("type") != "BPE" or plain["model"].get("unk_token") is None:
            raise BildError(
                "train.subword_dropout needs a BPE tokenizer with an unk_token: set it to 0, or tokenizer.kind=bpe."
            )
        self.probability = probability
        self._vocabulary: dict[str, int] = plain["model"]["vocab"]
        self._unknown = self._vocabulary[plain["model"]["unk_token"]]
        merges = (m.split(" ") if isinstance(m, str) else m for m in plain["model"]["merges"])
        self._rank = {(left, right): rank for rank, (left, right) in enumerate(merges)}
        self._tokenizer = Tokenizer.from_str(tokenizer_json)

    def words(self, text: str) -> list[str]:
        """Cut a text into words as its tokenizer does before any merge."""
        normalised = self._tokenizer.normalizer.normalize_str(text) if self._tokenizer.normalizer else text
        cut = self._tokenizer.pre_tokenizer
        return [word for word, _ in cut.pre_tokenize_str(normalised)] if cut else [normalised]

    def encode(self, words: Iterable[str], dice: np.random.Generator) -> list[int]:
        """Turn words into token ids, without an end token, by the merges that the dice leave in."""
        return [self._vocabulary.get(piece, self._unknown) for word in words for piece in self._pieces(word, dice)]

    def _pieces(self, word: str, dice: np.random.Generator) -> list[str]:
        pieces = list(word)
        while len(pieces) > 1:
            kept = dice.random(len(pieces) - 1) >= self.probability
            rank, at = min(
                (self._rank.get((pieces[i], pieces[i + 1]), len(self._rank)), i) if kept[i] else (len(self._rank), i)
                for i in range(len(pieces) - 1)
            )
            if rank == len(self._rank):
                break
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        return pieces


def epoch_sources(corpus: Corpus, dropout: SubwordDropout | None, seed: int, epoch: int, eos: int) -> list[list[int]]:
    """Return the sources of an epoch: as they are, or cut into pieces anew."""
    if dropout is None or corpus.words is None:
        return corpus.sources
    dice = np.random.Generator(np.random.PCG64([seed, epoch, 1]))
    return [[*dropout.encode(words, dice), eos] for words in corpus.words]


def epoch_order(lengths: Sequence[tuple[int, int]], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the indices of the examples in shuffled batches of `size`, similar lengths together."""
    dice = np.random.Generator(np.random.PCG64([seed, epoch, 0]))
    order = dice.permutation(len(lengths)).tolist()
    batches = []
    for at in range(0, len(order), size * _POOL):
        pool = sorted(order[at : at + size * _POOL], key=lambda i: lengths[i])
        batches += [pool[j : j + size] for j in range(0, len(pool), size)]
    return [batches[i] for i in dice.permutation(len(batches)).tolist()]


def make_batch(sources: Sequence[list[int]], targets: Sequence[list[int]], pad: int, device: torch.device) -> Batch:
    """Pad some examples to a batch on a device."""
    padded = _pad(sources, pad)
    mask = _pad([[1] * len(source) for source in sources], 0)
    return Batch(padded.to(device), mask.to(device), _pad(targets, IGNORED).to(device))


def _pad(rows: Sequence[list[int]], value: int) -> Tensor:
    table = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for row, ids in zip(table, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(table)


def by_length(count: int, length: Callable[[int], int], size: int) -> list[list[int]]:
    """Return indices in batches of similar length, the longest first: what does not fit in memory fails at once."""
    order = sorted(range(count), key=length, reverse=True)
    return [order[i : i + size] for i in range(0, count, size)]


def recombined(sources: Sequence[list[int]], dice: np.random.Generator) -> list[list[int]]:
    """Return as many new sources: each begins as one of them and, from a token that both have, ends as another.

    Any two neighbours in it are neighbours in the corpus, so it reads like a text of that kind; the ending is the one,
    of some that are drawn, that keeps its length nearest to the first one's. A prompt stays whole.
    """
    prompt = sum(1 for _ in takewhile(lambda same: len(set(same)) == 1, zip(*sources, strict=False)))
    places = defaultdict(list)
    for i, source in enumerate(sources):
        for at in range(prompt, len(source) - 1):
            places[source[at]].append((i, at))
    made = []
    for source in sources:
        cut = int(dice.integers(prompt, max(prompt + 1, len(source) - 1)))
        found = places[source[cut]] if cut < len(source) - 1 else []
        drawn = [found[i] for i in dice.integers(len(found), size=_ENDINGS)] if found else []
        endings = [sources[i][at:] for i, at in drawn if sources[i] != source] or [source[cut:]]
        nearest = min(endings, key=lambda ending: abs(len(ending) - len(source) + cut))
        made.append([*source[:cut], *nearest])
    return made
