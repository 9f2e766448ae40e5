"""The tokenizer of a model from scratch, trained on the corpus, and BPE-dropout that a seed reproduces.

Dropout for CPUs: torch draws a random number for each activation there, a sixth of the time of a small model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bild.errors import BildError

SPECIAL = ["<pad>", "</s>", "<unk>"]
"""Ids 0, 1 and 2, as T5 has them; id 0 also starts the decoder."""


def train_tokenizer(texts: Iterable[str], kind: str, size: int) -> Any:
    """A subword tokenizer of `size` pieces over raw, cased text; words carry the mark of the space before them."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[2]))
        trainer: Any = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    else:
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=SPECIAL, unk_token=SPECIAL[2], show_progress=False
        )
    tokenizer.normalizer = normalizers.NFKC()
    # Stops stand alone, so that no piece joins a word with the full stop behind it; hyphens stay within words.
    stops = pre_tokenizers.Split(Regex(r'[.,;:!?"()]'), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), stops])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` as the library reads them."""
    from transformers import PreTrainedTokenizerFast

    pad, end, unknown = SPECIAL
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, eos_token=end, unk_token=unknown)
    wrapped.save_pretrained(folder)


class SubwordDropout:
    """BPE-dropout (Provilkov et al., 2020): every merge of a word is left out with a probability, at each step anew.

    The library has it too, but seeds it from the system; a run must be repeatable and resumable.
    """

    def __init__(self, tokenizer_json: str, probability: float) -> None:
        from tokenizers import Tokenizer

        plain = json.loads(tokenizer_json)
        if plain["model"].get("type") != "BPE":
            raise BildError("train.subword_dropout needs a BPE tokenizer: set it to 0, or take tokenizer.kind=bpe.")
        self.probability = probability
        self._vocabulary: dict[str, int] = plain["model"]["vocab"]
        self._unknown = self._vocabulary[plain["model"]["unk_token"]]
        merges = (m.split(" ") if isinstance(m, str) else m for m in plain["model"]["merges"])
        self._rank = {(left, right): rank for rank, (left, right) in enumerate(merges)}
        self._tokenizer = Tokenizer.from_str(tokenizer_json)

    def words(self, text: str) -> list[str]:
        """The words of a text as its tokenizer cuts it before any merge."""
        normalised = self._tokenizer.normalizer.normalize_str(text) if self._tokenizer.normalizer else text
        return [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normalised)]

    def encode(self, words: Iterable[str], dice: np.random.Generator) -> list[int]:
        """Token ids of words, no end token, by the merges that the dice leave in."""
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


class ByteDropout(nn.Module):
    """Dropout whose mask costs a random byte per activation, so that p is rounded to a 256th.

    The bytes come from torch's own generator: a seed decides them, and a checkpoint has their state.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped = round(256 * p)

    def forward(self, x: Tensor) -> Tensor:
        """Activations of any shape, some of them zero and the rest scaled up, in training."""
        if not self.training or not self.dropped:
            return x
        bits = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - self.dropped))


def quicken_dropout(module: Any) -> None:
    """Put `ByteDropout` in the place of every dropout of a module that is on a CPU."""
    if next(module.parameters()).device.type != "cpu":
        return
    for owner in list(module.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(owner, name, ByteDropout(child.p))
