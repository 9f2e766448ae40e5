"""A whole bench: the machine's rates and the roofline first, then the interleaved run, then the rows of its table."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from bild.bench.config import BenchConfig
from bild.bench.roofline import MatmulProbe, ReadProbe, roofline_ms
from bild.bench.timing import InterleavedRun, Measured, by_source, decode_overhead, ms_of
from bild.bench.workload import SMALL, Backends, Workload, build_backends, make_workload
from bild.engines import DTYPES, common_prefix, t5
from bild.errors import BildError
from bild.measure.environment import busy_warning, describe, state
from bild.models import resolve_device
from bild.models.device import tell_device
from bild.progress import say, timestamp
from bild.results import bench
from bild.results.work import PassWork, Sizes

_FIRST_SECONDS, _FIRST_TIMINGS = 0.5, 5


def run_bench(config: BenchConfig, announce: Callable[[str], None]) -> bench.BenchResult:
    """Measure; `announce` is told the roofline before anything is. Ctrl-C in the run keeps what was measured."""
    device = resolve_device(config.device)
    tell_device(device, config.dtype)
    torch.set_num_threads(config.threads)
    before = state(device)
    warning = busy_warning(before)
    if warning:
        say(f"warning: {warning}")
    workload = make_workload(config, device)
    wide_wo = not t5.narrow_wo(device)
    decoder = Sizes.of(workload.large.config, workload.vocabulary, wide_wo=wide_wo)
    read = ReadProbe(_token_work(config, decoder, config.dtype).bytes, device)
    multiply = MatmulProbe(DTYPES[config.dtype], device)
    first = {"read": _timings(read), "multiply": _timings(multiply)}
    for line in _roofline_lines(workload, Rooflines(config, decoder, _rates(first, {}, read, multiply))):
        announce(line)

    made = build_backends(config, workload, device)
    if not made.built:
        raise BildError(
            "There is nothing to measure: " + "; ".join(f"{name}: {why}" for name, (_, why) in made.missing.items())
        )
    run = InterleavedRun(made.built, {"read": read, "multiply": multiply}, config, workload.sources)
    measured = run.run(workload.name)
    rooflines = Rooflines(config, decoder, _rates(first, measured.rates, read, multiply))
    inputs = RowInputs(workload, made, measured, rooflines)
    rows = {name: _row(inputs, name) for name in made.kinds}
    return bench.BenchResult(
        schema=bench.BENCH_VERSION,
        # Of its own, so that it does not take the place of a whole one.
        name=f"{workload.name}-{config.dtype}-{device.type}{'-partial' if measured.interrupted else ''}",
        title=workload.title,
        created=timestamp(),
        command=" ".join(["python -m bild.bench", *sys.argv[1:]]),
        dtype=config.dtype,
        device=str(device),
        threads=config.threads,
        settings=dataclasses.asdict(config) | {"sources": workload.words},
        model=workload.details,
        environment=describe(device)
        | {"state": before, "state_after": state(device), "busy": warning}
        | {"kernels": made.kernels},
        rates=rooflines.rates,
        rooflines={width: rooflines.verification(width) for width in config.widths},
        rows=rows,
        overhead=_overhead(rows),
        repeats=measured.repeats,
        interrupted=measured.interrupted,
    )


def _timings(probe: Callable[[], float]) -> list[float]:
    """Take rates for half a second, and at least five."""
    found: list[float] = []
    ends = time.monotonic() + _FIRST_SECONDS
    while len(found) < _FIRST_TIMINGS or time.monotonic() < ends:
        found.append(probe())
    return found


def _overhead(rows: dict[str, bench.BackendRow]) -> bench.Overhead:
    """Return the Python of a round beside the passes of the fastest engine; a shape drafts for itself."""
    timed = {
        name: row.ms_per_token.median
        for name, row in rows.items()
        if row.kind == "engine" and row.ms_per_token and row.verification
    }
    if not timed:
        return decode_overhead(None, None, {})
    best = min(timed, key=lambda name: timed[name])
    small = rows[f"{best}{SMALL}"].ms_per_token if f"{best}{SMALL}" in rows else None
    verification = {width: found.ms.median for width, found in (rows[best].verification or {}).items()}
    return decode_overhead(best, small.median if small else timed[best], verification)


def _rates(
    first: dict[str, list[float]], in_loop: dict[str, list[float]], read: ReadProbe, multiply: MatmulProbe
) -> bench.Rates:
    """Return the best of all timings: what is slower was disturbed, and a limit is not."""
    reads, products = in_loop.get("read", []), in_loop.get("multiply", [])
    return bench.Rates(
        gb_per_s=max([*first["read"], *reads]),
        read_mb=read.bytes / 1e6,
        gflop_per_s=max([*first["multiply"], *products]),
        matrix=multiply.size,
        gb_per_s_in_loop=bench.Spread.of(reads) if reads else None,
        gflop_per_s_in_loop=bench.Spread.of(products) if products else None,
    )


def _token_work(config: BenchConfig, decoder: Sizes, precision: str) -> PassWork:
    """Return the average work of one timed step: after the first token, the cache holds 1 to `tokens` positions."""
    cached = (config.tokens + 1) // 2
    return decoder.work(1, config.source_length, cached, weights=precision, states=config.dtype)


@dataclass(frozen=True)
class Rooflines:
    """The least that passes can cost by the rates of the machine."""

    config: BenchConfig
    decoder: Sizes
    rates: bench.Rates

    def token(self, precision: str) -> bench.Roofline:
        """Return that of a step by the precision of the weights."""
        return self._of(_token_work(self.config, self.decoder, precision))

    def verification(self, width: int) -> bench.Roofline:
        """Return that of a verification pass."""
        config, kinds = self.config, {"weights": self.config.dtype, "states": self.config.dtype}
        return self._of(self.decoder.work(width, config.source_length, config.cached, **kinds))

    def _of(self, work: PassWork) -> bench.Roofline:
        return bench.Roofline(work.bytes, work.flops, *roofline_ms(work, self.rates.gb_per_s, self.rates.gflop_per_s))


def _roofline_lines(workload: Workload, rooflines: Rooflines) -> list[str]:
    config, rates, step = rooflines.config, rooflines.rates, rooflines.token(rooflines.config.dtype)
    verification = ", ".join(f"{w}: {rooflines.verification(w).ms:.3g}" for w in config.widths)
    threads = f"{config.threads} thread{'s' * (config.threads > 1)}"
    return [
        f"{workload.title}, {workload.details['parameters'] / 1e6:,.1f}M parameters, {config.dtype}, {threads}: "
        f"a step reads {step.bytes / 1e6:,.1f} MB and computes {step.flops / 1e6:,.1f} MFLOP.",
        f"This machine reads {rates.gb_per_s:.1f} GB/s (a buffer of {rates.read_mb:,.1f} MB) and multiplies "
        f"{rates.gflop_per_s:,.0f} GFLOP/s ({rates.matrix} x {rates.matrix}).",
        f"Roofline: {step.ms:.3g} ms a token ({step.bound}); ms of a pass by width: {verification or 'none'}.",
    ]


BASELINE = "generate"


@dataclass(frozen=True)
class RowInputs:
    """Everything that the rows of the table are made from."""

    workload: Workload
    made: Backends
    measured: Measured
    rooflines: Rooflines


def _row(inputs: RowInputs, name: str) -> bench.BackendRow:
    """Return the row of an engine or peer that was asked for, measured or not."""
    made, measured = inputs.made, inputs.measured
    kind, precision = made.kinds[name], made.precisions[name]
    if name in made.missing:
        status, why = made.missing[name]
        return bench.BackendRow(kind, status, why, precision)
    decodes = measured.decodes.get(name, {})
    if name in measured.failures or not decodes:
        why = measured.failures.get(name, "stopped before its first repeat")
        return bench.BackendRow(kind, bench.FAILED if name in measured.failures else bench.SKIPPED, why, precision)
    ms = {repeat: ms_of(timed) for repeat, timed in decodes.items()}
    median = bench.Spread.of(ms.values())
    own = kind != "small"  # the roofline is the large model's
    roofline = inputs.rooflines.token(precision) if own else None
    baseline = {repeat: ms_of(timed) for repeat, timed in measured.decodes.get(BASELINE, {}).items()} if own else {}
    speedups = [baseline[repeat] / value for repeat, value in ms.items() if repeat in baseline]
    told = [made.notes[name]] if name in made.notes else []
    told += [f"width {width}: {why}" for width, why in measured.verification_failures.get(name, {}).items()]
    return bench.BackendRow(
        kind=kind,
        status=bench.MEASURED,
        note="; ".join(told) or None,
        precision=precision,
        ms_per_token=median,
        ttft_ms=bench.Spread.of(timed.ttft_ns / 1e6 for timed in decodes.values()),
        speedup=bench.Spread.of(speedups) if speedups else None,
        gb_per_s=roofline.bytes / median.median / 1e6 if roofline else None,
        gflop_per_s=roofline.flops / median.median / 1e6 if roofline else None,
        roofline=roofline,
        over_roofline=median.median / roofline.ms if roofline else None,
        agreement=_agreement(inputs, name) if own else None,
        verification=_verification(measured.verification_ns.get(name, {}), inputs.rooflines)
        if kind == "engine"
        else None,
        repeats_ms=ms,
        by_source=by_source(measured, name, BASELINE) if own else None,
    )


def _verification(ns: Mapping[int, Mapping[int, int]], rooflines: Rooflines) -> dict[int, bench.Verification] | None:
    if not ns:
        return None
    narrowest = ns[min(ns)]
    found = {}
    for width, taken in sorted(ns.items()):
        ratios = [value / narrowest[repeat] for repeat, value in taken.items() if repeat in narrowest]
        ms = bench.Spread.of(value / 1e6 for value in taken.values())
        if ratios:
            found[width] = bench.Verification(ms, bench.Spread.of(ratios), ms.median / rooflines.verification(width).ms)
    return found


def _agreement(inputs: RowInputs, name: str) -> bench.SameTokens | None:
    """Compare the tokens with those of `generate`, or of the first engine where it was not measured."""
    decodes = inputs.measured.decodes
    reference = BASELINE if BASELINE in decodes else next(iter(decodes))
    if name == reference:
        return None
    common = [repeat for repeat in decodes[name] if repeat in decodes[reference]]
    pairs = [(repeat, decodes[reference][repeat].tokens, decodes[name][repeat].tokens) for repeat in common]
    parted = [(repeat, a, b) for repeat, a, b in pairs if a != b]
    if not parted:
        return bench.SameTokens(reference, len(pairs), len(pairs))
    repeat, a, b = parted[0]
    at = common_prefix(a, b)
    gap = None
    if at < min(len(a), len(b)):
        sources = inputs.workload.sources[None]
        gap = _gap(inputs.workload, sources[repeat % len(sources)], a[:at], a[at], b[at])
    return bench.SameTokens(reference, len(pairs) - len(parted), len(pairs), at, gap)


@torch.inference_mode()
def _gap(workload: Workload, source: Sequence[int], text: Sequence[int], one: int, other: int) -> float | None:
    """Return how much more probable `one` is than `other` after a text, in nats; None without a finite number."""
    module = workload.large
    logits = module(
        input_ids=torch.tensor([list(source)], device=module.device),
        decoder_input_ids=torch.tensor([[workload.start, *text]], device=module.device),
        use_cache=False,
    ).logits[0, -1]
    gap = float(logits[one].float() - logits[other].float())
    return gap if abs(gap) < float("inf") else None
