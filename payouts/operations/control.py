"""The figures that must agree before and after a run is paid: the run's own, the ledger's and Stripe's.

Read afresh from where each comes from; nothing here is taken from a total that somebody stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Sum

from ledger.models import Account, Line
from ledger.money import asset, from_minor
from payouts.models import Payout, PayoutAttempt, PayoutRun
from payouts.rails.stripe import calls, errors

BEFORE_EXECUTION = ("draft", "calculating", "set_aside", "in_review", "approved", "rejected", "cancelled")


@dataclass(frozen=True, slots=True)
class Controls:
    """Amounts in ledger units. `owed` and `short` speak of a run that has not begun, `booked` and `paid` of others."""

    currency: str
    has_begun: bool
    n_payouts: int
    gross: int
    tax: int
    net: int
    # The ledger's present payable to the payees of the run, and the payouts that it does not cover.
    owed: int
    short: list[Payout]
    # The amount that the ledger booked as transferred for the run, and the sum of the payouts themselves.
    booked: int
    paid: int
    # The amount that the last comparison of this run found at Stripe; None before the first.
    at_stripe: int | None

    @property
    def left_owed(self) -> int:
        return self.owed - self.gross

    @property
    def ledger_agrees(self) -> bool:
        return self.booked == self.paid if self.has_begun else not self.short

    @property
    def stripe_agrees(self) -> bool:
        return self.at_stripe == self.paid


def totals_of(run: PayoutRun) -> Controls:
    unit = asset(run.currency).minor
    sums = run.payouts.aggregate(gross=Sum("gross_minor"), tax=Sum("tax_minor"), net=Sum("amount_minor"))
    has_begun = run.state not in BEFORE_EXECUTION
    owed, short = (0, []) if has_begun else _cover(run)
    paid = run.payouts.filter(state__in=Payout.PAID).aggregate(sum=Sum("amount_minor"))["sum"] or 0
    latest = run.reconciliations.order_by("-pk").first()
    return Controls(
        currency=run.currency,
        has_begun=has_begun,
        n_payouts=run.payouts.count(),
        gross=(sums["gross"] or 0) * unit,
        tax=(sums["tax"] or 0) * unit,
        net=(sums["net"] or 0) * unit,
        owed=owed,
        short=short,
        booked=_booked(run) if has_begun else 0,
        paid=paid * unit,
        at_stripe=from_minor(latest.stripe_minor, run.currency) if latest else None,
    )


@dataclass(frozen=True, slots=True)
class StripeBalance:
    """The available balance at Stripe, in ledger units; `available` is None where Stripe did not answer, for `why`."""

    available: int | None
    why: str = ""


def stripe_available(currency: str) -> StripeBalance:
    """Ask Stripe now. A page shows the lack of an answer and goes on; only starting a run insists on one."""
    try:
        minor = calls.balance().available.get(currency, 0)
    except errors.UnableToUseStripe as error:
        return StripeBalance(None, str(error))
    return StripeBalance(from_minor(minor, currency))


def removed_payees(run: PayoutRun, previous: PayoutRun | None) -> list[Payout]:
    """List the payouts of the last run to payees that are not in this one."""
    if previous is None:
        return []
    gone = previous.payouts.filter(state__in=Payout.PAID).exclude(contributor__payouts__run=run)
    return list(gone.select_related("contributor").order_by("-amount_minor", "pk"))


def _cover(run: PayoutRun) -> tuple[int, list[Payout]]:
    """Return the ledger's debt to the payees of the run, and the payouts that exceed the debt to their payee."""
    payouts = list(run.payouts.select_related("contributor").order_by("pk"))
    owners = {f"contributor:{payout.contributor_id}": payout for payout in payouts}
    accounts = Account.objects.filter(kind="contributor_payable", asset__code=run.currency, owner__in=list(owners))
    owed = dict(accounts.values_list("owner", "balance__posted"))
    short = [
        payout for owner, payout in owners.items() if owed.get(owner, 0) < from_minor(payout.gross_minor, run.currency)
    ]
    return sum(owed.values()), short


def _booked(run: PayoutRun) -> int:
    """Sum the amounts that the entries of this run's successful attempts took out of transit."""
    keys = PayoutAttempt.objects.filter(
        payout__run=run, kind=PayoutAttempt.Kind.PAY, state=PayoutAttempt.State.SUCCEEDED
    ).values_list("idempotency_key", flat=True)
    lines = Line.objects.filter(
        entry__idem_key__in=[f"payout_succeed:{key}" for key in keys], account__kind="payouts_in_transit"
    )
    return -(lines.aggregate(sum=Sum("amount"))["sum"] or 0)
