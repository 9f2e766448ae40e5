"""Sweeps: a grid of thresholds priced by one decision tree, and the points that matter measured live."""
