"""Reads of the audit log."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models import QuerySet

from people.models import AuditEvent


def audit_events(subject: str | None = None) -> QuerySet[AuditEvent]:
    events = AuditEvent.objects.select_related("actor").order_by("-sequence")
    return events.filter(subject=subject) if subject else events


_BROKEN_AUDIT = """
SELECT e.sequence FROM people_auditevent e
  LEFT JOIN people_auditevent p ON p.sequence = e.sequence - 1
 WHERE e.prev_hash <> coalesce(p.hash, decode(repeat('00', 32), 'hex'))
    OR (e.sequence > 1 AND p.id IS NULL)
    OR e.hash <> sha256(e.prev_hash || people_audit_text(e))
 ORDER BY e.sequence LIMIT 1
"""


def first_broken_audit_event() -> int | None:
    """The sequence of the first line of the audit log with a hash that does not follow; None when the chain is
    whole.
    """
    with connection.cursor() as cursor:
        cursor.execute(_BROKEN_AUDIT)
        row: Any = cursor.fetchone()
    return int(row[0]) if row else None
