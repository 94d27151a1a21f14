"""Staff see a service's webhooks, resume a stopped endpoint and send a message again; each act is logged."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from people.models import AuditEvent, WebhookDelivery
from people.operations import webhooks
from tests.worlds import people
from tests.worlds.programme import Programme

pytestmark = pytest.mark.django_db


def logged_in(role: str) -> Client:
    people.user(f"{role}@example.com", timezone.now(), (role,), second_factor=True)
    client = Client()
    people.log_in(client, f"{role}@example.com", code=people.totp_code)
    return client


def test_a_stopped_endpoint_is_resumed_and_its_message_sent_again(programme: Programme) -> None:
    at = timezone.now()
    service = programme.service
    endpoint, _ = webhooks.register_endpoint(
        owner=f"service:{service.pk}", url="https://hooks.example.org/", events=["index.evaluated"], at=at
    )
    webhooks.emit(event="index.evaluated", owners=[f"service:{service.pk}"], data={}, at=at)
    webhooks.stop_endpoint(endpoint=endpoint, because="It answered 410 Gone.", at=at)
    page = f"/console/services/{service.public_id}/webhooks/"
    client = logged_in("model_team")
    text = client.get(page).content.decode()
    assert "It answered 410 Gone." in text
    assert "Failed" in text
    client.post(f"{page}{endpoint.public_id}/resume/")
    delivery = WebhookDelivery.objects.get()
    client.post(f"/console/services/{service.public_id}/deliveries/{delivery.public_id}/replay/")
    delivery.refresh_from_db()
    assert delivery.state == "pending"
    lines = AuditEvent.objects.filter(subject=f"webhook_endpoint:{endpoint.public_id}").order_by("sequence")
    assert [line.action for line in lines] == ["resume_endpoint", "replay"]
    auditor = logged_in("auditor")
    assert auditor.get(page).status_code == 200
    assert auditor.post(f"{page}{endpoint.public_id}/resume/").status_code == 403
