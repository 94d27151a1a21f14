"""Invitations and webhooks in the background. A message is a hint; the rows are the queue."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from people.operations import mail, webhook_deliveries, webhooks

# Rounds of one task; the next sweep does the rest.
ROUNDS_MAX = 20


@shared_task
def send_invitations() -> None:
    """Mail the invitations that wait for it."""
    mail.send_due_invitations(at=timezone.now())


@shared_task
def deliver_webhooks() -> int:
    """Try the deliveries that are due; returns their number."""
    done = 0
    for _ in range(ROUNDS_MAX):
        tried = webhook_deliveries.deliver_due(at=timezone.now())
        done += tried
        if tried < webhook_deliveries.BATCH:
            break
    return done


@shared_task
def forget_webhooks() -> int:
    return webhooks.forget_old_messages(at=timezone.now())
