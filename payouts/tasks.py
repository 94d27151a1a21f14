"""Hints and sweeps. A message says that there may be work; the rows hold the work itself."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from payouts.attempts import crew
from payouts.models import PayoutRun, TopUp
from payouts.operations import notices
from payouts.reconciliation import comparison, inbox, sweeping

# Below the task's time limit; the sweep finds the rest.
EXECUTION_SECONDS_MAX = 600.0


@shared_task
def execute_run(run_id: int) -> None:
    """Pay the due payouts of a run; reconcile it when those were all."""
    progress = crew.execute_run(run_id=run_id, seconds_max=EXECUTION_SECONDS_MAX)
    if progress.live == 0:
        sweeping.sweep_stuck(at=timezone.now(), threads=1)


@shared_task
def sweep_payouts() -> None:
    """Claim again the payouts that a dead worker left, and finish work that waited for its time."""
    sweeping.sweep_stuck(at=timezone.now())


@shared_task
def apply_webhook(event_id: int) -> None:
    inbox.apply_webhook(event_id=event_id, at=timezone.now())


@shared_task
def sweep_webhooks() -> None:
    sweeping.sweep_webhooks(at=timezone.now())


@shared_task
def reconcile_last_day() -> None:
    """Yesterday (UTC) in every currency in which anything was paid or topped up, and the days that an outage left."""
    now = timezone.now()
    currencies = set(PayoutRun.objects.values_list("currency", flat=True))
    currencies |= set(TopUp.objects.values_list("currency", flat=True))
    for currency in sorted(currencies):
        for day in comparison.days_to_compare(currency=currency, at=now):
            comparison.reconcile_day(currency=currency, day=day, at=now)


@shared_task
def send_notices() -> None:
    """Write the notices that follow from the rows, and mail those that were not mailed yet."""
    notices.notice_what_is_due(at=timezone.now())
    notices.send_due_notices(at=timezone.now())


@shared_task
def refresh_accounts() -> None:
    """Read accounts again that were not read for a day, and let automatic holds follow forms, dates and policies."""
    sweeping.sweep_accounts(at=timezone.now())
