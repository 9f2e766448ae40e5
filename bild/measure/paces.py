"""Sessions beside each other: at which pace each went, and which of them a claim leaves out.

Sessions time different examples, so their paces are compared by what vanilla takes for such a text: a line through all
examples, over the tokens written and read. A machine that others use slows a large model more than a small one, and
makes every speedup larger; a session on it says nothing of a calm one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from bild.metrics.jackknife import Floats
from bild.results.parts import SessionNote, SessionPace
from bild.results.sample import Sample

OFF = 0.1
"""Relative difference of vanilla's pace to that of the calm sessions from which a session is left out of claims."""
_FIT_FROM = 12
"""Examples from which a line is fitted; with fewer, all tokens written are taken to cost the same."""


def sessions_of(samples: Sequence[Sample], notes: Mapping[int, SessionNote]) -> list[SessionPace]:
    """Tell the sessions of a point apart, in the order of their numbers."""
    usual = _usual_seconds(samples)
    groups: dict[int, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(sample.session, []).append(i)
    paces = {
        number: sum(samples[i].baseline_seconds for i in rows) / float(usual[rows].sum())
        for number, rows in groups.items()
    }
    calm = [pace for number, pace in paces.items() if number not in notes or notes[number].calm]
    reference = median(calm or list(paces.values()))
    found = []
    for number, rows in sorted(groups.items()):
        ours, note = [samples[i] for i in rows], notes.get(number)
        base, pace = sum(sample.baseline_seconds for sample in ours), paces[number] / reference
        found.append(
            SessionPace(
                number=number,
                examples=len(ours),
                ms_per_token=base * 1e3 / sum(sample.baseline.written for sample in ours),
                speedup=base / sum(sample.seconds for sample in ours),
                pace=pace,
                load=None if note is None else note.load,
                note=_why_left_out(note, pace),
            )
        )
    return found


def _why_left_out(note: SessionNote | None, pace: float) -> str | None:
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


def counted(samples: Sequence[Sample], sessions: Sequence[SessionPace]) -> list[Sample]:
    """Return the samples of the sessions that claims count; all of them where no session is fit for one."""
    kept = {session.number for session in sessions if session.note is None}
    return [sample for sample in samples if sample.session in kept] or list(samples)
