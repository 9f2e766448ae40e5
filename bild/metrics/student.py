"""Quantiles of Student's t and of the beta distribution, of any real degrees of freedom, without SciPy."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_GRID = 8_001
_LIKE_NORMAL = 2_000.0
"""Degrees of freedom from which t's quantiles are the normal ones to three decimals."""


@cache
def t_quantile(p: float, freedom: float) -> float:
    """Return the p-quantile of Student's t; `freedom` is 1 or more, and need be no whole number."""
    if p < 0.5:
        return -t_quantile(1.0 - p, freedom)
    if freedom > _LIKE_NORMAL:
        return NormalDist().inv_cdf(p)
    share = beta_quantile(2.0 * p - 1.0, 0.5, freedom / 2.0)  # t squared over itself and the degrees of freedom
    return math.sqrt(freedom * share / (1.0 - share))


@cache
def beta_quantile(p: float, a: float, b: float) -> float:
    """Return the p-quantile of the beta distribution, for a and b of 0.5 and more.

    With x = sin(angle) squared the density is bounded, so a sum over a grid of angles is accurate to about 1e-6.
    """
    angles = np.linspace(0.0, math.pi / 2.0, _GRID)
    with np.errstate(divide="ignore"):
        logarithm = _times_log(2.0 * a - 1.0, np.sin(angles)) + _times_log(2.0 * b - 1.0, np.cos(angles))
    density = np.exp(logarithm - logarithm.max())
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(np.sin(np.interp(p * mass[-1], mass, angles)) ** 2)


def _times_log(factor: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.zeros_like(values) if factor == 0.0 else factor * np.log(np.maximum(values, 1e-300))
