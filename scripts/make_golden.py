"""Make `tests/golden/`: two pairs of tiny checkpoints, and the texts of the authors' algorithm with them.

The models are trained for a minute each on a toy task whose answer is partly chance, so that they are neither sure nor
lost. The sequences come from the restatement of the algorithm in the tests, over whole passes of the library's own
models without a cache: no code of the package has a hand in them. A case is taken only if nothing in it is a near-tie.

    python scripts/make_golden.py [FOLDER]
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.decoding import restated  # noqa: E402

START, EOS, VOCABULARY = 0, 1, 48
INPUTS, CASES, RARE = 8, 64, 10
MARGIN = 2e-3
"""Least distance of every comparison from going the other way: in log-probability, probability or nats."""
SIZES: dict[str, dict[str, int]] = {
    "large": {"d_model": 32, "d_kv": 16, "num_heads": 2, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 3},
    "small": {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1, "num_decoder_layers": 1},
}
STEPS = {"large": 1600, "small": 700}


def build(kind: str, size: dict[str, int]) -> Any:
    """A random model: T5 v1.0 (ReLU, tied and scaled head) or mT5 (gated, a head of its own)."""
    common: dict[str, Any] = dict(size, vocab_size=VOCABULARY, decoder_start_token_id=START, dropout_rate=0.0)
    common |= {"relative_attention_num_buckets": 16, "relative_attention_max_distance": 32}
    if kind == "t5":
        return T5ForConditionalGeneration(T5Config(feed_forward_proj="relu", **common))
    model = MT5ForConditionalGeneration(MT5Config(feed_forward_proj="gated-gelu", **common))
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * size["d_model"] ** -0.5)
    model.config.tie_word_embeddings = False
    return model


def example(dice: random.Random) -> tuple[list[int], list[int]]:
    """Source and target: the source backwards, where every third id is written once or, by chance, twice."""
    source = [dice.randrange(2, VOCABULARY) for _ in range(dice.randint(3, 9))]
    target = [token for token in reversed(source) for _ in range(1 + (token % 3 == 0 and dice.random() < 0.5))]
    return [*source, EOS], [*target, EOS]


def train(model: Any, steps: int, seed: int, batch: int = 64) -> float:
    """Teach it the task; the last loss."""
    dice = random.Random(seed)
    optimizer = torch.optim.Adafactor(model.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: min(1.0, at / 100) * (1 - at / steps))
    for _ in range(steps):
        sources, targets = zip(*(example(dice) for _ in range(batch)), strict=True)
        ids, labels = padded(sources, 0), padded(targets, -100)
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return float(loss.detach())


def padded(rows: Sequence[list[int]], filler: int) -> torch.Tensor:
    """Rows of different lengths as one tensor."""
    length = max(map(len, rows))
    return torch.tensor([row + [filler] * (length - len(row)) for row in rows])


def next_token(model: Any, source: list[int]) -> Callable[[Sequence[int]], list[float]]:
    """Log-probabilities after a prefix, by a whole pass over it without a cache."""
    known: dict[tuple[int, ...], list[float]] = {}
    with torch.inference_mode():
        encoded = model.encoder(input_ids=torch.tensor([source]))

    def logp(prefix: Sequence[int]) -> list[float]:
        key = tuple(prefix)
        if key not in known:
            with torch.inference_mode():
                ids = torch.tensor([key])
                logits = model(encoder_outputs=encoded, decoder_input_ids=ids, use_cache=False).logits[0, -1]
            known[key] = torch.log_softmax(logits.double(), -1).tolist()
        return known[key]

    return logp


def candidates(models: dict[str, Any], sources: list[list[int]]) -> list[tuple[set[str], dict[str, Any]]]:
    """Every case without a near-tie, and what happens in it."""
    grid = itertools.product(
        (0.0, 0.3, 0.5, 0.7, 0.9), (0.5, 1.0, 2.0, 4.0, 1e9), ((10, 32), (3, 32), (5, 12), (10, 9))
    )
    found = []
    asked = {id(s): {role: next_token(model, s) for role, model in models.items()} for s in sources}
    for source, (fb, rb, (max_draft, max_length)) in itertools.product(sources, grid):
        small, large = (asked[id(source)][role] for role in ("small", "large"))
        limits = {"max_draft": max_draft, "max_length": max_length}
        written = restated.authors(small, large, fb=fb, rb=rb, start=START, eos=EOS, **limits)
        if min(written.margins) < MARGIN:
            continue
        happens = set(written.events)
        happens |= {"end inside"} if EOS in written.tokens[:-1] else set()
        happens |= {"cut"} if written.tokens[-1] != EOS else set()
        case = {"input": source, "fallback": fb, "rollback": rb, **limits}
        found.append((happens, case | {"output": written.tokens, "calls": written.calls}))
    return found


def choose(found: list[tuple[set[str], dict[str, Any]]], dice: random.Random) -> list[dict[str, Any]]:
    """Some of everything that can happen, and others at random."""
    dice.shuffle(found)
    chosen = list[int]()
    for what in ("end inside", "hidden", "cut", "rollback", "fallback"):
        having = [i for i, (happens, _) in enumerate(found) if what in happens]
        print(f"    {what}: {len(having)} of {len(found)} candidates")
        if not having:
            raise SystemExit(f"No case has {what!r}: change the seed or the task.")
        chosen += [i for i in having if i not in chosen][:RARE]
    chosen += [i for i in range(len(found)) if i not in chosen][: CASES - len(chosen)]
    return [found[i][1] for i in sorted(chosen)]


def greedy_is_sure(models: dict[str, Any], source: list[int], max_length: int = 32) -> dict[str, Any] | None:
    """Return the text of each model alone, or None at a near-tie."""
    texts: dict[str, Any] = {"input": source}
    for role, model in models.items():
        ask = next_token(model, source)
        text = restated.greedy(ask, [START], eos=EOS, max_length=max_length)
        for at in range(1, len(text)):
            first, second = sorted(ask(text[:at]), reverse=True)[:2]
            if first - second < MARGIN:
                return None
        texts[role] = text
    return texts


def make(kind: str, folder: Path, seed: int) -> dict[str, Any]:
    """Train a pair into `folder` and trace it."""
    models = {}
    for role, size in SIZES.items():
        torch.manual_seed(seed)
        model = build(kind, size)
        print(f"  {kind}-{role}: loss {train(model, STEPS[role], seed):.3f}, {model.num_parameters():,} parameters")
        model.to(torch.float16).save_pretrained(folder / f"{kind}-{role}")  # half the size; decoded in fp32
        (folder / f"{kind}-{role}" / "generation_config.json").unlink()
        models[role] = type(model).from_pretrained(folder / f"{kind}-{role}", dtype=torch.float32).eval()
    dice = random.Random(seed)
    sources, greedy = list[list[int]](), list[dict[str, Any]]()
    while len(sources) < INPUTS:
        source = example(dice)[0]
        texts = greedy_is_sure(models, source)
        if texts is not None:
            sources.append(source)
            greedy.append(texts)
    return {"bild": choose(candidates(models, sources), dice), "greedy": greedy}


def to_json(traces: dict[str, Any]) -> str:
    """One case a line."""
    pairs = []
    for pair, lists in traces.items():
        parts = [
            f'  "{name}": [\n' + ",\n".join(f"   {json.dumps(case)}" for case in cases) + "\n  ]"
            for name, cases in lists.items()
        ]
        pairs.append(f' "{pair}": {{\n' + ",\n".join(parts) + "\n }")
    return "{\n" + ",\n".join(pairs) + "\n}\n"


def main() -> None:
    """Write both pairs and the traces."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests" / "golden"
    traces = {kind: make(kind, folder, seed) for kind, seed in (("t5", 1), ("mt5", 2))}
    (folder / "traces.json").write_text(to_json(traces))


if __name__ == "__main__":
    main()
