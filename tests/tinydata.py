"""A few rows of every hub data set, under the file names that the published repositories have."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

PAIRS = (
    ("Ein Hund läuft über die nasse Wiese.", "A dog is running across the wet meadow."),
    ("Zwei Männer spielen im Park Fußball.", "Two men are playing football in the park."),
    ("Eine Frau liest auf einer Bank ein Buch.", "A woman is reading a book on a bench."),
    ("Das Mädchen hält einen roten Ballon.", "The girl is holding a red balloon."),
    ("Kinder springen in das kalte Wasser.", "Children are jumping into the cold water."),
    ("Der alte Mann wartet auf den Bus.", "The old man is waiting for the bus."),
    ("Eine Katze schläft auf dem Sofa.", "A cat is sleeping on the sofa."),
    ("Drei Leute gehen am Strand entlang.", "Three people are walking along the beach."),
)


def data_rows(split: str) -> list[tuple[str, str]]:
    """The De-En pairs of a split."""
    return list({"train": PAIRS, "validation": PAIRS[:6], "test": PAIRS[4:]}[split])


def articles(split: str) -> list[dict[str, str]]:
    """Article, two-line highlights and id, as CNN/DM has them."""
    texts = [english for _, english in PAIRS]
    return [
        {
            "article": " ".join(texts[i:] + texts[:i]),
            "highlights": f"{texts[i][:-1]} .\n{texts[i - 1][:-1]} .",
            "id": hashlib.sha1(f"{split}{i}".encode()).hexdigest(),
        }
        for i in range(len(data_rows(split)))
    ]


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """The rows as a Parquet file."""
    import pandas

    written = io.BytesIO()
    pandas.DataFrame(rows).to_parquet(written)
    return written.getvalue()


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    """The rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _translations(split: str) -> list[dict[str, Any]]:
    return [{"translation": {"de": german, "en": english}} for german, english in data_rows(split)]


def _iwslt() -> dict[str, dict[str, bytes]]:
    converted = {
        f"iwslt2017-de-en/{s}/0000.parquet": parquet(_translations(s)) for s in ("train", "validation", "test")
    }
    return {"main": {"iwslt2017.py": b"raise SystemExit('never run')\n"}, "refs/convert/parquet": converted}


def _wmt14() -> dict[str, dict[str, bytes]]:
    train = _translations("train")
    files = {f"de-en/train-0000{i}-of-00003.parquet": parquet(train[i * 3 : i * 3 + 3]) for i in range(3)}
    files |= {f"de-en/{s}-00000-of-00001.parquet": parquet(_translations(s)) for s in ("validation", "test")}
    files["fr-en/validation-00000-of-00001.parquet"] = parquet([{"translation": {"fr": "Un.", "en": "One."}}])
    return {"main": files}


def _xsum() -> dict[str, dict[str, bytes]]:
    def rows(split: str) -> list[dict[str, str]]:
        return [
            {"document": row["article"], "summary": row["highlights"].split("\n")[0], "id": f"{split}{i}"}
            for i, row in enumerate(articles(split))
        ]

    splits = ("train", "validation", "test")
    return {"main": {f"data/{s}-00000-of-00001.parquet": parquet(rows(s)) for s in splits}}


def _cnndm() -> dict[str, dict[str, bytes]]:
    files = {f"3.0.0/{s}-00000-of-00001.parquet": parquet(articles(s)) for s in ("validation", "test")}
    train = articles("train")
    files |= {f"3.0.0/train-0000{i}-of-00003.parquet": parquet(train[i * 3 : i * 3 + 3]) for i in range(3)}
    files["1.0.0/validation-00000-of-00001.parquet"] = parquet(articles("validation")[:1])
    return {"main": files}


def _multi30k() -> dict[str, dict[str, bytes]]:
    names = {"train": "train.jsonl", "validation": "val.jsonl", "test": "test.jsonl"}
    rows = {s: [{"en": english, "de": german} for german, english in data_rows(s)] for s in names}
    return {"main": {names[s]: json_lines(rows[s]) for s in names}}


DATA_SETS = {
    "IWSLT/iwslt2017": _iwslt,
    "wmt/wmt14": _wmt14,
    "EdinburghNLP/xsum": _xsum,
    "abisee/cnn_dailymail": _cnndm,
    "bentrevett/multi30k": _multi30k,
}
