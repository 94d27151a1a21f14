"""The payout policy in force of a currency, as the figures that a run freezes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ledger.money import asset
from payouts.models import PayoutPolicy, PolicyProposal
from payouts.rails import amounts as limits
from people.presentation import amounts


@dataclass(frozen=True)
class Terms:
    """The figures of a policy version, as a run freezes them. Version 0 holds where none was approved."""

    currency: str
    version: int
    minimum_minor: int
    maturity_days: int
    second_approval_minor: int | None
    bank_change_days: int
    requires_tax_form: bool
    probation_days: int = 3
    approval_limit_minor: int | None = None
    daily_approval_minor: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def figures(self) -> dict[str, Any]:
        """Return the figures that a proposal of another version names."""
        return {name: getattr(self, name) for name in FIGURES}


# The figures that a policy version is made of, by their names in PayoutPolicy.
FIGURES = tuple(field.name for field in fields(Terms) if field.name not in ("currency", "version"))


def terms_in_force(currency: str) -> Terms:
    latest = PayoutPolicy.objects.filter(currency=currency).order_by("-version").first()
    if latest is None:
        return Terms(
            currency,
            0,
            limits.minimum_default(currency),
            limits.MATURITY_DAYS_DEFAULT,
            None,
            3,
            requires_tax_form=False,
        )
    return Terms(currency, latest.version, **{name: getattr(latest, name) for name in FIGURES})


LABELS = {
    "minimum_minor": "Minimum payout",
    "maturity_days": "Days until a credit matures",
    "second_approval_minor": "Second approver above",
    "bank_change_days": "Days to wait after a change of bank",
    "requires_tax_form": "Tax form required",
    "probation_days": "Days before a first payout",
    "approval_limit_minor": "Approval limit per person and run",
    "daily_approval_minor": "Daily approval limit per person",
}


def in_words(currency: str, figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Each figure by its label, as a person reads it."""
    return [(label, _figure(currency, name, figures.get(name))) for name, label in LABELS.items()]


def _figure(currency: str, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "no limit" if name != "second_approval_minor" else "never"
    if name.endswith("_minor"):
        return amounts.text_of_minor(value, asset(currency))
    return str(value)


def changes(proposal: PolicyProposal) -> list[tuple[str, str]]:
    """List each proposed figure by its label, a changed one with the figure in force before it."""
    before = dict(in_words(proposal.currency, terms_in_force(proposal.currency).as_json()))
    return [
        (label, after if before[label] == after or proposal.state != "proposed" else f"{before[label]} → {after}")
        for label, after in in_words(proposal.currency, proposal.terms)
    ]
