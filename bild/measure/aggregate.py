"""From samples to the quality, latency and counts of a record, and which sessions a claim of speed leaves out.

Sessions time different examples, so their paces are compared by what vanilla takes for such a text: a line through all
examples, over the tokens written and read. A machine that others use slows a large model more than a small one, and
makes every speedup larger; a session on it says nothing of a calm one.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from statistics import median

import numpy as np

from bild.config import MeasureConfig
from bild.measure.live import PHASES
from bild.metrics import Scorer, mean_time, quality, speedup
from bild.metrics.claims import Floats, influences
from bild.metrics.speedup import percentiles
from bild.results import parts
from bild.results.codec import hints
from bild.results.sample import Sample
from bild.results.work import Fed, Passes, Work, rates, texts_work

DRIFT_LIMIT = 0.1
"""Relative change of the baseline between the halves of a run from which the record carries a warning."""
_SUMS = [name for name, kind in hints(parts.Counts).items() if kind is int and hints(Sample).get(name) is int]
"""The counts that every sample has: rounds, passes, positions, drafted tokens and their fates."""


def quality_and_joint(
    samples: Sequence[Sample],
    references: Sequence[str],
    metric: str,
    confidence: float = 0.95,
    *,
    exact: bool = False,
    data: str = "",
) -> tuple[parts.Quality, parts.Joint]:
    """Score samples, pair them with vanilla, and tell how the headline's difference and the speedup vary together."""
    texts, base = [sample.text for sample in samples], [sample.baseline.text for sample in samples]
    found = quality(metric, texts, references, baseline=base, confidence=confidence, exact=exact, data=data)
    scorer = Scorer(metric, references)
    own_scores, base_scores = (influences(scorer.table(each), scorer)[1] for each in (texts, base))
    return found, _joint(samples, own_scores - base_scores)


def _joint(samples: Sequence[Sample], scores: Floats) -> parts.Joint:
    base = np.array([sample.baseline_seconds for sample in samples])
    own = np.array([sample.seconds for sample in samples])
    speeds = base.sum() / own.sum() * (base / base.mean() - own / own.mean())
    n = len(samples)
    speed_sd, score_sd = (float(each.std() / np.sqrt(max(1, n - 1))) for each in (speeds, scores))
    if speed_sd == 0.0 or score_sd == 0.0:
        return parts.Joint(speed_sd, score_sd, 0.0)
    return parts.Joint(speed_sd, score_sd, float(np.corrcoef(speeds, scores)[0, 1]))


def latency_of(
    samples: Sequence[Sample], measure: MeasureConfig, notes: Mapping[int, parts.SessionNote] | None = None
) -> parts.Latency:
    """Sum up times at batch size 1, and the speedups over vanilla on the same engine and over the library.

    The samples are in the order of their measurement; `notes` tell how the machine was found before each session.
    Times are those of all examples, speedups and percentiles those of the sessions that claims count.
    """
    own, base = sum(sample.seconds for sample in samples), sum(sample.baseline_seconds for sample in samples)
    tokens, base_tokens = (sum(run.written for run in runs) for runs in (samples, [s.baseline for s in samples]))
    sessions = sessions_of(samples, notes or {})
    kept, level = counted(samples, sessions), measure.confidence
    numbers = [sample.session for sample in kept]
    times = [sample.seconds for sample in kept], [sample.baseline_seconds for sample in kept]
    speed = speedup(times[1], times[0], numbers, confidence=level)
    return parts.Latency(
        examples=len(samples),
        tokens=tokens,
        seconds=own,
        ms_per_example=mean_time(
            [1e3 * sample.seconds for sample in samples], [sample.session for sample in samples], confidence=level
        ),
        ms_per_token=own * 1e3 / tokens,
        phases=parts.Phases(**{phase: sum(getattr(sample.ns, phase) for sample in samples) / 1e9 for phase in PHASES}),
        speedup=parts.Speedup(total=speed.total, geometric=speed.geometric),
        baseline=parts.Baseline(base, base_tokens, base * 1e3 / len(samples), base * 1e3 / base_tokens),
        library=_library(samples, kept, level),
        stationarity=stationarity(samples),
        sessions=sessions,
        between=speed.spread.between,
        percentiles=parts.Percentiles(
            *(percentiles([1e3 * s for s in each], numbers, confidence=level) for each in times)
        ),
    )


def _library(samples: Sequence[Sample], kept: Sequence[Sample], confidence: float) -> parts.Library | None:
    timed = [(sample, sample.library) for sample in kept if sample.library is not None]
    if not timed:
        return None
    asked = [(sample, sample.library.tokens, sample.library_gap) for sample in samples if sample.library is not None]
    theirs, own = [library.ns / 1e9 for _, library in timed], [sample.seconds for sample, _ in timed]
    return parts.Library(
        examples=len(timed),
        seconds=sum(theirs),
        ms_per_token=sum(theirs) * 1e3 / sum(library.written for _, library in timed),
        speedup=speedup(theirs, own, [sample.session for sample, _ in timed], confidence=confidence).total,
        texts=_agreement(asked),
    )


def texts_of(samples: Sequence[Sample]) -> parts.EqualTexts:
    """Compare the texts of a method that is exact by its rules to vanilla's."""
    return _agreement([(sample, sample.tokens, sample.gap) for sample in samples])


def _agreement(asked: Sequence[tuple[Sample, list[int], float | None]]) -> parts.EqualTexts:
    """Compare texts to vanilla's; each comes with the gap where it first differs, if that is known."""
    equal = sum(tokens == sample.baseline.tokens for sample, tokens, _ in asked)
    gaps = [abs(gap) for *_, gap in asked if gap is not None]
    return parts.EqualTexts(equal, len(asked), max(gaps, default=None))


def stationarity(samples: Sequence[Sample]) -> parts.Stationarity:
    """Compare the baseline's median ms per token in the second half of the run to the first: the machine's drift.

    The samples are in the order of their measurement, whatever that of the data is.
    """
    pace = [sample.baseline.ns / sample.baseline.written for sample in samples]
    half = len(pace) // 2
    if half < 2:
        return parts.Stationarity(0.0, None)
    drift = statistics.median(pace[half:]) / statistics.median(pace[:half]) - 1.0
    if abs(drift) <= DRIFT_LIMIT:
        return parts.Stationarity(drift, None)
    return parts.Stationarity(
        drift,
        f"The baseline became {abs(drift):.0%} {'slower' if drift > 0 else 'faster'} from the first half of the "
        "run to the second: speedups follow the machine's state, too: measure again on a calm one.",
    )


def counts_of(samples: Sequence[Sample]) -> parts.Counts:
    """Sum up passes, drafts and their fates over all examples."""
    tokens = sum(sample.written for sample in samples)
    sums = {name: sum(getattr(sample, name) for sample in samples) for name in _SUMS}
    widths = sum((Counter(sample.large_widths) for sample in samples), Counter[int]())
    layers = Counter(layer for sample in samples for layer in sample.layers or ())
    whole = sum((sample.depth or 0) * sample.written for sample in samples)
    return parts.Counts(
        tokens=tokens,
        examples=len(samples),
        large_widths=dict(sorted(widths.items())),
        **rates(tokens, sums["large_passes"], sums["fallbacks"], sums["rollbacks"]),
        truncated_sources=sum(sample.truncated for sample in samples),
        reached_limit=sum(sample.reached_limit for sample in samples),
        exit_layers=dict(sorted(layers.items())) if layers else None,
        layer_share=sum(layer * n for layer, n in layers.items()) / whole if layers else None,
        small_passes_run=_sum(sample.small_passes_run for sample in samples),
        large_passes_run=_sum(sample.large_passes_run for sample in samples),
        baseline_passes=sum(sample.baseline.written for sample in samples),
        baseline_passes_run=_sum(sample.baseline.passes_run for sample in samples),
        captures=_sum(n for sample in samples for n in (sample.captures, sample.baseline.captures)),
        **sums,
    )


def work_of(samples: Sequence[Sample], pair: parts.PairRecord, dtype: str, *, shared: bool = False) -> Work | None:
    """Count the work of the timed examples beside vanilla's, exactly, from the shapes of all passes.

    None in older records, where a model does not tell its sizes or a sample its passes; those to an exit too, where the
    models share (`shared`) what lies below it: a point may go on with examples of before these were counted.
    """
    small, large = pair.small.sizes, pair.large.sizes
    told = all((s.exit_sums if shared and s.small_sums else s.small_sums or s.large_sums) for s in samples)
    if small is None or large is None or not told:
        return None
    own = [Fed(s.source_tokens, s.small_sums, s.large_sums, s.exit_sums, s.layers) for s in samples]
    base = [Fed(s.source_tokens, None, Passes.one_by_one(s.baseline.written)) for s in samples]
    return Work(texts_work(own, small, large, dtype), texts_work(base, small, large, dtype))


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum of what every sample has counted; None where one of them has not."""
    found = list(counts)
    return None if None in found else sum(n for n in found if n is not None)


OFF = 0.1
"""Relative difference of vanilla's pace to that of the calm sessions from which a session is left out of claims."""
_FIT_FROM = 12
"""Examples from which a line is fitted; with fewer, all tokens written are taken to cost the same."""


def sessions_of(samples: Sequence[Sample], notes: Mapping[int, parts.SessionNote]) -> list[parts.SessionPace]:
    """Tell the sessions of a point apart, in the order of their numbers."""
    usual = _usual_seconds(samples)
    groups: dict[int, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(sample.session, []).append(i)
    paces = {
        number: sum(samples[i].baseline_seconds for i in rows) / float(usual[rows].sum())
        for number, rows in groups.items()
    }
    # Each example has a vote: a kill may leave a session of one, whose pace says little.
    votes = {number: [pace] * len(groups[number]) for number, pace in paces.items()}
    calm = [vote for number in votes if number not in notes or notes[number].calm for vote in votes[number]]
    reference = median(calm or chain.from_iterable(votes.values()))
    return [
        _session_of(number, [samples[i] for i in rows], paces[number] / reference, notes.get(number))
        for number, rows in sorted(groups.items())
    ]


def _session_of(
    number: int, samples: Sequence[Sample], pace: float, note: parts.SessionNote | None
) -> parts.SessionPace:
    base = sum(sample.baseline_seconds for sample in samples)
    ms_per_token = base * 1e3 / sum(sample.baseline.written for sample in samples)
    speed, load = base / sum(sample.seconds for sample in samples), None if note is None else note.load
    why = _why_left_out(note, pace)
    return parts.SessionPace(number, len(samples), ms_per_token, speed, pace, load, why)


def _why_left_out(note: parts.SessionNote | None, pace: float) -> str | None:
    if note is not None and not note.calm:
        return f"the machine was busy: others kept {note.load:.1f} of its threads"
    if abs(pace - 1.0) > OFF:
        return f"vanilla was {abs(pace - 1.0):.0%} {'slower' if pace > 1 else 'faster'} than in the calm sessions"
    return None


def _usual_seconds(samples: Sequence[Sample]) -> Floats:
    """Return what vanilla takes for each text at the pace of all sessions."""
    seconds = np.array([sample.baseline_seconds for sample in samples])
    written = np.array([float(sample.baseline.written) for sample in samples])
    plain: Floats = written * seconds.sum() / written.sum()
    if len(samples) < _FIT_FROM:
        return plain
    read = np.array([float(sample.source_tokens) for sample in samples])
    table = np.column_stack([np.ones_like(written), written, read])
    fitted: Floats = table @ np.linalg.lstsq(table, seconds, rcond=None)[0]
    return np.maximum(fitted, 0.1 * plain)


def counted(samples: Sequence[Sample], sessions: Sequence[parts.SessionPace]) -> list[Sample]:
    """Return the samples of the sessions that claims count; all of them where no session is fit for one."""
    kept = {session.number for session in sessions if session.note is None}
    return [sample for sample in samples if sample.session in kept] or list(samples)
