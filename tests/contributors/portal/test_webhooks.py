"""A contributor's webhooks in the portal: the secret once, own endpoints alone, nothing changed by a viewer."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.test import Client

from contributors.models import Contributor
from contributors.operations.people import add_member
from people.models import User, WebhookDelivery, WebhookEndpoint
from people.operations import webhooks
from tests.worlds import people

pytestmark = pytest.mark.django_db
PAGE = "/portal/webhooks/"
GOOD = {"url": "https://hooks.example.org/t", "events": ["statement.ready", "payout.sent"]}


@pytest.fixture
def as_ada(client: Client, ada: Contributor) -> Client:
    client.force_login(User.objects.get(email="ada@example.org"))
    return client


def test_a_secret_is_shown_once_and_a_message_can_be_sent_again(as_ada: Client, ada: Contributor, at: datetime) -> None:
    made = as_ada.post(PAGE, GOOD)
    assert made.status_code == 200
    assert "whsec_" in made.content.decode()
    assert "whsec_" not in as_ada.get(PAGE).content.decode()
    owner = f"contributor:{ada.pk}"
    assert webhooks.emit(event="payout.sent", owners=[owner], data={"payout": "p"}, at=at) == 1
    WebhookDelivery.objects.update(state="delivered", settled_at=at)
    delivery = WebhookDelivery.objects.get()
    page = as_ada.get(PAGE).content.decode()
    assert "A payout was sent" in page
    assert "Delivered" in page
    as_ada.post(f"{PAGE}messages/{delivery.public_id}/replay/")
    delivery.refresh_from_db()
    assert delivery.state == "pending"
    endpoint = WebhookEndpoint.objects.get()
    webhooks.stop_endpoint(endpoint=endpoint, because="It answered 410 Gone.", at=at)
    assert "It answered 410 Gone." in as_ada.get(PAGE).content.decode()
    as_ada.post(f"{PAGE}{endpoint.public_id}/resume/")
    endpoint.refresh_from_db()
    assert endpoint.is_active
    as_ada.post(f"{PAGE}{endpoint.public_id}/remove/")
    as_ada.get(PAGE)  # shows the messages of these acts, which name the address
    assert str(GOOD["url"]) not in as_ada.get(PAGE).content.decode()


def test_a_wrong_address_is_refused_beside_its_field(as_ada: Client) -> None:
    answer = as_ada.post(PAGE, {**GOOD, "url": "ftp://example.org"})
    assert answer.status_code == 422
    assert "begin with https://" in answer.content.decode()
    assert not WebhookEndpoint.objects.exists()


def test_nobody_touches_the_endpoints_of_another(as_ada: Client, ben: Contributor, at: datetime) -> None:
    endpoint, _ = webhooks.register_endpoint(
        owner=f"contributor:{ben.pk}", url=str(GOOD["url"]), events=["payout.sent"], at=at
    )
    assert as_ada.post(f"{PAGE}{endpoint.public_id}/remove/").status_code == 404
    assert str(GOOD["url"]) not in as_ada.get(PAGE).content.decode()


def test_a_viewer_reads_and_changes_nothing(client: Client, ada: Contributor, at: datetime) -> None:
    viewer = people.user("viewer@example.org", at)
    add_member(contributor=ada, user=viewer, role="viewer", at=at)
    client.force_login(viewer)
    assert client.get(PAGE).status_code == 200
    refused = client.post(PAGE, GOOD)
    assert refused.status_code == 422
    assert not WebhookEndpoint.objects.exists()
