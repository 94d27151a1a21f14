"""The pages of the audit log's subjects that a key alone does not address: payees, payouts, events and links."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from django.urls import reverse

from contributors.models import Contributor, ContributorLink
from payouts.models import Payout, WebhookEvent
from people.console.subjects import Finder


def _contributors(keys: Collection[str]) -> dict[str, str]:
    rows = Contributor.objects.filter(pk__in=[key for key in keys if key.isdecimal()])
    return {
        str(number): reverse("payouts:payee_account", args=[public_id])
        for number, public_id in rows.values_list("pk", "public_id")
    }


def _payouts(keys: Collection[str]) -> dict[str, str]:
    rows = Payout.objects.filter(public_id__in=_numbers(keys)).values_list("public_id", "run__public_id")
    return {str(payout): reverse("payouts:payee", args=[run, payout]) for payout, run in rows}


def _events(keys: Collection[str]) -> dict[str, str]:
    rows = WebhookEvent.objects.filter(event_id__in=keys).values_list("event_id", "pk")
    return {event: reverse("payouts:event", args=[number]) for event, number in rows}


def _links(keys: Collection[str]) -> dict[str, str]:
    rows = ContributorLink.objects.filter(public_id__in=_numbers(keys)).values_list("public_id", "pk")
    return {str(public_id): reverse("people:proposal", args=["link", number]) for public_id, number in rows}


def _numbers(keys: Iterable[str]) -> list[UUID]:
    found = []
    for key in keys:
        try:
            found.append(UUID(key))
        except ValueError:
            continue
    return found


FINDERS: dict[str, Finder] = {
    "contributor": _contributors,
    "payout": _payouts,
    "event": _events,
    "link": _links,
}
