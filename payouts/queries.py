"""What the pages and the operations ask of payouts. Reads only; nothing here calls Stripe."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, Q, QuerySet, Sum

from contributors.models import Contributor
from ledger import journal
from ledger.journal import AccountKey
from ledger.money import from_minor
from payouts.holds import RULES, HoldRule
from payouts.models import (
    AuditEvent,
    Difference,
    Hold,
    HoldReason,
    LeftOut,
    Notice,
    Payout,
    PayoutAccount,
    PayoutAttempt,
    PayoutRun,
    Reconciliation,
    TaxProfile,
    WebhookEvent,
)

# The ledger's name of the rail that the transit account belongs to.
LEDGER_RAILS = {"stripe_transfer": "stripe", "manual_bank_file": "manual"}


@dataclass(frozen=True)
class Owed:
    """What the ledger says of one contributor, in units of the currency's scale."""

    contributor_id: int
    balance: int
    matured: int
    receivable: int

    @property
    def available(self) -> int:
        """What a run may pay: what matured, less what the contributor owes back."""
        return self.matured - self.receivable


_OWED = """
SELECT split_part(a.owner, ':', 2)::bigint, p.posted, coalesce(-r.posted, 0)
  FROM ledger_account a
  JOIN ledger_asset s ON s.id = a.asset_id
  JOIN ledger_balance p ON p.account_id = a.id
  LEFT JOIN ledger_account ra ON ra.kind = 'contributor_receivable' AND ra.asset_id = a.asset_id AND ra.owner = a.owner
  LEFT JOIN ledger_balance r ON r.account_id = ra.id
 WHERE a.kind = 'contributor_payable' AND s.code = %s AND (p.posted > 0 OR coalesce(r.posted, 0) < 0)
 ORDER BY 1
"""


def owed_to_contributors(currency: str, matured_before: datetime) -> list[Owed]:
    """Everybody whom the programme owes something in `currency`, or who owes it something, by contributor."""
    with connection.cursor() as cursor:
        cursor.execute(_OWED, [currency])
        rows = cursor.fetchall()
    # What matured is read after what is owed back: a posting between the two can lower what a run pays, never raise it.
    keys = {row[0]: AccountKey("contributor_payable", currency, f"contributor:{row[0]}") for row in rows}
    matured = journal.matured_balances(list(keys.values()), matured_before)
    return [
        Owed(contributor_id, balance, matured[keys[contributor_id]], receivable)
        for contributor_id, balance, receivable in rows
    ]


def ledger_stripe_balance(currency: str) -> int:
    """What the ledger says is at Stripe, in units; positive when money is there."""
    return journal.owed(AccountKey("stripe_balance", currency))


def ledger_in_transit(currency: str, rail: str = "stripe_transfer") -> int:
    return journal.owed(AccountKey("payouts_in_transit", currency, f"rail:{LEDGER_RAILS[rail]}"))


def live_in_transit(currency: str, rail: str = "stripe_transfer") -> int:
    """What our own rows say is reserved and neither gone nor given back, in units."""
    open_attempts = PayoutAttempt.objects.filter(
        kind=PayoutAttempt.Kind.PAY, payout__currency=currency, provider=rail,
        state__in=[PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN],
    )  # fmt: skip
    return from_minor(open_attempts.aggregate(total=Sum("amount_minor"))["total"] or 0, currency)


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
        PayoutRun.State.APPROVED, PayoutRun.State.EXECUTING, PayoutRun.State.PAUSED, PayoutRun.State.RECONCILED,
        PayoutRun.State.CLOSED,
    )  # fmt: skip
    return (
        Payout.objects.filter(contributor=contributor, run__state__in=shown)
        .select_related("run", "account", "bank_payout")
        .order_by("-created_at", "-pk")
    )


def payout_or_none(public_id: UUID, contributor: Contributor | None = None) -> Payout | None:
    payouts = Payout.objects.select_related("run", "contributor", "account", "bank_payout")
    if contributor is not None:
        payouts = payouts_of(contributor)
    return payouts.filter(public_id=public_id).first()


def left_out_of(contributor: Contributor) -> QuerySet[LeftOut]:
    """Why runs that went through did not pay the contributor, newest first."""
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


# --- unclaimed ----------------------------------------------------------------------------------------------------
DORMANT_MONTHS = 36


@dataclass(frozen=True)
class Dormant:
    """Somebody who is owed money and has not been heard of. `amount` in units of the currency's scale."""

    contributor: Contributor
    currency: str
    amount: int
    last_contact: datetime


_DORMANT = """
SELECT c.id, s.code, b.posted, greatest(c.created_at, max(u.last_login), max(u.date_joined), max(p.settled_at)) AS heard
  FROM ledger_account a
  JOIN ledger_asset s ON s.id = a.asset_id
  JOIN ledger_balance b ON b.account_id = a.id
  JOIN contributors_contributor c ON c.id = split_part(a.owner, ':', 2)::bigint
  LEFT JOIN contributors_membership m ON m.contributor_id = c.id
  LEFT JOIN contributors_user u ON u.id = m.user_id
  LEFT JOIN payouts_payout p ON p.contributor_id = c.id AND p.state = 'settled'
 WHERE a.kind = 'contributor_payable' AND b.posted > 0
 GROUP BY c.id, s.code, b.posted
HAVING greatest(c.created_at, max(u.last_login), max(u.date_joined), max(p.settled_at)) < %s
 ORDER BY heard, c.id
"""


def dormant(*, at: datetime, months: int = DORMANT_MONTHS) -> list[Dormant]:
    """Who is owed something and was last heard of more than `months` months ago, the longest silence first.

    Heard of: a log-in of somebody who acts for the contributor, or a payout that arrived. Royalties that go on being
    credited are no sign of life.
    """
    before = at - timedelta(days=months * 365.25 / 12)
    with connection.cursor() as cursor:
        cursor.execute(_DORMANT, [before])
        found = cursor.fetchall()
    people = Contributor.objects.in_bulk([row[0] for row in found])
    return [Dormant(people[key], currency, int(amount), heard) for key, currency, amount, heard in found]


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
            n=Count("pk"), amount=Sum("amount_minor"), gross=Sum("gross_minor"), tax=Sum("tax_minor"),
            n_needs_person=Count("needs_person_since"),
        )
    ):  # fmt: skip
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
class Review:
    """What an approver should look at: the run against the last one of its currency and rail that was paid."""

    previous: PayoutRun | None
    previous_total_minor: int
    new_payees: list[Payout] = field(default_factory=list)
    bank_changed: list[Payout] = field(default_factory=list)
    destination_changed: list[Payout] = field(default_factory=list)
    large_changes: list[Change] = field(default_factory=list)
    top: list[Payout] = field(default_factory=list)


def review(run: PayoutRun, *, change_percent: int = 50, top: int = 20, bank_days: int = 30) -> Review:
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
    return Review(
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


def attempts_of(payout: Payout) -> QuerySet[PayoutAttempt]:
    return payout.attempts.order_by("number")


def needs_person() -> QuerySet[Payout]:
    """Payouts whose fate the machine may not decide."""
    return (
        Payout.objects.filter(needs_person_since__isnull=False)
        .select_related("run", "contributor")
        .order_by("needs_person_since")
    )


def open_differences(run: PayoutRun | None = None) -> QuerySet[Difference]:
    found = Difference.objects.filter(state=Difference.State.OPEN).select_related("run", "payout")
    return (found.filter(run=run) if run is not None else found).order_by("found_at", "pk")


def latest_reconciliation(currency: str | None = None) -> Reconciliation | None:
    found = Reconciliation.objects.order_by("-finished_at", "-pk")
    return (found.filter(currency=currency) if currency else found).first()


def dead_webhooks() -> QuerySet[WebhookEvent]:
    return WebhookEvent.objects.filter(state=WebhookEvent.State.DEAD).order_by("-received_at")


def tax_form_of(contributor: Contributor) -> TaxProfile | None:
    """The form that counts: the latest one recorded."""
    return TaxProfile.objects.filter(contributor=contributor).select_related("recorded_by").order_by("-pk").first()


def audit_events(subject: str | None = None) -> QuerySet[AuditEvent]:
    events = AuditEvent.objects.select_related("actor").order_by("-sequence")
    return events.filter(subject=subject) if subject else events


_BROKEN_AUDIT = """
SELECT e.sequence FROM payouts_auditevent e
  LEFT JOIN payouts_auditevent p ON p.sequence = e.sequence - 1
 WHERE e.prev_hash <> coalesce(p.hash, decode(repeat('00', 32), 'hex'))
    OR (e.sequence > 1 AND p.id IS NULL)
    OR e.hash <> sha256(e.prev_hash || payouts_audit_text(e))
 ORDER BY e.sequence LIMIT 1
"""


def first_broken_audit_event() -> int | None:
    """The sequence of the first line of the audit log whose hash does not follow; None when the chain is whole."""
    with connection.cursor() as cursor:
        cursor.execute(_BROKEN_AUDIT)
        row: Any = cursor.fetchone()
    return int(row[0]) if row else None
