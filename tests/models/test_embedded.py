"""The pair that comes with the package: small, whole, described, and able to translate a caption."""

from __future__ import annotations

import re

import bild
from bild.models import EMBEDDED, Pair

SENTENCES = {
    "Zwei Hunde spielen im Schnee.": ("two", "dogs", "snow"),
    "Ein Mann fährt Fahrrad.": ("man", "bi"),
    "Eine Frau steht auf der Straße.": ("woman", "street"),
}


def test_it_translates(embedded_pair: Pair) -> None:
    for german, words in SENTENCES.items():
        text = bild.generate(embedded_pair, german).text
        assert text is not None
        assert all(word in text.lower() for word in words), text


def test_it_ends_its_sentences_by_itself(embedded_pair: Pair) -> None:
    for method in ("vanilla", "small", "bild"):
        for german in SENTENCES:
            assert bild.generate(embedded_pair, german, method=method).tokens[-1] == embedded_pair.eos


def test_its_card_says_what_it_is_and_how_it_was_made(embedded_pair: Pair) -> None:
    card = (EMBEDDED / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# ")
    for model in (embedded_pair.large, embedded_pair.small):
        assert f"{model.parameters:,}" in card
    for subject in ("Multi30k", "BLEU", "licen[cs]e", "epoch"):
        assert re.search(subject, card, re.IGNORECASE), subject


def test_it_is_small_enough_for_a_package() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED.rglob("*") if file.is_file()) < 12e6
