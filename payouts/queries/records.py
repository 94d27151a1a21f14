"""Reads of differences, reconciliations, webhook events and the audit log."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models import QuerySet

from payouts.models import (
    AuditEvent,
    Difference,
    PayoutRun,
    Reconciliation,
    WebhookEvent,
)


def open_differences(run: PayoutRun | None = None) -> QuerySet[Difference]:
    found = Difference.objects.filter(state=Difference.State.OPEN).select_related("run", "payout")
    return (found.filter(run=run) if run is not None else found).order_by("found_at", "pk")


def latest_reconciliation(currency: str | None = None) -> Reconciliation | None:
    found = Reconciliation.objects.order_by("-finished_at", "-pk")
    return (found.filter(currency=currency) if currency else found).first()


def dead_webhooks() -> QuerySet[WebhookEvent]:
    return WebhookEvent.objects.filter(state=WebhookEvent.State.DEAD).order_by("-received_at")


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
