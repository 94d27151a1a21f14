"""Webhooks of the books: the receipts of a sweep, told to their service alone."""

from __future__ import annotations

import json

from people.models import WebhookDelivery, WebhookMessage
from people.operations import webhooks
from tests.worlds.programme import AT, Programme


def test_each_service_is_told_of_its_own_receipts_once(programme: Programme) -> None:
    for place, service in enumerate(programme.services):
        webhooks.register_endpoint(
            owner=f"service:{service.pk}", url=f"https://example.org/{place}", events=["receipts.accrued"], at=AT
        )
    first = programme.generate(3)
    second = programme.generate(2, version=1)
    programme.attribute([*first, *second])
    programme.accrue()
    found = {
        delivery.endpoint.owner: json.loads(delivery.message.body)["data"]["receipts"]
        for delivery in WebhookDelivery.objects.select_related("endpoint", "message")
    }
    for service, generations in zip(programme.services, (first, second), strict=True):
        assert sorted(row["generation"] for row in found[f"service:{service.pk}"]) == sorted(
            str(generation.pk) for generation in generations
        )
    programme.accrue()
    assert WebhookMessage.objects.count() == 2


def test_without_an_endpoint_no_row_is_written(programme: Programme) -> None:
    programme.attribute(programme.generate(2))
    programme.accrue()
    assert not WebhookMessage.objects.exists()
