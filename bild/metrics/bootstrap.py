"""The arrays that statistics come in, and the longer side of an interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def longer_side(value: float, low: float, high: float) -> float:
    """Return the longer half of an interval, whichever record it stands in."""
    return max(high - value, value - low)
