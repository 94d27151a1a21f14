"""Sweeps that make lost messages harmless: at intervals they look for due work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from django.db.models import F, Q

from payouts.attempts import crew
from payouts.attempts.pace import LIVE, Clock, Pace, database_clock
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import Hold, Payout, PayoutAccount, PayoutRun, Rail, TopUp, WebhookEvent
from payouts.operations import approval, funding, reversals
from payouts.operations.accounts import refresh_holds, sync_account
from payouts.rails.stripe import errors
from payouts.reconciliation.banks import reconcile_bank_run
from payouts.reconciliation.comparison import reconcile_run
from payouts.reconciliation.inbox import apply_webhook, put_off

log = structlog.get_logger(__name__)

# A run with differences waits for a person; comparing it again every few seconds would only use up requests.
COMPARED_AGAIN_AFTER = timedelta(minutes=10)
TOP_UPS_MAX = 20


def sweep_webhooks(*, at: datetime, limit: int = 200) -> int:
    """Apply the stored events that were not yet applied. Returns the number of events looked at."""
    waiting = WebhookEvent.objects.filter(
        Q(next_try_at__isnull=True) | Q(next_try_at__lte=at), state__in=WebhookEvent.WAITING
    ).order_by("pk")
    ids = list(waiting.values_list("pk", flat=True)[:limit])
    for event_id in ids:
        try:
            apply_webhook(event_id=event_id, at=at)
        except Exception as error:
            # A fault in one event keeps none of the later ones waiting.
            log.exception("webhook_not_applied", stored=event_id)
            put_off(event_id=event_id, error=f"{type(error).__name__}: {error}", at=at)
    return len(ids)


def sweep_stuck(
    *,
    at: datetime,
    threads: int = 4,
    clock: Clock = database_clock,
    pace: Pace = LIVE,
) -> crew.Progress:
    """Claim the payouts that expired leases left, finish reversals and top-ups, end old approvals, reconcile runs that
    ended."""
    crashpoint(CrashPoint.SWEEP_BEGUN)
    steps, progress = _Steps(), crew.Progress(0, 0)
    with steps.one("expire_approvals"):
        approval.expire_approvals(at=at)
    with steps.one("execute"):
        if Payout.objects.filter(
            state__in=Payout.LIVE, rail=Rail.STRIPE_TRANSFER, run__state__in=["executing", "paused"]
        ).exists():
            progress = crew.execute_run(run_id=None, threads=threads, seconds_max=60.0, clock=clock, pace=pace)
    with steps.one("recover_reversals"):
        reversals.recover_reversals(clock=clock, pace=pace)
    asked_for = TopUp.objects.filter(
        Q(next_look_at__isnull=True) | Q(next_look_at__lte=at), state=TopUp.State.REQUESTED
    )
    for topup in asked_for.order_by(F("next_look_at").asc(nulls_first=True), "pk")[:TOP_UPS_MAX]:
        with steps.one("finish_top_up"):
            _finish_top_up(topup, at)
    for run in PayoutRun.objects.filter(state=PayoutRun.State.EXECUTING).order_by("pk"):
        with steps.one("reconcile"):
            _reconcile_if_due(run, at)
    steps.end()
    return progress


class _Steps:
    """Steps that run apart: an error in one keeps none of the others from its work, and is raised when all had their
    turn."""

    def __init__(self) -> None:
        self._errors: list[Exception] = []

    @contextlib.contextmanager
    def one(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            log.exception("sweep_step_failed", step=name)
            self._errors.append(error)

    def end(self) -> None:
        if self._errors:
            raise ExceptionGroup("Some steps of the sweep failed.", self._errors)


def _finish_top_up(topup: TopUp, at: datetime) -> None:
    try:
        funding.finish_top_up(topup=topup, at=at)
    except funding.UnableToFund as error:
        log.warning("top_up_not_finished", top_up=str(topup.public_id), error=str(error))


def _reconcile_if_due(run: PayoutRun, at: datetime) -> None:
    compared_lately = run.reconciliations.filter(finished_at__gt=at - COMPARED_AGAIN_AFTER).exists()
    if compared_lately or run.payouts.filter(state__in=[*Payout.LIVE, Payout.State.REFUSED]).exists():
        return
    try:
        if run.rail == Rail.MANUAL_BANK_FILE:
            reconcile_bank_run(run=run, at=at)
        else:
            reconcile_run(run=run, at=at)
    except errors.UnableToUseStripe as error:
        log.warning("run_not_reconciled", run=str(run.public_id), error=str(error))


READ_AGAIN_AFTER = timedelta(hours=24)
ACCOUNTS_MAX = 200


def sweep_accounts(*, at: datetime, limit: int = ACCOUNTS_MAX) -> int:
    """Read the accounts at Stripe again that were read longest ago: also for a balance below zero there, of which no
    event tells. The holds of those paid by bank transfer follow their dates. Returns how many were looked at."""
    due = PayoutAccount.objects.filter(Q(synced_at__isnull=True) | Q(synced_at__lte=at - READ_AGAIN_AFTER))
    at_stripe = due.filter(rail=Rail.STRIPE_TRANSFER, provider_account_id__isnull=False)
    accounts = list(at_stripe.order_by("synced_at", "pk")[:limit])
    for account in accounts:
        try:
            sync_account(account=account, at=at)
        except errors.UnableToUseStripe as error:
            log.warning("account_not_read", account=account.pk, error=str(error))
    by_bank = list(due.filter(rail=Rail.MANUAL_BANK_FILE).order_by("synced_at", "pk")[:limit])
    # Holds that only dates decide are looked at more often: a hold that is due to end should end.
    ending = Hold.objects.filter(released_at__isnull=True, ends_at__lte=at).values("contributor_id")
    for account in {*by_bank, *PayoutAccount.objects.filter(contributor_id__in=ending)[:limit]}:
        refresh_holds(account=account, at=at)
    return len(accounts) + len(by_bank)
