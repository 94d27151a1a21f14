"""`manage.py webhook_events --since 2026-11-01`: fetch events that were never delivered, by the road of a webhook."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from payouts.models import PayoutAccount
from payouts.rails.stripe import errors
from payouts.reconciliation import inbox, sweeping

# Stripe keeps events that long.
DAYS_MAX = 30


class Command(BaseCommand):
    help = "Fetch Stripe's events since a moment (30 days back at most), store those that are new, and apply them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", required=True, help="UTC, for example 2026-11-01 or 2026-11-01T08:30")
        parser.add_argument("--connected", action="store_true", help="also those of every connected account")

    def handle(self, *args: Any, **options: Any) -> None:
        at = timezone.now()
        try:
            since = datetime.fromisoformat(options["since"])
        except ValueError as error:
            raise CommandError(f"{options['since']} is no moment such as 2026-11-01 or 2026-11-01T08:30.") from error
        since = since if since.tzinfo else since.replace(tzinfo=UTC)
        if not at - timedelta(days=DAYS_MAX) <= since <= at:
            raise CommandError(f"Stripe keeps events for {DAYS_MAX} days; choose a moment since then.")
        accounts = [""]
        if options["connected"]:
            known = PayoutAccount.objects.filter(provider_account_id__isnull=False, disconnected_at__isnull=True)
            accounts += [str(name) for name in known.values_list("provider_account_id", flat=True)]
        try:
            new = inbox.back_fill(since=since, at=at, accounts=accounts)
        except errors.UnableToUseStripe as error:
            raise CommandError(f"Stripe could not be asked: {error}") from error
        applied = sweeping.sweep_webhooks(at=at, limit=max(new, 1)) if new else 0
        self.stdout.write(f"{new} new events were stored, {applied} were looked at; the sweep applies the rest.")
