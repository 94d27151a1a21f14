"""A run by bank transfer, compared with the bank's report and with the ledger.

The bank has no list to ask. A second person records its lines, which must account for every order of every file, to the
minor unit. The ledger's entries and its balance in transit must say the same.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Sum

from ledger.models import Line
from ledger.money import from_minor
from payouts.models import BankFile, BankLine, Difference, Payout, PayoutAttempt, PayoutRun, Rail, Reconciliation
from payouts.queries import balances
from payouts.reconciliation.comparison import Findings, UnableToReconcile, store_findings
from people import actor


def reconcile_bank_run(*, run: PayoutRun, at: datetime) -> Reconciliation:
    """Match every order of a run with the bank's line and the journal's entry. With nothing open it is reconciled.

    Raises UnableToReconcile until the bank has reported on every transfer of the run.
    """
    waiting = [*Payout.LIVE, Payout.State.REFUSED]
    if run.started_at is None or run.payouts.filter(state__in=waiting).exists():
        raise UnableToReconcile("The bank has not reported on every transfer of the run.")
    findings = Findings(run.currency, run)
    ordered = PayoutAttempt.objects.filter(payout__run=run, bank_file__state=BankFile.State.SENT)
    done = ordered.filter(state=PayoutAttempt.State.SUCCEEDED)
    lines = BankLine.objects.filter(attempt__payout__run=run)
    executed = lines.filter(kind=BankLine.Kind.EXECUTED)
    findings.n_attempts, findings.n_transfers = done.count(), executed.count()
    findings.n_balance_transactions = lines.count()
    findings.ours_minor = done.aggregate(sum=Sum("amount_minor"))["sum"] or 0
    findings.stripe_minor = executed.aggregate(sum=Sum("amount_minor"))["sum"] or 0
    for attempt in ordered.exclude(bank_lines__kind__in=[BankLine.Kind.EXECUTED, BankLine.Kind.REJECTED]):
        findings.add(
            Difference.Type.MISSING_REMOTE,
            attempt.idempotency_key,
            "The bank has not reported on an order.",
            expected=attempt.amount_minor,
            payout=attempt.payout,
        )
    keys = [f"payout_succeed:{key}" for key in done.values_list("idempotency_key", flat=True)]
    booked = (
        Line.objects.filter(entry__idem_key__in=keys, account__kind="bank").aggregate(sum=Sum("amount"))["sum"] or 0
    )
    transferred = from_minor(findings.stripe_minor, run.currency)
    if booked != transferred:
        findings.add(
            Difference.Type.LEDGER_BALANCE,
            f"bank of run {run.public_id}",
            "The ledger did not book the bank's payment.",
            expected=transferred,
            found=booked,
        )
    transit = balances.ledger_in_transit(run.currency, Rail.MANUAL_BANK_FILE)
    live = balances.live_in_transit(run.currency, Rail.MANUAL_BANK_FILE)
    if transit != live:
        findings.add(
            Difference.Type.IN_TRANSIT,
            "payouts_in_transit, manual rail",
            "The ledger's transit account differs from the reserves of our open orders.",
            expected=live,
            found=transit,
        )
    since = run.started_at
    with transaction.atomic():
        run = PayoutRun.objects.select_for_update(no_key=True).get(pk=run.pk)
        n_open = store_findings(findings, run, at)
        record = Reconciliation.objects.create(
            kind=Reconciliation.Kind.RUN, run=run, currency=run.currency, since=since, until=at,
            n_attempts=findings.n_attempts, n_transfers=findings.n_transfers,
            n_balance_transactions=findings.n_balance_transactions, ours_minor=findings.ours_minor,
            stripe_minor=findings.stripe_minor, ledger_balance=booked, stripe_balance=transferred,
            in_transit_ledger=transit, in_transit_live=live, n_differences=n_open, finished_at=at,
        )  # fmt: skip
        if run.state == PayoutRun.State.EXECUTING and n_open == 0:
            run.state, run.reconciled_at, run.finished_at = PayoutRun.State.RECONCILED, at, run.finished_at or at
            run.save(update_fields=["state", "reconciled_at", "finished_at"])
            actor.audit(by=None, action="reconcile_run", subject=f"run:{run.public_id}", at=at)
    return record
