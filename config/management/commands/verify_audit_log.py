"""`manage.py verify_audit_log`: whether the audit log's chain of hashes holds. Exit status 1 where it does not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from people.models import AuditEvent
from people.queries import audit


class Command(BaseCommand):
    help = "Compute every hash of the audit log again, and check that each line follows from the one before it."

    def handle(self, *args: Any, **options: Any) -> None:
        broken_at = audit.first_broken_audit_event()
        if broken_at is not None:
            raise CommandError(f"The chain is broken at line {broken_at}: it or the line before it was changed.")
        last = AuditEvent.objects.order_by("-sequence").first()
        head = bytes(last.hash).hex() if last else "-"
        self.stdout.write(f"The chain holds: {last.sequence if last else 0} lines, head {head}.")
