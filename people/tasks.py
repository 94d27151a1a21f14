"""Wake the worker that mails invitations. A message is a hint; the rows are the queue."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from people.operations import mail


@shared_task
def send_invitations() -> None:
    """Mail the invitations that wait for it."""
    mail.send_due_invitations(at=timezone.now())
