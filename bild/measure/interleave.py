"""The measurement: every point and its baselines on one example after another, alternating, in one process.

Slow drift of the machine (clocks, heat) then hits them alike, and each speedup is paired example by example. The
order within an example is shuffled by a seed. Both models and both paths of BiLD are warmed up first.

Beside them runs the library's own `generate()`: the yardstick that stands beside every speedup.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from heapq import nsmallest
from time import perf_counter_ns
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from bild.config import DecodeConfig, MeasureConfig, MethodConfig, TaskConfig, ThresholdConfig
from bild.decoding import MakePolicy, policy_for
from bild.decoding.policies import paced, writes_vanilla
from bild.engines.kernels import Kernels
from bild.engines.sampling import Sampler
from bild.errors import BildError
from bild.measure.draft_costs import costs_of
from bild.measure.environment import watch
from bild.measure.live import Run, engines_of, gap_between, prepare, run_fields, run_live, trace, vanilla_run
from bild.models import Pair
from bild.progress import collector_off
from bild.results import PointFolder
from bild.results.sample import BaselineRun, Sample
from bild.tasks import Example
from bild.tasks.dataset import place

_COLLECT_EVERY = 32
_VANILLA, _USUAL = MethodConfig("vanilla"), ThresholdConfig()


@dataclass
class OpenPoint:
    """A point under measurement: its method, its thresholds, and the folder that its examples go to."""

    method: MethodConfig
    threshold: ThresholdConfig
    folder: PointFolder
    failed: str | None = None
    """The example and the error that ended its measurement early."""


@dataclass(frozen=True)
class PlacedExample:
    """An example, its place in the task, and whether the library decodes it too."""

    index: int
    example: Example
    library: bool


def placed(examples: Sequence[Example], measure: MeasureConfig, seed: int) -> list[PlacedExample]:
    """Return the examples in their places; the library gets a part of `measure.library` that chance chose.

    The part is nested: that of fewer examples lies in that of more.
    """
    count = len(examples) if measure.library < 0 else measure.library
    chosen = {example.id for example in nsmallest(count, examples, key=lambda each: place(each.id, seed))}
    return [PlacedExample(index, example, example.id in chosen) for index, example in enumerate(examples)]


@dataclass(eq=False)
class _Ready:
    """A point whose policy can be made, and the ids of the examples that it has already."""

    point: OpenPoint
    make: MakePolicy
    done: set[str]


class Measurement:
    """Decodes the examples of a task by several points on one pair and engine."""

    def __init__(
        self, pair: Pair, engine: str, task: TaskConfig, measure: MeasureConfig, choice: DecodeConfig | None = None
    ) -> None:
        """`choice` says how tokens are chosen, greedily without."""
        if pair.tokenizer is None:
            raise BildError(
                f"The pair {pair.name} has no tokenizer, and task={task.name} is text: "
                "give model.tokenizer=..., a folder or a hub id."
            )
        self.pair, self.engine, self.task, self.settings, self.choice = pair, engine, task, measure, choice
        self._build_engines()

    def _build_engines(self) -> None:
        """Allocate now, before any clock runs."""
        for role in ("large", "small"):
            self.pair.engine(role, self.engine)

    def decode(self, make: MakePolicy, name: str, source: list[int]) -> Run:
        """Decode one example by one method, timed."""
        policy = make(start=self.pair.start, eos=self.pair.eos, max_length=self.task.target_limit)
        return run_live(policy, source, *engines_of(self.pair, name, self.engine), self.choice)

    def warm_up(self, sources: Sequence[list[int]], points: Sequence[OpenPoint] = (), *, library: bool = True) -> None:
        """Run both models through every path (draft, fallback, rollback, vanilla, the library) before timing any."""
        paths = [
            (_VANILLA, _USUAL),
            (MethodConfig("small"), _USUAL),
            (MethodConfig("bild"), ThresholdConfig(fb=1.0, rb=0.0)),  # hands over at almost every token
            (MethodConfig("bild"), ThresholdConfig(fb=0.0, rb=0.0)),  # verifies full drafts, takes back what differs
            (MethodConfig("bild"), _USUAL),
            *((point.method, point.threshold) for point in points if point.method.spec.exits),
        ]
        for source in sources:
            for method, threshold in paths:
                self.decode(policy_for(method, threshold), method.name, source)
            if library:
                library_generate(self.pair, source, self.task.target_limit, self.choice)

    def measure(
        self, examples: Sequence[PlacedExample], points: Sequence[OpenPoint], session: int, keep_going: bool = False
    ) -> Iterator[PlacedExample]:
        """Measure what every point still lacks, and append it to its folder; yield each example when it is done.

        Examples that a point's folder holds already are not measured again. An error of one point ends the
        measurement, or with `keep_going` the measurement of that point alone, whose `failed` then says why. Points that
        began with other kernels than this process would choose go on with theirs, apart from the rest.
        """
        for kernels, alike in [(None, points)] if self.engine == "hf" else by_kernels(points, self.pair):
            if kernels is not None:
                self.pair.use(kernels)
            self._build_engines()
            yield from self._measure(examples, alike, session, keep_going)

    def _measure(
        self, examples: Sequence[PlacedExample], points: Sequence[OpenPoint], session: int, keep_going: bool
    ) -> Iterator[PlacedExample]:
        done = [{sample.id for sample in point.folder.samples()} for point in points]
        pending = [each for each in examples if any(each.example.id not in ids for ids in done)]
        if not pending:
            return
        lengths = cache(lambda: sorted({len(self.source(each.example)[0]) for each in pending}))
        settings = [(_VANILLA, _USUAL), (MethodConfig("bild"), _USUAL), *((p.method, p.threshold) for p in points)]
        prepare(self.pair, self.engine, settings, lengths, self.task.target_limit, self.choice)
        sources = [self.source(each.example)[0] for each in pending[: self.settings.warmup]]
        self.warm_up(sources, points, library=any(each.library for each in pending))
        ready = [_Ready(p, self._policy(p, pending[0].example), ids) for p, ids in zip(points, done, strict=True)]
        with_library = max((n for n, each in enumerate(pending, 1) if each.library), default=0)
        gc.collect()
        with collector_off():
            for n, each in enumerate(pending, 1):
                watch(self.pair.device).between()
                if n > with_library:
                    self.pair.release_library()
                self._measure_one(each, ready, session, keep_going)
                if n % _COLLECT_EVERY == 0:
                    gc.collect()
                yield each

    def _policy(self, point: OpenPoint, example: Example) -> MakePolicy:
        """Return a point's policy; `max_draft` "auto" goes by costs measured on this example, or kept from before."""
        method, threshold = point.method, point.threshold
        if not paced(method):
            return policy_for(method, threshold)
        source, _ = self.source(example)
        make = policy_for(method, threshold, costs_of(point.folder, self.pair, self.engine, source, self.choice))
        self.decode(make, method.name, source)  # runs its widths before any is timed
        return make

    def source(self, example: Example) -> tuple[list[int], bool]:
        """Return the token ids of an example as the models get them, and whether they were cut."""
        return self.pair.encode(self.task.prompt + example.source, self.task.source_limit)

    def _measure_one(self, asked: PlacedExample, ready: Sequence[_Ready], session: int, keep_going: bool) -> None:
        """Decode one example by every point and baseline, and only then write it down."""
        example = asked.example
        source, truncated = self.source(example)
        going = [each for each in ready if each.point.failed is None and example.id not in each.done]
        runs, library = self._decode_all(asked, source, going, keep_going)
        vanilla = runs.get(_VANILLA.name)
        if vanilla is None:  # it failed, and with it all that stands beside it
            return
        baseline = vanilla_run(vanilla, self.pair.decode(vanilla.decoded.tokens))
        library_gap = None if library is None else self._gap(source, baseline, library.tokens)
        for each in going:
            if each.point.failed is not None:
                continue
            run = runs.get(each, vanilla)  # a vanilla point is its own baseline
            exact = writes_vanilla(each.point.method, each.point.threshold)
            sample = Sample(
                id=example.id,
                index=asked.index,
                session=session,
                source_tokens=len(source),
                truncated=truncated,
                text=self.pair.decode(run.decoded.tokens),
                baseline=baseline,
                library=library,
                gap=self._gap(source, baseline, run.decoded.tokens) if exact else None,
                library_gap=library_gap,
                **run_fields(run, self.task.target_limit, self.pair.eos),
            )
            each.point.folder.append(sample, trace(run.decoded.rounds))

    def _gap(self, source: list[int], vanilla: BaselineRun, other: list[int]) -> float | None:
        """Return how near the tie was where a text that should be vanilla's first differs from it, untimed."""
        return gap_between(self.pair, self.engine, source, vanilla.tokens, other)

    def _decode_all(
        self, asked: PlacedExample, source: list[int], going: Sequence[_Ready], keep_going: bool
    ) -> tuple[dict[_Ready | str, Run], BaselineRun | None]:
        """Run the points, vanilla and, where it is asked, the library on one example, in an order of its own."""
        jobs: list[_Ready | str] = [each for each in going if each.point.method.name != _VANILLA.name]
        jobs.append(_VANILLA.name)
        if asked.library:
            jobs.append("library")
        random.Random(f"{self.settings.seed}-{asked.index}").shuffle(jobs)
        runs: dict[_Ready | str, Run] = {}
        library = None
        for job in jobs:
            if job == "library":
                library = library_generate(self.pair, source, self.task.target_limit, self.choice)
                continue
            own = job if isinstance(job, _Ready) else None
            make, name = (own.make, own.point.method.name) if own else (policy_for(_VANILLA, _USUAL), _VANILLA.name)
            try:
                runs[job] = self.decode(make, name, source)
            except Exception as error:
                if not keep_going:
                    raise
                for each in [own] if own else going:
                    each.point.failed = f"{asked.example.id}: {'' if own else 'vanilla: '}{error}"
        return runs, library


def by_kernels(points: Sequence[OpenPoint], pair: Pair) -> list[tuple[Kernels, list[OpenPoint]]]:
    """Put together the points that go by the same kernels, and keep the choice in the folders that have none yet.

    A new point takes the choice of the first that has one, so that it is timed beside it.
    """
    kept = [point.folder.kernels() for point in points]
    usual = next((each for each in kept if each is not None), None) or asdict(pair.kernels)
    alike: dict[str, tuple[Kernels, list[OpenPoint]]] = {}
    for point, each in zip(points, kept, strict=True):
        if each is None:
            point.folder.keep_kernels(usual)
        kernels = pair.kernels_kept(each or usual)
        alike.setdefault(str(kernels.kinds), (kernels, []))[1].append(point)
    return list(alike.values())


def set_greedy(module: Any, **settings: Any) -> None:
    """Give a module greedy settings as its own, because generate() fills from these what its argument leaves open."""
    pad = module.config.pad_token_id
    module.generation_config = GenerationConfig(do_sample=False, num_beams=1, pad_token_id=pad, **settings)


def library_generate(
    pair: Pair, source: Sequence[int], max_length: int, decode: DecodeConfig | None = None
) -> BaselineRun:
    """Decode one source by the large model alone, timed, and synchronised on both sides.

    A checkpoint's own generation settings (beams, repetition rules) are left out: no method here has any. Where
    `decode` samples, the library's own temperature and nucleus are followed by our noise, so the text is vanilla's.
    """
    module = pair.large.module
    set_greedy(module, max_length=max_length, decoder_start_token_id=pair.start, eos_token_id=pair.eos)
    sampler, cuda = Sampler.of(decode, source), pair.device.type == "cuda"
    extra = {} if sampler is None else {"logits_processor": sampler.processors(pair.vocabulary, pair.device)}
    if cuda:
        torch.cuda.synchronize(pair.device)
    began = perf_counter_ns()
    with torch.inference_mode():
        ids = torch.tensor([list(source)], device=pair.device)
        # A cache of our own: the library sizes its default one by the encoder and fails on deeper decoders.
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        mask = torch.ones_like(ids)
        output = module.generate(ids, attention_mask=mask, past_key_values=cache, **extra)
        tokens: list[int] = output[0].tolist()
    return BaselineRun(tokens, perf_counter_ns() - began)
