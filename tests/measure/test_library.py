"""The library's own `generate()` is the same greedy decoding, so that only its time differs."""

from __future__ import annotations

from pathlib import Path

import pytest

import bild
from bild.measure.interleave import library_generate
from bild.models import Pair, load_pair
from tests.models.checkpoints import write_checkpoint

SENTENCES = (
    "Zwei Hunde spielen im Schnee.",
    "Ein Mann fährt Fahrrad.",
    "Eine Frau in einem roten Kleid liest auf einer Bank ein Buch.",
    "Kinder springen von einem Steg in einen See.",
    "Der alte Mann wartet auf den Bus und raucht.",
)


@pytest.mark.spread(3)
@pytest.mark.parametrize("engine", ["fused", "hf"])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_library_writes_what_vanilla_writes(embedded_pair: Pair, sentence: str, engine: str) -> None:
    found = library_generate(embedded_pair, embedded_pair.encode(sentence)[0], 64)
    output = bild.generate(embedded_pair, sentence, method="vanilla", engine=engine, max_length=64)
    assert found.tokens == output.tokens
    assert 0 < found.ns < 60e9


def test_the_limit_counts_the_start_token_for_both(embedded_pair: Pair) -> None:
    ids = embedded_pair.encode(SENTENCES[2])[0]
    for limit in (2, 5):
        tokens = library_generate(embedded_pair, ids, limit).tokens
        assert len(tokens) == limit
        assert tokens == bild.generate(embedded_pair, ids, method="vanilla", max_length=limit).tokens


def test_the_checkpoints_own_wishes_are_left_out(tmp_path: Path) -> None:
    wishes = b'{"num_beams": 4, "repetition_penalty": 9.0, "do_sample": true, "min_length": 9, "max_length": 3}'
    plain = write_checkpoint(tmp_path / "plain")
    wishful = write_checkpoint(tmp_path / "wishful", files={"generation_config.json": wishes})
    found = [library_generate(load_pair(str(f), str(f), device="cpu"), [5, 6, 1], 16).tokens for f in (plain, wishful)]
    assert found[0] == found[1]
    assert len(found[0]) > 3
