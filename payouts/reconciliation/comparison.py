"""Our rows, the ledger and Stripe, compared: attempt, transfer and balance transaction; balance with balance.

A mismatch is a difference: typed, in a queue, open until it is no longer found or a second person explains it. A run is
reconciled when none of its differences is open.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from http import HTTPStatus
from typing import Any

from django.db import transaction

from ledger.money import from_minor
from ledger.operations import programme
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import Difference, Payout, PayoutAttempt, PayoutRun, Rail, Reconciliation, Reversal, TopUp
from payouts.queries.balances import ledger_in_transit, ledger_stripe_balance, live_in_transit
from payouts.rails.stripe import calls, errors, values
from people import actor

# Further back a person asks for a day by itself.
DAYS_BACK_MAX = 31


class UnableToReconcile(Exception):
    """The run still has payouts that are not at their end."""

    status = 409
    problem = "run-not-reconciled"


@dataclass
class Findings:
    """Findings of a comparison, by (type, subject), and the figures for the record."""

    currency: str
    run: PayoutRun | None = None
    items: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    # The subjects that a day's comparison looked at. None: everything of the run.
    looked_at: set[str] | None = None
    n_attempts: int = 0
    n_transfers: int = 0
    n_balance_transactions: int = 0
    ours_minor: int = 0
    stripe_minor: int = 0

    def add(
        self,
        type_: Difference.Type,
        subject: str,
        words: str,
        *,
        expected: Any = "",
        found: Any = "",
        payout: Payout | None = None,
    ) -> None:
        self.items.setdefault(
            (type_, subject[:120]),
            {"expected": str(expected)[:200], "found": str(found)[:200], "words": words, "payout": payout},
        )


def reconcile_run(*, run: PayoutRun, at: datetime) -> Reconciliation:
    """Match every attempt of a run with its transfer and its balance transaction. With nothing open the run is
    reconciled. Otherwise the differences wait in their queue, and the next comparison may resolve them.

    Raises UnableToReconcile until every payout of the run is at its end.
    """
    waiting = [*Payout.LIVE, Payout.State.REFUSED]
    if run.started_at is None or run.payouts.filter(state__in=waiting).exists():
        raise UnableToReconcile("Some payouts of the run are not at their end.")
    findings = Findings(run.currency, run)
    since = run.started_at - timedelta(days=1)
    transfers = [t for t in calls.list_transfers(since=since) if t.metadata.get("run") == run.public_id.hex]
    moved = {row.source: row for row in calls.list_balance_transactions(since=since) if row.type == "transfer"}
    attempts = list(
        PayoutAttempt.objects.filter(
            payout__run=run, kind=PayoutAttempt.Kind.PAY, state=PayoutAttempt.State.SUCCEEDED
        ).select_related("payout")
    )
    _match(findings, attempts, transfers, moved)
    return _conclude(findings, Reconciliation.Kind.RUN, since=run.started_at, until=at, at=at)


def _match(
    findings: Findings,
    attempts: list[PayoutAttempt],
    transfers: list[values.Transfer],
    moved: dict[str, values.BalanceTransaction],
) -> None:
    """Attempt <-> transfer <-> balance transaction, by id."""
    kind = Difference.Type
    by_id = {transfer.id: transfer for transfer in transfers}
    findings.n_attempts, findings.n_transfers = len(attempts), len(transfers)
    findings.ours_minor += sum(attempt.amount_minor for attempt in attempts)
    findings.stripe_minor += sum(transfer.amount_minor for transfer in transfers)
    known = set()
    for attempt in attempts:
        payout, name = attempt.payout, attempt.provider_transfer_id or ""
        known.add(name)
        transfer = by_id.get(name)
        if transfer is None:
            findings.add(
                kind.MISSING_REMOTE,
                name,
                "We recorded a transfer that Stripe does not list.",
                expected=attempt.amount_minor,
                payout=payout,
            )
            continue
        _match_terms(findings, attempt, transfer)
        if payout.reversed_minor != transfer.reversed_minor:
            findings.add(
                kind.UNEXPECTED_REVERSAL,
                name,
                "The reversed sum differs from our booking.",
                expected=payout.reversed_minor,
                found=transfer.reversed_minor,
                payout=payout,
            )
        row = moved.get(name)
        if row is None or -row.amount_minor != attempt.amount_minor or row.currency != payout.currency:
            findings.add(
                kind.AMOUNT if row else kind.MISSING_REMOTE,
                f"balance transaction of {name}",
                "Stripe's balance did not change by the transferred sum.",
                expected=-attempt.amount_minor,
                found=row.amount_minor if row else "",
                payout=payout,
            )
        else:
            findings.n_balance_transactions += 1
            if row.fee_minor:
                findings.add(kind.FEE, row.id, "Stripe took a fee for a transfer.", found=row.fee_minor, payout=payout)
    for transfer in transfers:
        if transfer.id not in known:
            findings.add(
                kind.MISSING_LOCAL,
                transfer.id,
                "Stripe made a transfer that we have not recorded.",
                found=transfer.amount_minor,
            )
    _find_doubles(findings, transfers)


def _match_terms(findings: Findings, attempt: PayoutAttempt, transfer: values.Transfer) -> None:
    """Compare the amount, the currency and the destination of a transfer."""
    kind = Difference.Type
    for type_, ours, theirs in (
        (kind.AMOUNT, attempt.amount_minor, transfer.amount_minor),
        (kind.CURRENCY, attempt.payout.currency, transfer.currency),
        (kind.DESTINATION, attempt.payout.destination, transfer.destination),
    ):
        if ours != theirs:
            findings.add(
                type_,
                transfer.id,
                f"Our {type_.label.lower()} is not Stripe's.",
                expected=ours,
                found=theirs,
                payout=attempt.payout,
            )


def _find_doubles(findings: Findings, transfers: list[values.Transfer]) -> None:
    counted = Counter(transfer.transfer_group for transfer in transfers if transfer.transfer_group)
    for group, count in counted.items():
        if count > 1:
            findings.add(
                Difference.Type.DUPLICATE_GROUP, group, "A payout has more than one transfer.", expected=1, found=count
            )


def reconcile_day(*, currency: str, day: date, at: datetime) -> Reconciliation:
    """Compare a UTC day of Stripe's transfers and balance transactions in one currency with our records of it. The
    comparison includes a day's overlap before it, and books the fees that Stripe took from the balance."""
    start = datetime.combine(day, time.min, UTC)
    since, until = start - timedelta(days=1), start + timedelta(days=1)
    findings = Findings(currency)
    rows = [row for row in calls.list_balance_transactions(since=since, until=until) if row.currency == currency]
    listed = {transfer.id: transfer for transfer in calls.list_transfers(since=since, until=until)}
    findings.n_balance_transactions = len(rows)
    sources = {row.source for row in rows}
    transfers = {
        attempt.provider_transfer_id: attempt
        for attempt in PayoutAttempt.objects.filter(
            kind=PayoutAttempt.Kind.PAY,
            state=PayoutAttempt.State.SUCCEEDED,
            payout__currency=currency,
            provider_transfer_id__in=sources | set(listed),
        ).select_related("payout")
    }
    reversals = {
        reversal.provider_reversal_id: reversal.amount_minor
        for reversal in Reversal.objects.filter(provider_reversal_id__in=sources)
    }
    booked = TopUp.objects.filter(provider_topup_id__in=sources, entry__isnull=False)
    topups = {topup.provider_topup_id: topup for topup in booked}
    for row in rows:
        _match_movement(findings, row, transfers, reversals, topups, at)
    for name, attempt in transfers.items():
        if name in listed:
            _match_terms(findings, attempt, listed[name])
    _find_doubles(findings, [transfer for transfer in listed.values() if transfer.currency == currency])
    ours = PayoutAttempt.objects.filter(
        kind=PayoutAttempt.Kind.PAY,
        state=PayoutAttempt.State.SUCCEEDED,
        payout__currency=currency,
        provider=Rail.STRIPE_TRANSFER,
        finished_at__gte=start,
        finished_at__lt=until - timedelta(minutes=10),
    ).select_related("payout")
    for attempt in ours:
        _find_at_stripe(findings, attempt, listed, sources, since)
    names = {*sources, *listed, *(attempt.provider_transfer_id or "" for attempt in ours)}
    findings.looked_at = {
        *names,
        *(f"{what} of {name}" for what in ("balance transaction", "reversal") for name in names),
        *(row.id for row in rows),
        *(transfer.transfer_group for transfer in listed.values()),
    }
    findings.n_attempts, findings.n_transfers = len(ours), len(transfers)
    return _conclude(findings, Reconciliation.Kind.DAY, since=start, until=until, at=at)


def days_to_compare(*, currency: str, at: datetime) -> list[date]:
    """Yesterday (UTC), and before it every day since the last one that was compared, DAYS_BACK_MAX at most: nobody
    compared during an outage."""
    yesterday = at.astimezone(UTC).date() - timedelta(days=1)
    compared = Reconciliation.objects.filter(kind=Reconciliation.Kind.DAY, currency=currency, since__lt=at)
    last = compared.order_by("-since").values_list("since", flat=True).first()
    if last is None:
        return [yesterday]
    missed = (yesterday - last.astimezone(UTC).date()).days
    back = min(max(missed, 1), DAYS_BACK_MAX)
    return [yesterday - timedelta(days=before) for before in reversed(range(back))]


def _find_at_stripe(
    findings: Findings, attempt: PayoutAttempt, listed: dict[str, values.Transfer], sources: set[str], since: datetime
) -> None:
    """Check that Stripe has the transfer that we recorded, and that its balance moved by it."""
    name = attempt.provider_transfer_id or ""
    if name not in listed:
        # The answer may have been learnt long after the transfer was made, so that no day of these lists it.
        try:
            if calls.retrieve_transfer(name).created < since:
                return
        except errors.UnableToUseStripe as error:
            if error.http_status != HTTPStatus.NOT_FOUND:
                raise
            findings.add(
                Difference.Type.MISSING_REMOTE,
                name,
                "We recorded a transfer that Stripe does not know.",
                expected=attempt.amount_minor,
                payout=attempt.payout,
            )
            return
    if name not in sources:
        findings.add(
            Difference.Type.MISSING_REMOTE,
            f"balance transaction of {name}",
            "We recorded a transfer that did not change Stripe's balance.",
            expected=attempt.amount_minor,
            payout=attempt.payout,
        )


def _match_movement(
    findings: Findings,
    row: values.BalanceTransaction,
    transfers: dict[str | None, PayoutAttempt],
    reversals: dict[str, int],
    topups: dict[str | None, TopUp],
    at: datetime,
) -> None:
    kind = Difference.Type
    if row.type == "transfer":
        findings.stripe_minor -= row.amount_minor
        attempt = transfers.get(row.source)
        if attempt is None:
            findings.add(
                kind.MISSING_LOCAL,
                row.source,
                "Stripe made a transfer that we have not recorded.",
                found=-row.amount_minor,
            )
            return
        findings.ours_minor += attempt.amount_minor
        if attempt.amount_minor != -row.amount_minor:
            findings.add(
                kind.AMOUNT,
                f"balance transaction of {row.source}",
                "Stripe's balance did not change by the transferred sum.",
                expected=-attempt.amount_minor,
                found=row.amount_minor,
                payout=attempt.payout,
            )
    elif row.type in ("transfer_refund", "transfer_cancel", "transfer_failure"):
        if reversals.get(row.source) != row.amount_minor:
            findings.add(
                kind.UNEXPECTED_REVERSAL,
                row.source,
                "Money of a transfer came back, and we did not book it.",
                expected=reversals.get(row.source, 0),
                found=row.amount_minor,
            )
    elif row.type == "topup":
        topup = topups.get(row.source)
        arrived = topup.amount_minor if topup else 0
        if arrived != row.amount_minor:
            findings.add(
                kind.MISSING_LOCAL,
                row.source,
                "Stripe's balance was topped up, and we did not book it.",
                expected=arrived,
                found=row.amount_minor,
            )
    elif row.type == "topup_reversal":
        topup = topups.get(row.source)
        gone = -topup.amount_minor if topup and topup.reversal_entry else 0
        if gone != row.amount_minor:
            findings.add(
                kind.MISSING_LOCAL,
                f"reversal of {row.source}",
                "The bank took a top-up back, and we did not book it.",
                expected=gone,
                found=row.amount_minor,
            )
    elif row.type in ("stripe_fee", "stripe_fx_fee", "network_cost", "tax_fee") and row.amount_minor < 0:
        programme.record_stripe_fee(
            amount=from_minor(-row.amount_minor, row.currency), currency=row.currency, reference=row.id, at=at
        )
    elif row.amount_minor:
        findings.add(kind.UNKNOWN_TYPE, row.id, f"Stripe's balance changed by a {row.type}.", found=row.amount_minor)
    if row.fee_minor:
        findings.add(kind.FEE, row.id, "Stripe took a fee that is not booked.", found=row.fee_minor)


def _compare_balances(findings: Findings) -> tuple[int, int, int, int]:
    """(ledger at Stripe, Stripe, in transit by the ledger, in transit by our rows), read again while they move."""
    currency = findings.currency
    for _ in range(3):
        before = ledger_stripe_balance(currency)
        stripe = from_minor(calls.balance().total(currency), currency)
        transit, live = ledger_in_transit(currency), live_in_transit(currency)
        if before == ledger_stripe_balance(currency):
            break
    if transit != live:
        findings.add(
            Difference.Type.IN_TRANSIT,
            "payouts_in_transit",
            "The ledger's transit account differs from the reserves of our open attempts.",
            expected=live,
            found=transit,
        )
    # Money under way may have left Stripe already, and the ledger not yet.
    if not before - live <= stripe <= before:
        findings.add(
            Difference.Type.LEDGER_BALANCE,
            "stripe_balance",
            "The ledger's balance at Stripe is not Stripe's.",
            expected=before,
            found=stripe,
        )
    return before, stripe, transit, live


def _conclude(
    findings: Findings, kind: Reconciliation.Kind, *, since: datetime, until: datetime, at: datetime
) -> Reconciliation:
    balances = _compare_balances(findings)
    with transaction.atomic():
        run = findings.run
        if run is not None:
            run = PayoutRun.objects.select_for_update(no_key=True).get(pk=run.pk)
        n_open = store_findings(findings, run, at)
        record = Reconciliation.objects.create(
            kind=kind, run=run, currency=findings.currency, since=since, until=until, n_attempts=findings.n_attempts,
            n_transfers=findings.n_transfers, n_balance_transactions=findings.n_balance_transactions,
            ours_minor=findings.ours_minor, stripe_minor=findings.stripe_minor, ledger_balance=balances[0],
            stripe_balance=balances[1], in_transit_ledger=balances[2], in_transit_live=balances[3],
            n_differences=n_open, finished_at=at,
        )  # fmt: skip
        if run is not None and run.state == PayoutRun.State.EXECUTING and n_open == 0:
            run.state, run.reconciled_at, run.finished_at = PayoutRun.State.RECONCILED, at, run.finished_at or at
            run.save(update_fields=["state", "reconciled_at", "finished_at"])
            actor.audit(by=None, action="reconcile_run", subject=f"run:{run.public_id}", at=at)
        crashpoint(CrashPoint.RECONCILIATION_WRITTEN)
    return record


# Compared anew each time, for any days.
OF_THE_WHOLE = (Difference.Type.LEDGER_BALANCE, Difference.Type.IN_TRANSIT)


def store_findings(findings: Findings, run: PayoutRun | None, at: datetime) -> int:
    """Open new differences, resolve the compared ones that are no longer found, and count the open ones. A difference
    that was signed off with the same figures stays explained."""
    scope = Difference.objects.select_for_update(no_key=True).filter(currency=findings.currency, run=run)
    explained = {
        (row.type, row.subject, row.found)
        for row in Difference.objects.filter(currency=findings.currency, state=Difference.State.SIGNED_OFF)
    }
    still_open = {(row.type, row.subject): row for row in scope.filter(state=Difference.State.OPEN)}
    for (type_, subject), item in findings.items.items():
        if (type_, subject, item["found"]) in explained or (type_, subject) in still_open:
            continue
        if Difference.objects.filter(
            type=type_, currency=findings.currency, subject=subject, state=Difference.State.OPEN
        ).exists():
            continue
        Difference.objects.create(
            type=type_,
            run=run,
            payout=item["payout"],
            currency=findings.currency,
            subject=subject,
            expected=item["expected"],
            found=item["found"],
            words=item["words"],
            found_at=at,
        )
    for (type_, subject), row in still_open.items():
        # Differences that execution itself listed are for a person; no later comparison resolves them.
        by_comparison = type_ not in (Difference.Type.DUPLICATE_GROUP, Difference.Type.UNEXPECTED_REVERSAL)
        is_looked_at = findings.looked_at is None or subject in findings.looked_at or type_ in OF_THE_WHOLE
        if (type_, subject) not in findings.items and by_comparison and is_looked_at:
            row.state, row.ended_at = Difference.State.RESOLVED, at
            row.save(update_fields=["state", "ended_at"])
    return scope.filter(state=Difference.State.OPEN).count()
