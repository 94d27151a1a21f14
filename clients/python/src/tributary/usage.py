"""A service's usage by month, its balance, and its invoices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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

    def limits(self) -> list[dict[str, Any]]:
        """Read the limits of a month's charges, with the charges so far. Raises ProblemError."""
        rows: list[dict[str, Any]] = self._transport.get(f"{PATH}/limits")["results"]
        return rows

    def set_limit(
        self,
        currency: str,
        limit: str,
        *,
        thresholds: Sequence[int] | None = None,
        at_limit: str = "alert",
        contacts: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Set the limit of a currency, such as "250.00"; `at_limit` is alert or refuse. Raises ProblemError."""
        body: dict[str, Any] = {"limit": limit, "at_limit": at_limit, "contacts": list(contacts)}
        body.update({} if thresholds is None else {"thresholds": list(thresholds)})
        found: dict[str, Any] = self._transport.call("PUT", f"{PATH}/limits/{_code(currency)}", json=body).json()
        return found

    def remove_limit(self, currency: str) -> None:
        """Remove the limit of a currency. Raises ProblemError."""
        self._transport.call("DELETE", f"{PATH}/limits/{_code(currency)}")

    def invoices(self) -> Iterator[dict[str, Any]]:
        """Yield invoices and payments, the newest first. Raises ProblemError."""
        return self._transport.pages(f"{PATH}/invoices")


def _checked(month: str) -> str:
    if not isinstance(month, str) or not _MONTH.fullmatch(month):
        raise InvalidInput(f"a month reads 2026-11, not {month!r:.40}", field="month")
    return month


def _code(currency: str) -> str:
    """Check a code before it becomes a part of an address."""
    if not re.fullmatch("[A-Z]{3}", currency):
        raise InvalidInput(f"a currency reads as USD, not {currency!r:.20}", field="currency")
    return currency
