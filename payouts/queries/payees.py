"""Reads about one payee: account, holds, payouts, notifications, tax form."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet

from contributors.models import Contributor
from payouts.models import (
    BankPayout,
    Hold,
    HoldReason,
    LeftOut,
    Notice,
    Payout,
    PayoutAccount,
    PayoutAttempt,
    PayoutRun,
    TaxProfile,
)
from payouts.queries.hold_reasons import RULES, HoldRule


# --- contributors -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ExplainedHold:
    hold: Hold
    rule: HoldRule

    @property
    def words(self) -> str:
        return self.rule.words

    @property
    def remedy(self) -> str:
        return self.rule.remedy

    @property
    def owner(self) -> str:
        return str(self.rule.owner)

    @property
    def automatic(self) -> bool:
        return self.rule.automatic


def explain_hold(reason: str) -> HoldRule:
    return RULES[HoldReason(reason)]


def account_of(contributor: Contributor) -> PayoutAccount | None:
    return PayoutAccount.objects.filter(contributor=contributor).first()


def open_holds(contributor: Contributor, at: datetime | None = None) -> list[ExplainedHold]:
    """The holds in force on a contributor, oldest first; with `at`, without those that ended by then."""
    holds = Hold.objects.filter(contributor=contributor, released_at__isnull=True).order_by("placed_at", "pk")
    if at is not None:
        holds = holds.filter(Q(ends_at__isnull=True) | Q(ends_at__gt=at))
    return [ExplainedHold(hold, RULES[HoldReason(hold.reason)]) for hold in holds]


def payouts_of(contributor: Contributor) -> QuerySet[Payout]:
    """The contributor's payouts in runs that were approved, newest first."""
    shown = (
        PayoutRun.State.APPROVED,
        PayoutRun.State.EXECUTING,
        PayoutRun.State.PAUSED,
        PayoutRun.State.RECONCILED,
        PayoutRun.State.CLOSED,
    )
    return (
        Payout.objects.filter(contributor=contributor, run__state__in=shown)
        .select_related("run", "account", "bank_payout")
        .order_by("-created_at", "-pk")
    )


def left_out_of(contributor: Contributor) -> QuerySet[LeftOut]:
    """List the reasons why runs past draft, not rejected or cancelled, did not pay the contributor, newest first."""
    gone = (PayoutRun.State.REJECTED, PayoutRun.State.CANCELLED, PayoutRun.State.DRAFT, PayoutRun.State.CALCULATING)
    return (
        LeftOut.objects.filter(contributor=contributor)
        .exclude(run__state__in=gone)
        # That the other rail's run pays somebody else is of no use to them.
        .exclude(reason=LeftOut.Reason.OTHER_RAIL)
        .select_related("run")
        .order_by("-created_at", "-pk")
    )


def notices_of(contributor: Contributor) -> QuerySet[Notice]:
    return Notice.objects.filter(contributor=contributor).order_by("-created_at", "-pk")


def attempts_of(payout: Payout) -> QuerySet[PayoutAttempt]:
    return payout.attempts.order_by("number")


def untold_bank_payouts(account: PayoutAccount | None) -> QuerySet[BankPayout]:
    """List the payouts to the bank that the payee asked for and of which nobody can tell the payments, newest first."""
    return BankPayout.objects.filter(account=account).exclude(note="").order_by("-made_at", "-pk")[:10]


def needs_person() -> QuerySet[Payout]:
    """List the payouts that the machine may not decide."""
    return (
        Payout.objects.filter(needs_person_since__isnull=False)
        .select_related("run", "contributor")
        .order_by("needs_person_since")
    )


def tax_form_of(contributor: Contributor) -> TaxProfile | None:
    """The form that counts: the latest one recorded."""
    return TaxProfile.objects.filter(contributor=contributor).select_related("recorded_by").order_by("-pk").first()
