"""Measurement: the live driver, alternation with the baselines, the machine, and what becomes a record."""
