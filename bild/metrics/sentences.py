"""Split English text into sentences without any download, for rougeLsum.

rougeLsum scores sentence by sentence, and takes every line for one sentence. The paper's figures were computed on text
with one sentence a line, split by NLTK's Punkt, whose trained model has to be fetched. The rules here decide like Punkt
does on news text; where they differ, only a boundary moves, and only rougeLsum can see it. Line ends that are already
there stay boundaries, so text with one sentence a line is scored exactly as rouge-score itself scores it, unless a line
holds several sentences.
"""

from __future__ import annotations

import re
from itertools import pairwise

RULES = "bild-1"  # goes into signatures: count up when the rules change


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that a full stop belongs to. After the first group a sentence never ends. After the second it ends where a
# capitalised word that commonly opens one follows ("... of Acme Corp. The firm ...").
_BEFORE_A_NAME = _words(
    "adm brig capt cmdr col dr fr gen gov hon insp lt maj messrs mr mrs ms mt prof rep reps rev sen sens sgt st supt "
    "cf e.g i.e vs v viz"
)
_MAY_END = _words(
    "a.m p.m bros co corp cos inc jr ltd plc sr approx ave dept dist est ft hr hrs lb lbs mg min oz sec yr "
    "jan feb aug sept sep oct nov dec mon tues wed thurs fri "
    "ala ariz calif colo conn fla ga ill kan ky mass mich minn nev okla ore pa tenn va vt wash wis "
    "etc ph.d m.d b.a m.a"
)
_OPENERS = _words(
    "a after all although an and as at both but by despite during even every few for from he her here his how however "
    "i if in is it its last many meanwhile more most mr mrs ms my no not now of on one only other our she since so "
    "some such that the their then there these they this those though three to two under until we what when where "
    "which while who why with yet you your"
)
_LETTERS_WITH_STOPS = re.compile(r"([a-z]\.)+[a-z]")  # u.s, r.e.m
_OPENING_MARKS = "([{\"'“‘«"
_CLOSING_MARKS = ")]}\"'”’»"


def sentences(text: str) -> list[str]:
    """Split a text into its sentences, stripped, in order; none for a blank text. Each stays on one line."""
    found: list[str] = []
    for line in text.split("\n"):
        start = 0
        for token, following in pairwise(re.finditer(r"\S+", line)):
            if _ends(token[0].rstrip(_CLOSING_MARKS), following[0]):
                found.append(line[start : token.end()])
                start = following.start()
        found.append(line[start:])
    return [sentence.strip() for sentence in found if sentence.strip()]


def one_per_line(text: str) -> str:
    """Put every sentence of a text on a line of its own, which is what rougeLsum reads."""
    return "\n".join(sentences(text))


def _ends(word: str, following: str) -> bool:
    """Tell whether a sentence ends after `word` when `following` comes next."""
    if not word.endswith("."):
        return word.endswith(("!", "?"))
    first = following.lstrip(_OPENING_MARKS)
    if word.endswith(".."):
        return first[:1].isupper()
    stem = word.lstrip(_OPENING_MARKS)[:-1].lower()
    if stem in _BEFORE_A_NAME:
        return False
    if len(stem) == 1 and stem.isalpha() and stem != "i":  # an initial
        return False
    if stem in _MAY_END or _LETTERS_WITH_STOPS.fullmatch(stem):
        return first[:1].isupper() and re.split(r"\W", first, maxsplit=1)[0].lower() in _OPENERS
    return True
