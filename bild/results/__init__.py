"""The files that a run leaves, and their readers: `frame("results/")` is all of them as one table. No torch here."""

from __future__ import annotations

from bild.results.folder import PointFolder, config_hash, read_record
from bild.results.parts import Difference, Interval, Method, Score, Threshold
from bild.results.reading import Point, Skipped, comparable, find_records, frame, identity, to_frame
from bild.results.record import SCHEMA_VERSION, Record, from_json, to_json
from bild.results.sample import Sample, read_samples, read_traces

__all__ = [
    "SCHEMA_VERSION",
    "Difference",
    "Interval",
    "Method",
    "Point",
    "PointFolder",
    "Record",
    "Sample",
    "Score",
    "Skipped",
    "Threshold",
    "comparable",
    "config_hash",
    "find_records",
    "frame",
    "from_json",
    "identity",
    "read_record",
    "read_samples",
    "read_traces",
    "to_frame",
    "to_json",
]
