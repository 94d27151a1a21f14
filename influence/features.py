"""Features as a service reports them: base64 of little-endian float32, and the way back. Standard library only.

This is all that a service needs besides its own model: `report_features` makes the member `features` of a generation.
"""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Iterable

FEATURES_MAX = 16_384


def report_features(values: Iterable[float], *, index: str) -> dict[str, str]:
    """The member `features` of a generation for POST /api/v1/generations.

    `values`: M x K numbers, ensemble member after member; `index`: the id of the index that GET /api/v1/model-versions
    names for the model version. Raises ValueError for values that the API would refuse.
    """
    numbers = array("f", values)
    if not 1 <= len(numbers) <= FEATURES_MAX:
        raise ValueError(f"Features are 1 to {FEATURES_MAX} numbers, not {len(numbers)}.")
    if not all(map(math.isfinite, numbers)):
        raise ValueError("Features must be finite float32 numbers.")
    if sys.byteorder == "big":
        numbers.byteswap()
    return {"index": index, "values": base64.b64encode(numbers.tobytes()).decode("ascii")}


def read_features(text: str) -> bytes:
    """The bytes of reported values, little-endian float32, all finite. Raises ValueError, in words."""
    if len(text) > 4 * math.ceil(4 * FEATURES_MAX / 3):
        raise ValueError(f"takes at most {FEATURES_MAX} numbers")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    if not raw or len(raw) % 4:
        raise ValueError("must be base64 of little-endian float32 numbers, four bytes each")
    if len(raw) > 4 * FEATURES_MAX:
        raise ValueError(f"takes at most {FEATURES_MAX} numbers")
    numbers = array("f", raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    if not all(map(math.isfinite, numbers)):
        raise ValueError("must be finite numbers")
    return raw
