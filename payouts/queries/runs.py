"""Reads of payout runs: lists, summaries, the review before an approval."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet, Sum

from payouts.models import BankDetails, LeftOut, Payout, PayoutRun, Rail
from people.presentation.names import mixed_scripts, shape


# --- finance ------------------------------------------------------------------------------------------------------
def runs() -> QuerySet[PayoutRun]:
    return PayoutRun.objects.select_related("created_by", "approved_by", "second_approved_by").order_by(
        "-created_at", "-pk"
    )


def run_or_none(public_id: UUID) -> PayoutRun | None:
    return runs().filter(public_id=public_id).first()


@dataclass(frozen=True)
class RunSummary:
    n_payouts: int
    gross_minor: int
    tax_minor: int
    total_minor: int
    by_state: dict[str, int]
    minor_by_state: dict[str, int]
    n_left_out: int
    # Units at the currency's scale.
    left_out_amount: int
    n_needs_person: int

    @property
    def n_paid(self) -> int:
        return sum(self.by_state.get(state, 0) for state in Payout.PAID)

    @property
    def paid_minor(self) -> int:
        """Sum the paid payouts, in minor units of the run's currency."""
        return sum(self.minor_by_state.get(state, 0) for state in Payout.PAID)

    @property
    def n_live(self) -> int:
        return sum(self.by_state.get(state, 0) for state in Payout.LIVE)


def run_summary(run: PayoutRun) -> RunSummary:
    return run_summaries([run])[run.pk]


def run_summaries(runs: Collection[PayoutRun]) -> dict[int, RunSummary]:
    """The summaries of several runs by the runs' numbers, in two queries however many they are."""
    ids = [run.pk for run in runs]
    states: dict[int, dict[str, Any]] = {run_id: {} for run_id in ids}
    for row in (
        Payout.objects.filter(run__in=ids)
        .values("run_id", "state")
        .annotate(
            n=Count("pk"),
            amount=Sum("amount_minor"),
            gross=Sum("gross_minor"),
            tax=Sum("tax_minor"),
            n_needs_person=Count("needs_person_since"),
        )
    ):
        states[row["run_id"]][row["state"]] = row
    left_out = {
        row["run_id"]: row
        for row in LeftOut.objects.filter(run__in=ids).values("run_id").annotate(n=Count("pk"), sum=Sum("amount"))
    }
    return {
        run_id: RunSummary(
            n_payouts=sum(row["n"] for row in of_run.values()),
            gross_minor=sum(row["gross"] for row in of_run.values()),
            tax_minor=sum(row["tax"] for row in of_run.values()),
            total_minor=sum(row["amount"] for row in of_run.values()),
            by_state={state: row["n"] for state, row in of_run.items()},
            minor_by_state={state: row["amount"] for state, row in of_run.items()},
            n_left_out=left_out[run_id]["n"] if run_id in left_out else 0,
            left_out_amount=left_out[run_id]["sum"] if run_id in left_out else 0,
            n_needs_person=sum(row["n_needs_person"] for row in of_run.values()),
        )
        for run_id, of_run in states.items()
    }


@dataclass(frozen=True)
class Change:
    payout: Payout
    previous_minor: int
    percent: int


@dataclass(frozen=True)
class LookAlike:
    """A payee with a name that may be taken for another one, and the reason."""

    payout: Payout
    reason: str


@dataclass(frozen=True)
class Review:
    """Points for an approver to look at: the run against the last paid run of its currency and rail."""

    previous: PayoutRun | None
    previous_total_minor: int
    new_payees: list[Payout] = field(default_factory=list)
    bank_changed: list[Payout] = field(default_factory=list)
    destination_changed: list[Payout] = field(default_factory=list)
    # Payouts to a bank account with a holder of another name than the payee's legal name.
    other_holder: list[Payout] = field(default_factory=list)
    look_alikes: list[LookAlike] = field(default_factory=list)
    large_changes: list[Change] = field(default_factory=list)
    top: list[Payout] = field(default_factory=list)


def review(run: PayoutRun, *, change_percent: int = 50, top: int = 20, bank_days: int = 30) -> Review:
    """Compare a run with the last reconciled one of its currency and rail, and each payout with its payee's last paid
    one.

    Changes of more than `change_percent` per cent are listed, and bank accounts changed in the `bank_days` days before
    the run was made. `top`: the number of largest payouts.
    """
    ended = (PayoutRun.State.RECONCILED, PayoutRun.State.CLOSED)
    previous = (
        PayoutRun.objects.filter(currency=run.currency, rail=run.rail, state__in=ended)
        .exclude(pk=run.pk)
        .order_by("-reconciled_at")
        .first()
    )
    payouts = list(run.payouts.select_related("contributor", "account").order_by("-amount_minor", "pk"))
    before: dict[int, Payout] = {}
    paid = Payout.objects.filter(
        contributor_id__in=[payout.contributor_id for payout in payouts], currency=run.currency, state__in=Payout.PAID
    ).exclude(run=run)
    for earlier in paid.order_by("pk"):
        before[earlier.contributor_id] = earlier
    large = [
        Change(payout, last.amount_minor, (payout.amount_minor - last.amount_minor) * 100 // last.amount_minor)
        for payout in payouts
        if (last := before.get(payout.contributor_id))
        and abs(payout.amount_minor - last.amount_minor) * 100 > change_percent * last.amount_minor
    ]
    since = run.created_at - timedelta(days=bank_days)
    _name_holders(payouts)
    return Review(
        other_holder=[
            payout
            for payout in payouts
            if (holder := getattr(payout, "bank_holder", ""))
            and _plain_name(holder) != _plain_name(payout.contributor.legal_name)[:70]
        ],
        look_alikes=_look_alikes(payouts, previous),
        previous=previous,
        previous_total_minor=previous.total_minor if previous else 0,
        new_payees=[payout for payout in payouts if payout.contributor_id not in before],
        bank_changed=[p for p in payouts if p.account.bank_changed_at and p.account.bank_changed_at >= since],
        destination_changed=[
            payout
            for payout in payouts
            if (last := before.get(payout.contributor_id)) and last.destination != payout.destination
        ],
        large_changes=sorted(large, key=lambda change: -abs(change.percent)),
        top=payouts[:top],
    )


def _look_alikes(payouts: Sequence[Payout], previous: PayoutRun | None) -> list[LookAlike]:
    """Find payees whose name mixes scripts, or appears like another one's in this run or in the last one."""
    names = {payout.contributor_id: payout.contributor.legal_name for payout in payouts}
    known = dict(names)
    if previous is not None:
        known |= dict(previous.payouts.values_list("contributor_id", "contributor__legal_name"))
    of_shape: dict[str, list[int]] = {}
    for contributor, name in sorted(known.items()):
        of_shape.setdefault(shape(name), []).append(contributor)
    found = []
    for payout in payouts:
        name = names[payout.contributor_id]
        reasons = [mixed_scripts(text) for text in dict.fromkeys((name, getattr(payout, "bank_holder", "")))]
        others = [known[other] for other in of_shape[shape(name)] if other != payout.contributor_id]
        if others:
            reasons.append(f"it appears like “{others[0]}”, another payee's name")
        if told := "; ".join(filter(None, reasons)):
            found.append(LookAlike(payout, told))
    return found


def _name_holders(payouts: Sequence[Payout]) -> None:
    """Give each payout by bank file its `bank_holder`: the name on the account that it goes to."""
    marks = {payout.destination for payout in payouts if payout.rail == Rail.MANUAL_BANK_FILE}
    holders = dict(
        BankDetails.objects.filter(fingerprint__in=marks).order_by("pk").values_list("fingerprint", "holder_name")
    )
    for payout in payouts:
        if payout.destination in holders:
            payout.bank_holder = holders[payout.destination]  # type: ignore[attr-defined]


def _plain_name(name: str) -> str:
    return " ".join(name.casefold().split())
