"""The metrics as modules of the `evaluate` library, for those who hold their outputs in its ways.

`evaluate.load` fetches the code of a metric from the hub at every first use. These come with the package, need no
network, and keep everything in memory: no cache folder, no lock files.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from bild.metrics import statistics


class Module(evaluate.Metric):  # type: ignore[misc]
    """A metric over pairs of strings: `compute(predictions=[...], references=[...])`, one reference each."""

    description = ""

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=self.description,
            citation="",
            inputs_description="predictions, references: lists of strings of one length.",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _build_data_dir(self) -> str:
        # The library makes this folder, in the user's cache, even where nothing will be written to it.
        return str(self._data_dir_root)


class Bleu(Module):
    """Corpus BLEU by sacreBLEU: {"bleu": 0..100, "signature": str}."""

    description = "sacreBLEU's corpus BLEU (13a, cased)."

    def _compute(self, *, predictions: list[str], references: list[str]) -> dict[str, Any]:
        found = statistics.bleu(predictions, references)
        return {"bleu": found.value, "signature": found.signature}


class ChrF(Module):
    """Corpus chrF2 by sacreBLEU: {"chrf": 0..100, "signature": str}."""

    description = "sacreBLEU's corpus chrF2."

    def _compute(self, *, predictions: list[str], references: list[str]) -> dict[str, Any]:
        found = statistics.chrf(predictions, references)
        return {"chrf": found.value, "signature": found.signature}


class Rouge(Module):
    """Mean F1 by rouge-score: rouge1, rouge2, rougeL, rougeLsum (0..100) and the "signature" of the headline."""

    description = "rouge-score's mean F1, stemmed, on one sentence a line."

    def _compute(self, *, predictions: list[str], references: list[str]) -> dict[str, Any]:
        found = statistics.rouge(predictions, references)
        return {**{name: one.value for name, one in found.items()}, "signature": found["rougeLsum"].signature}


MODULES: dict[str, type[Module]] = {"bleu": Bleu, "chrf": ChrF, "rouge": Rouge}
