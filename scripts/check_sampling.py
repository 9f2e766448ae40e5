"""Show that sampling replays, and that it is sampling, on the embedded pair:

    python scripts/check_sampling.py [captions] [seeds] [draws]

Trees of `captions` (200) are grown under each of `seeds` (5) seeds, and replayed under twelve settings; every text is
decoded live, too, and must have the same tokens and passes, but where a decision lies within rounding. Then `draws`
(2000) texts of one caption under as many seeds are compared with as many of `generate(do_sample=True)` by chi-square
tests: of the token at each position, and of whole texts.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import chi2_contingency
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

import bild
from bild.config import DecodeConfig, TaskConfig
from bild.decoding import setting
from bild.models import Pair
from bild.tasks import load_task
from bild.tree.grow import grow
from bild.tree.identity import settle

SETTINGS = [
    *(setting("bild", fb=fb, rb=rb) for fb, rb in ((0.3, 2.0), (0.6, 2.0), (0.6, 5.0), (0.9, 1.0))),
    setting("bild", rules="authors", fb=0.5, rb=2.0),
    setting("bild", keep="top", top=3),
    setting("speculative", max_draft=4),
    *(setting(name) for name in ("dynamic", "cascade", "relaxed", "vanilla", "small")),
]
DRAWN = ((1.0, 1.0), (0.8, 1.0), (0.9, 1.3))
LIMIT, TOKENS, EXPECTED = 64, 4, 10


def check_replay(pair: Pair, captions: int, seeds: int) -> bool:
    """Compare replays with live decodings; print a line for each seed. Returns whether all are equal."""
    task = TaskConfig(samples=captions, target_limit=LIMIT)
    data, sound = load_task(task), True
    for seed in range(seeds):
        decode = DecodeConfig(True, *DRAWN[seed % len(DRAWN)], seed)
        with tempfile.TemporaryDirectory() as folder:
            tree = grow(Path(folder), pair, task, data, SETTINGS, decode=decode)
            replays = tree.replay_grid(SETTINGS)
        ids = [example.id for example in tree.examples]
        texts = marked = other = wrong = 0
        for replay in replays:
            near = set(replay.marked)
            for told in settle(tree, pair, replay, ids=ids):
                texts, marked = texts + 1, marked + (told.id in near)
                other += not told.same
                wrong += not told.same and told.id not in near
        by_name = {replay.method.name: replay.tokens for replay in replays}
        exact = sum(a == b for a, b in zip(by_name["speculative"], by_name["vanilla"], strict=True))
        sound &= wrong == 0 and exact == len(ids)
        print(
            f"seed {seed}, top_p={decode.top_p:g} temperature={decode.temperature:g}: {texts - other:,} of {texts:,} "
            f"live texts are the replayed ones; {marked} lie within rounding, {wrong} others differ; "
            f"speculative is vanilla on {exact} of {len(ids)}",
            flush=True,
        )
    return sound


def pvalue(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> tuple[float, int]:
    """Return the p of a chi-square test that two samples are of one distribution, and its cells; rare ones are one."""
    found = Counter(ours), Counter(theirs)
    often = [each for each in found[0] | found[1] if found[0][each] + found[1][each] >= 2 * EXPECTED]
    rows = [[*(own[each] for each in often), own.total() - sum(own[each] for each in often)] for own in found]
    table = np.array(rows)[:, np.array(rows).sum(0) > 0]
    return (float(chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0), table.shape[1]


def check_distribution(pair: Pair, draws: int) -> bool:
    """Compare texts under many seeds with the library's; print a line for each setting. Returns whether all p > 0.001.

    The texts end after a few tokens, so that the same ones are drawn often.
    """
    source = pair.encode("Ein kleiner Junge mit einem Hut spielt mit seinem Hund.")[0]
    sound = True
    for top_p, temperature in DRAWN:
        options = {"top_p": top_p, "temperature": temperature, "max_length": TOKENS + 1}
        ours = [
            bild.generate(pair, source, method="vanilla", sample=True, seed=seed, **options).tokens[1:]
            for seed in range(draws)
        ]
        module = pair.large.module
        torch.manual_seed(0)
        with torch.inference_mode():
            ids = torch.tensor([source] * draws, device=pair.device)
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())  # the library's is by the encoder
            drawn = module.generate(ids, do_sample=True, top_k=0, num_beams=1, past_key_values=cache, **options)
            written = drawn[:, 1:].tolist()
        theirs = [text[: text.index(pair.eos) + 1] if pair.eos in text else text for text in written]
        told = []
        for at in range(TOKENS):
            told.append(pvalue(*([text[at] if at < len(text) else -1 for text in texts] for texts in (ours, theirs))))
        told.append(pvalue([tuple(text) for text in ours], [tuple(text) for text in theirs]))
        sound &= min(p for p, _ in told) > 1e-3
        words = ", ".join(f"{p:.3f} ({cells} cells)" for p, cells in told)
        print(
            f"top_p={top_p:g} temperature={temperature:g}: p of tokens 1 to {TOKENS} and of texts: {words}", flush=True
        )
    return sound


def main() -> int:
    """Run both checks; returns the exit code."""
    captions, seeds, draws = (int(given) for given in (*sys.argv[1:], *("200", "5", "2000")[len(sys.argv) - 1 :]))
    torch.set_num_threads(1)
    pair = bild.load_pair("embedded", device="cpu")
    drawn = check_distribution(pair, draws)
    return 0 if check_replay(pair, captions, seeds) and drawn else 1


if __name__ == "__main__":
    sys.exit(main())
