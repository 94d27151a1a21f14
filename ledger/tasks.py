"""What the beat asks of the ledger. Each task may run at any time, twice, or late."""

from __future__ import annotations

import structlog
from celery import shared_task
from django.utils import timezone

from attribution.operations.attributions import UnableToAttribute
from ledger.models import Restatement
from ledger.operations.accruals import accrue
from ledger.operations.contests import hold_contested
from ledger.operations.corrections import UnableToRestate, continue_restatement
from ledger.operations.credit_exports import export_closed_periods
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


@shared_task(name="ledger.tasks.open_next_period")
def open_next_period() -> int:
    """Keep the current and the next month open, and the journal's partitions ahead of what is posted; returns how many
    months were opened."""
    opened = open_periods(at=timezone.now())
    make_partitions()
    return len(opened)


@shared_task(name="ledger.tasks.export_closed_periods")
def export_closed() -> int:
    """Write the file of credits of every closed month that lacks it; returns how many were written."""
    return export_closed_periods(at=timezone.now())


@shared_task(name="ledger.tasks.release_due_reserves")
def release_due_reserves() -> int:
    """Make reserves payable whose day has come; returns how many instalments were released."""
    return release_reserves(at=timezone.now())


@shared_task(name="ledger.tasks.hold_contested_shares")
def hold_contested_shares() -> int:
    """Put on hold what contested shares of split sheets earned; returns the number of entries."""
    return hold_contested(at=timezone.now())


@shared_task(name="ledger.tasks.estimate_pools")
def estimate_open_pools() -> int:
    """Say anew what each contributor would get from the pools of open months; returns how many estimates stand."""
    return estimate_pools(at=timezone.now())


@shared_task(name="ledger.tasks.compute_previews")
def compute_previews() -> int:
    """Compute the previews of plans that were too large for a page; returns how many waited."""
    return compute_waiting_previews(at=timezone.now())


@shared_task(name="ledger.tasks.continue_restatements")
def continue_restatements() -> int:
    """Go on with what is being restated, for some batches; returns how many generations were looked at."""
    done = 0
    for restatement in Restatement.objects.filter(state=Restatement.State.RUNNING).order_by("id"):
        try:
            for _ in range(RESTATED_BATCHES_MAX):
                found = continue_restatement(restatement=restatement, at=timezone.now())
                done += found
                if not found:
                    break
        except (UnableToAttribute, UnableToRestate) as reason:
            # One whose index was retired meanwhile holds up none of the others.
            log.warning("restatement_stuck", restatement=restatement.pk, reason=str(reason))
    return done
