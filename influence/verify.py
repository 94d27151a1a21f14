"""The shares of a stored attribution, made again by the standard library alone: `python verify.py RECEIPT.json`.

A copy of this file needs nothing else. RECEIPT.json is a receipt as the API answers it (`GET /api/v1/generations/ID`).
The program says whether the parts per billion follow from the parts of the grid.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BILLION = 1_000_000_000


def shares(parts: Sequence[int], holders: Sequence[int], key: str) -> list[int]:
    """Divide a billion in proportion to the parts, by the largest remainder; SHA-256 of key and holder breaks ties.

    Raises ValueError for lists that do not fit, a repeated holder, or a part that is not positive.
    """
    if len(parts) != len(holders) or len(set(holders)) != len(holders) or any(part < 1 for part in parts):
        raise ValueError("There must be one positive part for each holder, and each holder once.")
    whole = sum(parts)
    quotas = [divmod(part * BILLION, whole) for part in parts]
    ppb = [quota for quota, _ in quotas]
    order = sorted(
        range(len(parts)),
        key=lambda place: (-quotas[place][1], hashlib.sha256(f"{key}|{holders[place]}".encode()).digest()),
    )
    for place in order[: BILLION - sum(ppb)] if parts else ():
        ppb[place] += 1
    return ppb


def verify(receipt: Mapping[str, Any]) -> bool:
    """Tell whether the shares of a receipt follow from its parts. Raises ValueError for a receipt of another rule."""
    if receipt.get("rule") != 2:
        raise ValueError("This receipt has no shares by rule 2.")
    named = [share for share in receipt["shares"] if share["ppb"]]
    if not named:
        return bool(receipt["unattributed_ppb"] == BILLION)
    again = shares([share["part"] for share in named], [share["number"] for share in named], receipt["id"])
    return bool(again == [share["ppb"] for share in named] and receipt["unattributed_ppb"] == 0)


def main(path: str) -> int:
    """Print the result for a file. Returns the exit status: 0 the shares follow, 1 they do not, 2 nothing to verify."""
    try:
        same = verify(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as reason:
        print(f"Nothing to verify: {reason}")
        return 2
    print("The shares follow from the stored parts." if same else "The shares do NOT follow from the stored parts.")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
