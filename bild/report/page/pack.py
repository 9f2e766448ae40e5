"""Columns of numbers as JSON: base64 of the smallest type that holds them. `js/tree.js` unpacks them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bild.errors import BildError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_UNSIGNED = (("u1", 2**8), ("u2", 2**16))
_ONE_UP = 1  # -1 (none) is stored as 0 where the type has no sign


def column(parts: Sequence[NDArray[Any]]) -> dict[str, str]:
    """One column of all examples, one after another: {"type", "data"}. Floats keep their 32 bits, integers from -1."""
    import numpy as np

    values = np.concatenate(parts)
    if values.dtype.kind == "f":
        return _packed("f4", values.astype("<f4"))
    if len(values) and int(values.min()) < -_ONE_UP:
        raise BildError(f"A column of the decision tree holds {int(values.min())}: grow the tree anew.")
    most = int(values.max(initial=0)) + _ONE_UP
    for name, limit in _UNSIGNED:
        if most < limit:
            return _packed(name, (values + _ONE_UP).astype(f"<{name}"))
    return _packed("i4", values.astype("<i4"))


def _packed(name: str, values: np.ndarray[Any, Any]) -> dict[str, str]:
    return {"type": name, "data": base64.b64encode(values.tobytes()).decode("ascii")}
