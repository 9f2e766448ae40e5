"""The measurement: every method and its baselines on one example after another, alternating, in one process.

Drift of the machine (clocks, heat, neighbours) then hits them alike, and each speedup is paired example by example. The
order within an example is shuffled by a seed. Both models and both paths of BiLD are warmed up first.

The library's own greedy `generate()`: the yardstick that stands beside every speedup.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from bild.config import MeasureConfig, MethodConfig, ThresholdConfig
from bild.decoding import MakePolicy, policy_for
from bild.decoding.policies import paced
from bild.measure.aggregate import describe_baseline, describe_run, trace
from bild.measure.draft_costs import costs_of
from bild.measure.live import Run, run_live
from bild.models import Pair
from bild.results import PointFolder
from bild.tasks import Example

_COLLECT_EVERY = 32


@dataclass
class Subject:
    """A point under measurement: its method, its thresholds, and the folder that its examples go to."""

    method: MethodConfig
    threshold: ThresholdConfig
    folder: PointFolder


@dataclass(frozen=True)
class Setting:
    """What all subjects of one measurement share."""

    pair: Pair
    engine: str
    prompt: str
    source_limit: int
    target_limit: int
    measure: MeasureConfig


class Bench:
    """Decodes examples by several methods on one pair."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        pair = setting.pair
        self.large = pair.engine("large", setting.engine)
        self.small = pair.engine("small", setting.engine)

    def decode(self, make: MakePolicy, name: str, source: list[int]) -> Run:
        """One example by one method, timed."""
        setting = self.setting
        policy = make(start=setting.pair.start, eos=setting.pair.eos, max_length=setting.target_limit)
        if name == "calm":
            return run_live(policy, source, setting.pair.calm_engine(setting.engine), None)
        large = None if name == "small" else self.large
        small = None if name == "vanilla" else self.small
        return run_live(policy, source, large, small)

    def warm_up(self, sources: Sequence[list[int]], subjects: Sequence[Subject] = ()) -> None:
        """Run both models through every path (draft, fallback, rollback, vanilla, the library) before timing any."""
        usual = ThresholdConfig()
        paths = [
            (MethodConfig("vanilla"), usual),
            (MethodConfig("small"), usual),
            (MethodConfig("bild"), ThresholdConfig(fb=1.0, rb=0.0)),  # hands over at almost every token
            (MethodConfig("bild"), ThresholdConfig(fb=0.0, rb=0.0)),  # verifies full drafts, takes back what differs
            (MethodConfig("bild"), usual),
            *((s.method, s.threshold) for s in subjects if s.method.name == "calm"),
        ]
        for source in sources:
            for method, threshold in paths:
                self.decode(policy_for(method, threshold), method.name, source)
            if self.setting.measure.library:
                library_generate(self.setting.pair, source, self.setting.target_limit)

    def measure(
        self,
        examples: Sequence[Example],
        subjects: Sequence[Subject],
        session: int,
        failures: dict[int, str] | None = None,
    ) -> Iterator[tuple[int, Example]]:
        """Measure what is still missing of every subject, appending to its folder; yields (index, example) when done.

        Examples that a subject's folder holds already are not measured again. An error of one subject ends the
        measurement; where `failures` is given, it is noted there by the subject's place, and the others go on.
        """
        done = [{sample["id"] for sample in subject.folder.samples()} for subject in subjects]
        sources: dict[int, tuple[list[int], bool]] = {}
        pending = [i for i, e in enumerate(examples) if any(e.id not in ids for ids in done)]
        for i in pending[: self.setting.measure.warmup]:
            sources[i] = self._source(examples[i])
        self.warm_up([source for source, _ in sources.values()], subjects)
        makes = [self._policy(subject, examples[pending[0]]) for subject in subjects] if pending else []
        gc.collect()
        gc.disable()  # a collection inside a timed example would be charged to it
        try:
            for n, i in enumerate(pending):
                example = examples[i]
                todo = [s for s, ids in enumerate(done) if example.id not in ids and s not in (failures or ())]
                self._one(i, example, subjects, makes, todo, session, failures)
                if (n + 1) % _COLLECT_EVERY == 0:
                    gc.collect()
                yield i, example
        finally:
            gc.enable()

    def _policy(self, subject: Subject, example: Example) -> MakePolicy:
        """A subject's policy; `max_draft` "auto" goes by costs measured on this example, or kept from before."""
        method, threshold = subject.method, subject.threshold
        if not paced(method):
            return policy_for(method, threshold)
        source, _ = self._source(example)
        make = policy_for(method, threshold, costs_of(subject.folder, self.setting.pair, self.setting.engine, source))
        self.decode(make, method.name, source)  # runs its widths before any is timed
        return make

    def _source(self, example: Example) -> tuple[list[int], bool]:
        return self.setting.pair.encode(self.setting.prompt + example.source, self.setting.source_limit)

    def _one(
        self,
        index: int,
        example: Example,
        subjects: Sequence[Subject],
        makes: Sequence[MakePolicy],
        todo: Sequence[int],
        session: int,
        failures: dict[int, str] | None,
    ) -> None:
        pair, measure = self.setting.pair, self.setting.measure
        source, truncated = self._source(example)
        runs: dict[int, Run] = {}
        beside: dict[str, Any] = {}

        def vanilla() -> None:
            beside["vanilla"] = self.decode(policy_for(MethodConfig("vanilla"), ThresholdConfig()), "vanilla", source)

        def library() -> None:
            beside["library"] = library_generate(pair, source, self.setting.target_limit)

        def subject(s: int) -> Callable[[], None]:
            def run() -> None:
                try:
                    runs[s] = self.decode(makes[s], subjects[s].method.name, source)
                except Exception as error:
                    if failures is None:
                        raise
                    failures[s] = f"{example.id}: {error}"

            return run

        # A vanilla point is its own baseline.
        jobs = [subject(s) for s in todo if subjects[s].method.name != "vanilla"] + [vanilla]
        if measure.library < 0 or index < measure.library:
            jobs.append(library)
        random.Random(f"{measure.seed}-{index}").shuffle(jobs)
        for job in jobs:
            job()
        baseline = beside["vanilla"]
        for s in todo:
            if s in (failures or ()):
                continue
            run = runs.get(s, baseline)
            sample: dict[str, Any] = {
                "id": example.id,
                "index": index,
                "session": session,
                "source_tokens": len(source),
                "truncated": truncated,
                **describe_run(run, pair.decode(run.decoded.tokens), self.setting.target_limit, pair.eos),
                "baseline": describe_baseline(baseline, pair.decode(baseline.decoded.tokens)),
                "library": None,
            }
            if "library" in beside:
                tokens, ns = beside["library"]
                sample["library"] = {"tokens": tokens, "ns": ns}
            subjects[s].folder.append(sample, trace(run.decoded.rounds))


def library_generate(pair: Pair, source: Sequence[int], max_length: int) -> tuple[list[int], int]:
    """Decode one source by the large model alone: (token ids, time in ns), synchronised on both sides.

    A checkpoint's own generation settings (beams, repetition rules) are left out: greedy is what all methods here do.
    """
    module = pair.large.module
    # As the model's own settings, because generate() fills from these what its argument leaves open.
    module.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_length=max_length,
        decoder_start_token_id=pair.start,
        eos_token_id=pair.eos,
        pad_token_id=module.config.pad_token_id,
    )
    cuda = pair.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(pair.device)
    began = perf_counter_ns()
    with torch.inference_mode():
        ids = torch.tensor([list(source)], device=pair.device)
        # A cache of our own: the library sizes its default one by the encoder and fails on deeper decoders.
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        mask = torch.ones_like(ids)
        output = module.generate(ids, attention_mask=mask, past_key_values=cache)
        tokens: list[int] = output[0].tolist()
    return tokens, perf_counter_ns() - began
