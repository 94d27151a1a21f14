"""A service's usage by month, its balance, and its invoices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tributary.errors import InvalidInput
from tributary.transport import Transport

PATH = "/api/v1"
_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])")


class Usage:
    """`client.usage`. Amounts are exact texts."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def month(self, month: str) -> list[dict[str, Any]]:
        """Read the generations of a month, as 2026-11, by model version, state and currency. Raises ProblemError."""
        rows: list[dict[str, Any]] = self._transport.get(f"{PATH}/usage", month=_checked(month))["results"]
        return rows

    def csv(self, month: str) -> bytes:
        """Read the same as a table for a spreadsheet, in UTF-8. Raises ProblemError."""
        return self._transport.call("GET", f"{PATH}/usage.csv", params={"month": _checked(month)}).content

    def balance(self) -> list[dict[str, Any]]:
        """Read deposit, unbilled and receivable amounts by currency. Raises ProblemError."""
        rows: list[dict[str, Any]] = self._transport.get(f"{PATH}/balance")["results"]
        return rows

    def invoices(self) -> Iterator[dict[str, Any]]:
        """Yield invoices and payments, the newest first. Raises ProblemError."""
        return self._transport.pages(f"{PATH}/invoices")


def _checked(month: str) -> str:
    if not isinstance(month, str) or not _MONTH.fullmatch(month):
        raise InvalidInput(f"a month reads 2026-11, not {month!r:.40}", field="month")
    return month
