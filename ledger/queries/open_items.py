"""Open work about the books: disputes, months to close or to seal, and generations that are not accrued."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.urls import reverse

from contributors.models import SplitDispute
from ledger.models import (
    Period,
    ReceiptDispute,
    SweepMark,
    utc_date,
)
from people.inbox import COUNT_MAX, Kind, OpenItem
from people.presentation import dates

CHECKERS = ("finance_checker",)
# They also decide contributors' disputes, and the part that is withheld.
WITH_COMPLIANCE = ("finance_checker", "compliance")


# --- disputes -----------------------------------------------------------------------------------------------------
def _dispute(row: ReceiptDispute) -> OpenItem:
    return OpenItem(
        subject=f"dispute:{row.pk}",
        title=f"{row.contributor} disputes a receipt",
        words=row.words,
        url=reverse("ledger:answer_dispute", args=[row.pk]),
        since=row.raised_at,
        person=str(row.contributor),
        barred=frozenset({row.raised_by_id}),
        barred_because="You raised this dispute, so somebody else has to answer it.",
    )


def _contest(row: SplitDispute) -> OpenItem:
    return OpenItem(
        subject=f"contest:{row.pk}",
        title=f"{row.claimant} claims a share of {row.against} in {row.holder}",
        words=row.reason,
        url=reverse("ledger:contest", args=[row.pk]),
        since=row.raised_at,
        person=str(row.claimant),
        barred=frozenset({row.raised_by_id}),
        barred_because="You raised this claim, so somebody else has to decide it.",
    )


# --- months -------------------------------------------------------------------------------------------------------
def _month(row: Period) -> OpenItem:
    states = Period.State
    words = {
        states.OPEN: "The month is over and can be closed.",
        states.CLOSING: "The close has begun and is not finished; close it again to finish it.",
        states.CLOSED: "The month is closed and can be sealed, so that its statements can be proved.",
    }
    ended = datetime.combine(row.ends, datetime.min.time(), UTC)
    return OpenItem(
        subject=f"month:{row.pk}:{'seal' if row.state == states.CLOSED else 'close'}",
        title=dates.month(row.starts),
        words=words[states(row.state)],
        url=reverse("ledger:period", args=[row.code]),
        since=row.closed_at or ended,
    )


# --- accrual ------------------------------------------------------------------------------------------------------
# Generations under a period pool wait for the close of their month; so they are no backlog.
_NOT_ACCRUED = """
SELECT a.created_at FROM attribution_attribution a JOIN attribution_generation g ON g.id = a.generation_id
 WHERE a.id > %s AND a.created_at < %s
   AND NOT EXISTS (SELECT FROM ledger_accrual d WHERE d.generation_id = a.generation_id AND d.revision = a.revision)
   AND NOT EXISTS (SELECT FROM ledger_refusal r WHERE r.generation_id = a.generation_id AND r.revision = a.revision
                                                  AND r.withdrawn_at IS NULL)
   AND NOT EXISTS (SELECT FROM ledger_void v WHERE v.generation_id = a.generation_id)
   AND NOT EXISTS (SELECT FROM attribution_attribution b
                    WHERE b.generation_id = a.generation_id AND b.revision > a.revision)
   AND coalesce((SELECT p.basis FROM ledger_royaltyplan p
                  WHERE p.state = 'approved' AND p.currency = g.currency AND p.effective_from <= g.occurred_at
                    AND (p.service_id IS NULL OR p.service_id = g.service_id)
                    AND (p.model_version_id IS NULL OR p.model_version_id = g.model_version_id)
                  ORDER BY num_nonnulls(p.service_id, p.model_version_id) DESC, p.effective_from DESC
                  LIMIT 1), '') <> 'period_pool'
 ORDER BY a.id LIMIT %s"""


def _not_accrued(at: datetime) -> list[OpenItem]:
    """Name the backlog of attributions since the last sweep, where its oldest is older than the limit."""
    mark = SweepMark.objects.filter(name="accrue").values_list("value", flat=True).first() or 0
    with connection.cursor() as cursor:
        cursor.execute(_NOT_ACCRUED, [mark, at - timedelta(minutes=settings.STALLED_MINUTES), COUNT_MAX])
        moments = [moment for (moment,) in cursor.fetchall()]
    if not moments:
        return []
    number = f"{COUNT_MAX} or more" if len(moments) == COUNT_MAX else str(len(moments))
    return [
        OpenItem(
            subject=f"attributed:{min(moments):%Y%m%d%H%M%S%f}",
            title=f"{number} attributed generation{'s' if len(moments) > 1 else ''} without an accrual",
            words="Do the workers of the default queue run?",
            url=reverse("ledger:generations"),
            since=min(moments),
        )
    ]


KINDS = [
    Kind(
        name="receipt_disputed", heading="Receipt disputes", mail="A contributor disputes a receipt",
        roles=WITH_COMPLIANCE, item=_dispute,
        rows=lambda at: ReceiptDispute.objects.filter(state="open").select_related("contributor").order_by("pk"),
        covers={"ledger.ReceiptDispute": frozenset({"open"})},
    ),
    Kind(
        name="share_contested", heading="Ownership disputes", mail="A co-author contests a share",
        roles=WITH_COMPLIANCE, item=_contest,
        rows=lambda at: (
            SplitDispute.objects.filter(state="open").select_related("holder", "claimant", "against").order_by("pk")
        ),
        covers={"contributors.SplitDispute": frozenset({"open"})},
    ),
    Kind(
        name="month_to_close", heading="Months to close", mail="A month can be closed", roles=CHECKERS, item=_month,
        rows=lambda at: Period.objects.filter(
            Q(state="closing") | Q(state="open", ends__lte=utc_date(at))
        ).order_by("pk"),
        covers={"ledger.Period": frozenset({"open", "closing"})},
    ),
    Kind(
        name="month_to_seal", heading="Months to seal", mail="A month can be sealed", roles=CHECKERS, item=_month,
        rows=lambda at: Period.objects.filter(state="closed").order_by("pk"),
        covers={"ledger.Period": frozenset({"closed"})},
    ),
    Kind(
        name="accruals_stalled", heading="Generations that wait for their accrual",
        mail="Generations wait for their accrual", roles=("admin",), rows=_not_accrued,
    ),
]  # fmt: skip
