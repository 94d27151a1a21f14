"""The shares of a stored attribution, made again by the standard library alone: `python verify.py RECEIPT.json`.

A copy of this file needs nothing else. It reads `key`, `holders`, `parts` and `ppb` of a generation under rule 2, from
the receipt's export, and says whether the parts per billion follow from the parts.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

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


def main(path: str) -> int:
    stored = json.loads(Path(path).read_text(encoding="utf-8"))
    same = shares(stored["parts"], stored["holders"], stored["key"]) == stored["ppb"]
    print("The shares follow from the stored parts." if same else "The shares do NOT follow from the stored parts.")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
