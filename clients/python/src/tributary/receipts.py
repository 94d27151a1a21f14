"""Receipts of the service's own generations, and their void."""

from __future__ import annotations

import time
import uuid
from typing import Any

from tributary.errors import InvalidInput, TributaryError
from tributary.transport import Transport

PATH = "/api/v1/generations"
FINAL = frozenset({"accrued", "unattributable", "voided", "refused"})


class Receipts:
    """`client.receipts`: shares, amounts, works and journal entry of each generation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, generation_id: str) -> dict[str, Any]:
        """Read a receipt by the id that Tributary gave. Raises ProblemError."""
        receipt: dict[str, Any] = self._transport.get(f"{PATH}/{_id(generation_id)}")
        return receipt

    def wait(self, generation_id: str, *, timeout_seconds: float = 120.0) -> dict[str, Any]:
        """Wait, in seconds, for a receipt and read it once it is final: accrued, unattributable, refused or voided.
        Raises TributaryError."""
        deadline = time.monotonic() + timeout_seconds
        pause = 0.25
        while True:
            receipt = self.get(generation_id)
            if receipt["state"] in FINAL:
                return receipt
            if time.monotonic() + pause > deadline:
                raise TributaryError(f"After {timeout_seconds:g} s the generation is still {receipt['state']}.")
            time.sleep(pause)
            pause = min(pause * 1.5, 5.0)

    def void(self, generation_id: str, *, reason: str, detail: str = "") -> dict[str, Any]:
        """Take a generation back: a test, a refund or a mistake. It cannot be undone. Raises ProblemError."""
        body = {"reason": reason, **({"detail": detail} if detail else {})}
        voided: dict[str, Any] = self._transport.post(f"{PATH}/{_id(generation_id)}/void", body)
        return voided


def _id(generation_id: str) -> str:
    """Check an id before it becomes a part of an address."""
    try:
        return str(uuid.UUID(str(generation_id)))
    except ValueError:
        raise InvalidInput(f"{generation_id!r:.60} is no id of a generation", field="generation_id") from None
