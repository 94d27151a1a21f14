"""The periodic tasks of the ledger. Each task may run at any time, twice, or late."""

from __future__ import annotations

import structlog
from celery import shared_task
from django.db import DatabaseError
from django.utils import timezone

from attribution.operations.attributions import UnableToAttribute
from ledger.models import Restatement
from ledger.operations.accruals import accrue
from ledger.operations.contests import hold_contested
from ledger.operations.corrections import UnableToRestate, continue_restatement
from ledger.operations.credit_exports import export_closed_periods
from ledger.operations.earned import UnableToSum, sum_all_earnings
from ledger.operations.limits import check_limits, mail_alerts
from ledger.operations.periods import make_partitions, open_periods
from ledger.operations.pools import estimate_pools
from ledger.operations.previews import compute_waiting_previews
from ledger.operations.reserves import release_reserves

log = structlog.get_logger(__name__)
SWEEPS_MAX = 200
RESTATED_BATCHES_MAX = 20


@shared_task(name="ledger.tasks.sweep_attributed")
def sweep_attributed() -> int:
    """Accrue until no attribution is left without an accrual or a refusal; returns how many were dealt with."""
    done = 0
    for _ in range(SWEEPS_MAX):
        found = accrue(at=timezone.now())
        done += found
        if not found:
            break
    return done


@shared_task(name="ledger.tasks.check_spend_limits")
def check_spend_limits() -> int:
    """Read the charges of every limit, for voids and new months too, and mail the alerts; returns the mailed ones."""
    check_limits(at=timezone.now())
    return mail_alerts(at=timezone.now())


@shared_task(name="ledger.tasks.sum_earnings")
def sum_earned() -> int:
    """Add the entries posted since to the sums of earnings; returns how many they were."""
    try:
        return sum_all_earnings()
    except UnableToSum as reason:
        log.error("earnings_not_summed", reason=str(reason))
        return 0


@shared_task(name="ledger.tasks.open_next_period")
def open_next_period() -> int:
    """Keep the current and the next month open, and the journal's partitions ahead of its postings; returns the number
    of opened months.
    """
    opened = open_periods(at=timezone.now())
    make_partitions()
    return len(opened)


@shared_task(name="ledger.tasks.export_closed_periods")
def export_closed() -> int:
    """Write the file of credits of every closed month that lacks it; returns how many were written."""
    return export_closed_periods(at=timezone.now())


@shared_task(name="ledger.tasks.release_due_reserves")
def release_due_reserves() -> int:
    """Make reserves payable on or after their day; returns the number of released instalments."""
    return release_reserves(at=timezone.now())


@shared_task(name="ledger.tasks.hold_contested_shares")
def hold_contested_shares() -> int:
    """Put on hold the earnings of disputed shares of split sheets; returns the number of entries."""
    return hold_contested(at=timezone.now())


@shared_task(name="ledger.tasks.estimate_pools")
def estimate_open_pools() -> int:
    """Estimate again each contributor's gain from the pools of open months; returns the number of standing
    estimates.
    """
    return estimate_pools(at=timezone.now())


@shared_task(name="ledger.tasks.compute_previews")
def compute_previews() -> int:
    """Compute the previews of plans that were too large for a page; returns how many waited."""
    return compute_waiting_previews(at=timezone.now())


@shared_task(name="ledger.tasks.continue_restatements")
def continue_restatements() -> int:
    """Continue the running restatements for some batches; returns the number of examined generations."""
    done = 0
    for restatement in Restatement.objects.filter(state=Restatement.State.APPROVED, finished_at__isnull=True).order_by(
        "id"
    ):
        try:
            for _ in range(RESTATED_BATCHES_MAX):
                found = continue_restatement(restatement=restatement, at=timezone.now())
                done += found
                if not found:
                    break
        except (UnableToAttribute, UnableToRestate) as reason:
            # A restatement with a retired index holds up none of the others.
            log.warning("restatement_stuck", restatement=restatement.pk, reason=str(reason))
        except DatabaseError:
            raise
        except Exception as error:
            # Nor does one of a model with failing code.
            log.error("restatement_failed", restatement=restatement.pk, error=repr(error))
    return done
