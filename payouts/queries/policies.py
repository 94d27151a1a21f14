"""The payout policy in force of a currency, as the figures that a run freezes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from payouts.models import PayoutPolicy
from payouts.rails import amounts


@dataclass(frozen=True)
class Terms:
    """The figures of a policy version, as a run freezes them. Version 0 holds where nobody adopted one."""

    currency: str
    version: int
    minimum_minor: int
    maturity_days: int
    second_approval_minor: int | None
    bank_change_days: int
    requires_tax_form: bool
    probation_days: int = 0
    approval_limit_minor: int | None = None
    daily_approval_minor: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


# The figures that a policy version is made of, by their names in PayoutPolicy.
FIGURES = tuple(field.name for field in fields(Terms) if field.name not in ("currency", "version"))


def terms_in_force(currency: str) -> Terms:
    latest = PayoutPolicy.objects.filter(currency=currency).order_by("-version").first()
    if latest is None:
        return Terms(
            currency,
            0,
            amounts.minimum_default(currency),
            amounts.MATURITY_DAYS_DEFAULT,
            None,
            3,
            requires_tax_form=False,
        )
    return Terms(currency, latest.version, **{name: getattr(latest, name) for name in FIGURES})
