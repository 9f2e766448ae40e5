"""Texts with known imperfections, to score."""

from __future__ import annotations

import random

COMMON = "the a of to and in that it was for on with as at by from old new small large red green won lost opened closed"
OTHERS = "city river council bridge players minister school report market storm said Friday Monday 2019 £3m don't"
WORDS = [*COMMON.split(), *OTHERS.split()]


def references(count: int, seed: int = 0) -> list[str]:
    """One to three sentences of random words each."""
    generator = random.Random(seed)

    def sentence() -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(5, 15))).capitalize() + "."

    return [" ".join(sentence() for _ in range(generator.randint(1, 3))) for _ in range(count)]


def worsened(texts: list[str], share: float, seed: int = 1) -> list[str]:
    """The texts with a share of their words replaced by others or dropped."""
    generator = random.Random(seed)

    def word(original: str) -> str:
        draw = generator.random()
        return original if draw >= share else "" if draw < share / 4 else generator.choice(WORDS)

    return [" ".join(filter(None, (word(original) for original in text.split()))) for text in texts]
