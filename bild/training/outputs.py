"""The greedy outputs of a model, in batches: for validation, and on disk as the targets of an alignment.

Targets are written batch by batch, so a kill loses one batch at most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bild.errors import BildError
from bild.results.folder import write_atomically
from bild.results.samples_log import write_error
from bild.training.corpus import by_length, make_batch
from bild.training.folder import HEAD, LINES


def greedy_outputs(
    module: Any, sources: Sequence[list[int]], *, vocabulary: int, start: int, eos: int, max_length: int, batch: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield (index of the source, its output) batch by batch, similar lengths together.

    Outputs end with the end token unless `max_length`, which counts the start token, came first; ids from `vocabulary`
    on (padding of the head) are never chosen. The module must be in evaluation mode.
    """
    for chosen in by_length(len(sources), lambda i: len(sources[i]), batch):
        outputs = greedy_batch(
            module, [sources[i] for i in chosen], vocabulary=vocabulary, start=start, eos=eos, max_length=max_length
        )
        yield from zip(chosen, outputs, strict=True)


@torch.inference_mode()
def greedy_batch(
    module: Any, sources: Sequence[list[int]], *, vocabulary: int, start: int, eos: int, max_length: int
) -> list[list[int]]:
    """The outputs of one batch. A sequence that has ended leaves the batch."""
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    device = next(module.parameters()).device
    source, mask, _ = make_batch(sources, [[0]] * len(sources), start, device)
    states = module.encoder(input_ids=source, attention_mask=mask).last_hidden_state
    # The library's own cache is sized by the encoder, which a deeper decoder does not survive.
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    outputs: list[list[int]] = [[] for _ in sources]
    active = list(range(len(sources)))
    fed = torch.full((len(sources), 1), start, device=device)
    for _ in range(max_length - 1):
        choice = _step(module, fed, states, mask, cache, vocabulary)
        tokens = choice.tolist()
        for row, token in zip(active, tokens, strict=True):
            outputs[row].append(token)
        going = [place for place, token in enumerate(tokens) if token != eos]
        if not going:
            break
        if len(going) < len(tokens):
            rows = torch.tensor(going, device=device)
            active = [active[place] for place in going]
            choice, states, mask = choice[rows], states[rows], mask[rows]
            cache.batch_select_indices(rows)
        fed = choice[:, None]
    return outputs


def _step(module: Any, fed: Tensor, states: Tensor, mask: Tensor, cache: Any, vocabulary: int) -> Tensor:
    """The greedy choices [b] after the last tokens `fed` [b, 1]."""
    out = module(
        encoder_outputs=(states,),
        attention_mask=mask,
        decoder_input_ids=fed,
        past_key_values=cache,
        use_cache=True,
    )
    choice: Tensor = out.logits[:, -1, :vocabulary].argmax(dim=-1)
    return choice


class TargetFile:
    """`targets.jsonl`: one line per example ({"batch", "id", "tokens"}), whole batches only.

    The batches are those of an uninterrupted run, so a resumed one writes the same lines: an output may hang on what it
    is padded beside, in the last bits.
    """

    def __init__(self, folder: Path, identity: str, ids: Sequence[str], lengths: Sequence[int], batch: int) -> None:
        """Open the file, cut off what a kill left behind; BildError where it belongs to other outputs."""
        self.path = folder / LINES
        self.ids = ids
        self.batches = by_length(len(ids), lambda i: lengths[i], batch)
        head = {"schema": 1, "identity": identity, "examples": len(ids), "batch": batch}
        found = _read_head(folder / HEAD)
        if found is not None and found != head:
            raise BildError(
                f"{folder} holds the outputs of another model, or for other sources: choose another folder with "
                "out=..., or start anew with resume=false."
            )
        if found is None:
            self.path.unlink(missing_ok=True)
            text = json.dumps(head) + "\n"
            write_atomically(folder / HEAD, text)
        self.done = self._cut()

    def _cut(self) -> int:
        """Count the whole batches, and drop what follows them."""
        if not self.path.exists():
            self.path.touch()
        data = self.path.read_bytes()
        end = count = at = 0
        lines = data.split(b"\n")[:-1]  # empty, or torn: what follows the last newline
        for number, chosen in enumerate(self.batches):
            rows = lines[at : at + len(chosen)]
            wanted = [(number, self.ids[i]) for i in chosen]
            if [_key(row) for row in rows] != wanted:
                break
            at += len(rows)
            end += sum(len(row) + 1 for row in rows)
            count += 1
        if end < len(data):
            with self.path.open("r+b") as file:
                file.truncate(end)
        return count

    def append(self, number: int, outputs: Sequence[list[int]]) -> None:
        """Add the outputs of one batch. BildError where the disk does not take them; what was there is kept."""
        rows = [
            json.dumps({"batch": number, "id": self.ids[i], "tokens": tokens})
            for i, tokens in zip(self.batches[number], outputs, strict=True)
        ]
        before = self.path.stat().st_size
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(("\n".join(rows) + "\n").encode())
        except BaseException as error:
            with self.path.open("r+b") as file:
                file.truncate(before)
            if isinstance(error, OSError):
                raise write_error(self.path, error, f"the {number} batches before are kept") from None
            raise
        self.done = number + 1

    def read(self) -> list[list[int]]:
        """The outputs in the order of the data. BildError while some are missing."""
        by_id = {row["id"]: row["tokens"] for row in map(json.loads, self.path.read_bytes().splitlines())}
        if len(by_id) != len(self.ids):
            raise BildError(f"{self.path} has {len(by_id)} of {len(self.ids)} outputs: run the command again.")
        return [by_id[name] for name in self.ids]

    def digest(self) -> str:
        """Changes with any of the outputs."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def write_targets(
    file: TargetFile, module: Any, sources: Sequence[list[int]], *, vocabulary: int, max_length: int
) -> Iterator[int]:
    """Decode what is still missing, batch by batch; yields the index of each example that is written."""
    config = module.config
    for number in range(file.done, len(file.batches)):
        chosen = [sources[i] for i in file.batches[number]]
        outputs = greedy_batch(
            module,
            chosen,
            vocabulary=vocabulary,
            start=config.decoder_start_token_id,
            eos=config.eos_token_id,
            max_length=max_length,
        )
        file.append(number, outputs)
        yield from file.batches[number]


def _key(row: bytes) -> tuple[int, str] | None:
    try:
        plain = json.loads(row)
        return plain["batch"], plain["id"]
    except (ValueError, KeyError, TypeError):
        return None


def _read_head(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BildError(f"{path} cannot be read ({error}): start anew with resume=false.") from error
    return found
