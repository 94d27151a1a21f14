"""Countries in which a contributor can be paid. The floor of payouts knows the rails and registers its check here."""

from __future__ import annotations

from collections.abc import Callable


def _everywhere(country: str) -> bool:
    return True


_checks: list[Callable[[str], bool]] = [_everywhere]


def register(check: Callable[[str], bool]) -> None:
    """Set the check that tells whether any rail pays to a country (ISO 3166 code)."""
    _checks[0] = check


def is_payable(country: str) -> bool:
    return _checks[0](country)
