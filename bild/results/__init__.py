"""The files that a run leaves, and their readers: `frame("results/")` is all of them as one table. No torch here."""

from __future__ import annotations

from bild.results.folder import PointFolder, config_hash, read_record
from bild.results.interval import Interval
from bild.results.parts import Method, Threshold
from bild.results.reading import Point, Skipped, comparable, find_records, frame, identity, to_frame
from bild.results.record import SCHEMA_VERSION, Record
from bild.results.sample import Sample, read_samples, read_traces

__all__ = [
    "SCHEMA_VERSION",
    "Interval",
    "Method",
    "Point",
    "PointFolder",
    "Record",
    "Sample",
    "Skipped",
    "Threshold",
    "comparable",
    "config_hash",
    "find_records",
    "frame",
    "identity",
    "read_record",
    "read_samples",
    "read_traces",
    "to_frame",
]
