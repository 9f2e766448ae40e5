"""The large model's outputs for the training sources, as a file that grows batch by batch: a kill loses one at most."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from bild.errors import BildError
from bild.results.codec import decode, read_json
from bild.results.files import GrowingFile, parse, read_file, write_atomically, write_error
from bild.training.folder import HEAD, LINES
from bild.training.judge import greedy_batch


@dataclass(frozen=True)
class TargetHead:
    """`targets.json`: what the outputs are outputs of."""

    schema: int
    identity: str
    examples: int
    batch: int


@dataclass(frozen=True)
class Target:
    """A line of `targets.jsonl`."""

    batch: int
    id: str
    tokens: list[int]


class TargetFile:
    """`targets.jsonl`: one line per example, whole batches only.

    The batches are those of an uninterrupted run, so a resumed one writes the same lines: an output may hang on what it
    is padded beside, in the last bits.
    """

    def __init__(self, folder: Path, identity: str, ids: Sequence[str], batches: Sequence[Sequence[int]]) -> None:
        """Open the file, cut off what a kill left behind; BildError where it belongs to other outputs."""
        self.path = folder / LINES
        self.ids, self.batches = ids, batches
        head = TargetHead(1, identity, len(ids), len(batches[0]))
        if not (folder / HEAD).exists():
            self.path.unlink(missing_ok=True)
            write_atomically(folder / HEAD, json.dumps(asdict(head)) + "\n")
        elif read_json(TargetHead, folder / HEAD, "cannot be read", "start anew with resume=false", 1) != head:
            raise BildError(
                f"{folder} holds the outputs of another model, or for other sources: choose another folder with "
                "out=..., or start anew with resume=false."
            )
        try:
            self._file = GrowingFile(self.path)
            self.targets = self._whole_batches()
            self._file.cut(sum(len(_line(target)) for target in self.targets))
        except OSError as error:
            raise write_error(self.path, error, "the batches before are kept") from None

    def _whole_batches(self) -> list[Target]:
        """Read the targets of the batches that are there as a whole, up to the first that is not."""
        found: list[Target] = []
        rows = iter(read_file(self.path).splitlines(keepends=True))
        for number, chosen in enumerate(self.batches):
            batch = [_target(row) for row in islice(rows, len(chosen))]
            if [target and (target.batch, target.id) for target in batch] != [(number, self.ids[i]) for i in chosen]:
                break
            found += (target for target in batch if target is not None)
        return found

    @property
    def done(self) -> int:
        """The batches that are there."""
        return self.targets[-1].batch + 1 if self.targets else 0

    def append(self, number: int, outputs: Sequence[list[int]]) -> None:
        """Add the outputs of one batch. BildError where the disk does not take them; what was there is kept."""
        batch = zip(self.batches[number], outputs, strict=True)
        made = [Target(number, self.ids[i], tokens) for i, tokens in batch]
        try:
            self._file.append(b"".join(map(_line, made)))
        except OSError as error:
            raise write_error(self.path, error, f"the {number} batches before are kept") from None
        self.targets += made

    def close(self) -> None:
        """Let go of the file; what was read of it stays."""
        self._file.close()

    def read(self, first: int | None = None) -> list[list[int]]:
        """Return the outputs (of the `first` examples) in the order of the data. BildError while some are missing."""
        by_id, asked = {target.id: target.tokens for target in self.targets}, self.ids[:first]
        if not by_id.keys() >= set(asked):
            raise BildError(f"{self.path} has {len(by_id)} of {len(self.ids)} outputs: run the command again.")
        return [by_id[name] for name in asked]

    def digest(self) -> str:
        """Return a hash that changes with any of the outputs."""
        return hashlib.sha256(b"".join(map(_line, self.targets))).hexdigest()


def _line(target: Target) -> bytes:
    return (json.dumps(asdict(target)) + "\n").encode()


def _target(row: bytes) -> Target | None:
    """Read a line; None where it is torn, or not as it was written."""
    try:
        found: Target = decode(Target, parse(row))
    except ValueError:
        return None
    return found if _line(found) == row else None


def write_targets(
    file: TargetFile,
    module: Any,
    sources: Sequence[list[int]],
    prefixes: Mapping[int, list[int]],
    *,
    until: int,
    vocabulary: int,
    max_length: int,
) -> Iterator[int]:
    """Decode the missing outputs of the batches before `until`; yield the index of each example that is written.

    An output begins with the tokens that `prefixes` has for its example.
    """
    config = module.config
    for number in range(file.done, until):
        chosen = file.batches[number]
        outputs = greedy_batch(
            module,
            [sources[i] for i in chosen],
            [prefixes.get(i, []) for i in chosen],
            vocabulary=vocabulary,
            start=config.decoder_start_token_id,
            eos=config.eos_token_id,
            max_length=max_length,
        )
        file.append(number, outputs)
        yield from chosen
