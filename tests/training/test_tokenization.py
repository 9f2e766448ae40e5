"""The tokenizer from a corpus, and BPE-dropout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bild.errors import BildError
from bild.training.corpus import SubwordDropout
from bild.training.start import save_tokenizer, train_tokenizer
from tests.tinydata import PAIRS

TEXTS = [text for pair in PAIRS for text in pair]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_text_survives_and_ids_are_those_of_t5(kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save_tokenizer(train_tokenizer(TEXTS, kind, 120), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_tokens_to_ids(["<pad>", "</s>", "<unk>"]) == [0, 1, 2]
    assert len(tokenizer) <= 120
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


def dropout(probability: float) -> SubwordDropout:
    return SubwordDropout(train_tokenizer(TEXTS, "bpe", 140).to_str(), probability)


def test_without_dropout_it_is_the_tokenizer() -> None:
    tokenizer, plain = train_tokenizer(TEXTS, "bpe", 140), dropout(0.0)
    dice = np.random.default_rng(0)
    for text in [*TEXTS, "Ein Wort, das es nicht gibt: Qu&x"]:
        assert plain.encode(plain.words(text), dice) == tokenizer.encode(text).ids


def test_a_seed_decides_the_pieces_and_the_text_stays() -> None:
    tokenizer, dropped = train_tokenizer(TEXTS, "bpe", 140), dropout(0.3)
    runs = [
        [dropped.encode(dropped.words(text), dice) for text in TEXTS]
        for dice in (np.random.default_rng(1), np.random.default_rng(1), np.random.default_rng(2))
    ]
    assert runs[0] == runs[1] != runs[2]
    for text, ids in zip(TEXTS, runs[0], strict=True):
        assert tokenizer.decode(ids).strip() == text
    assert sum(map(len, runs[0])) > sum(len(tokenizer.encode(text).ids) for text in TEXTS)


def test_dropout_of_all_leaves_letters() -> None:
    letters = dropout(1.0)
    words = letters.words("Hund")
    assert len(letters.encode(words, np.random.default_rng(0))) == len(words[0])


def test_it_needs_merges_and_a_token_for_all_else() -> None:
    plain = json.loads(train_tokenizer(TEXTS, "bpe", 120).to_str())
    plain["model"]["unk_token"] = None
    for tokenizer in (train_tokenizer(TEXTS, "unigram", 120).to_str(), json.dumps(plain)):
        with pytest.raises(BildError, match="needs a BPE tokenizer with an unk_token"):
            SubwordDropout(tokenizer, 0.1)
