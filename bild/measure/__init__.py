"""Measurement: the live driver, alternation with the baselines, and what becomes a record."""
