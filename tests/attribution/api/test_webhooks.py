"""Webhook endpoints over the API: registered, listed, removed by their own service; and the events of real acts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.utils import timezone

from attribution.operations import model_services, revisions
from contributors.operations import consents
from people.models import WebhookDelivery, WebhookMessage
from people.operations import webhooks
from tests.worlds.programme import Programme

URL = "https://hooks.example.org/tributary"
PATH = "/api/v1/webhook-endpoints"


def key_of(programme: Programme, *scopes: str) -> str:
    return model_services.issue_key(
        service=programme.service, scopes=list(scopes) or ["webhooks:write", "generations:read"], at=timezone.now()
    )[1]


def call(programme: Programme, method: str, path: str, body: Any = None, *, key: str) -> Any:
    options: dict[str, Any] = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
    return getattr(programme.api, method)(path, headers={"Authorization": f"Bearer {key}"}, **options)


@pytest.fixture
def live(programme: Programme) -> Programme:
    programme.at = timezone.now()
    return programme


def test_a_service_registers_lists_and_removes_its_endpoints(live: Programme) -> None:
    key = key_of(live)
    made = call(live, "post", PATH, {"url": URL, "events": ["receipts.accrued"]}, key=key)
    assert made.status_code == 201, made.content
    assert made.json()["secret"].startswith("whsec_")
    listed = call(live, "get", PATH, key=key).json()["results"]
    assert [(row["id"], row["url"], row["active"]) for row in listed] == [(made.json()["id"], URL, True)]
    assert "secret" not in listed[0]
    one = f"{PATH}/{made.json()['id']}"
    assert call(live, "get", one, key=key).json() == listed[0]
    rotated = call(live, "post", f"{one}/secret", key=key).json()
    assert rotated["secret"] != made.json()["secret"]
    assert call(live, "delete", one, key=key).status_code == 204
    assert call(live, "get", one, key=key).status_code == 404
    assert call(live, "get", PATH, key=key).json()["results"] == []


def test_deliveries_are_listed_with_their_attempts_page_by_page_and_sent_again(live: Programme) -> None:
    key = key_of(live)
    made = call(live, "post", PATH, {"url": URL, "events": ["index.evaluated"]}, key=key).json()
    owner = f"service:{live.service.pk}"
    for number in range(60):
        webhooks.emit(event="index.evaluated", owners=[owner], data={"n": number}, at=live.at)
    first = call(live, "get", f"{PATH}/{made['id']}/deliveries", key=key).json()
    rest = call(live, "get", first["next"], key=key).json()
    numbers = [json.loads(row["body"])["data"]["n"] for row in [*first["results"], *rest["results"]]]
    assert numbers == list(range(59, -1, -1))
    assert rest["next"] is None
    delivery = first["results"][0]
    path = f"{PATH}/{made['id']}/deliveries/{delivery['id']}/replay"
    assert call(live, "post", path, key=key).status_code == 409
    WebhookDelivery.objects.filter(public_id=delivery["id"]).update(state="delivered", settled_at=live.at)
    again = call(live, "post", path, key=key)
    assert again.status_code == 202
    assert again.json()["state"] == "pending"


def test_another_service_and_another_scope_find_nothing(live: Programme) -> None:
    key = key_of(live)
    made = call(live, "post", PATH, {"url": URL, "events": ["index.evaluated"]}, key=key).json()
    other = model_services.register_service(name="another", at=live.at)
    foreign = model_services.issue_key(service=other, scopes=["webhooks:write"], at=live.at)[1]
    for method, path in [("get", ""), ("delete", ""), ("post", "/secret"), ("post", "/resume"), ("get", "/deliveries")]:
        assert call(live, method, f"{PATH}/{made['id']}{path}", key=foreign).status_code == 404
        answer = call(live, method, f"{PATH}/{made['id']}{path}", key=live.key)
        assert answer.status_code == 403
        assert answer.json()["scope"] == "webhooks:write"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "body must be"),
        ({"url": URL}, "events"),
        ({"url": URL, "events": []}, "at least one"),
        ({"url": URL, "events": ["payout.sent"]}, "no event payout.sent"),
        ({"url": 5, "events": ["index.evaluated"]}, "url"),
        ({"url": "ftp://example.org", "events": ["index.evaluated"]}, "https://"),
        ({"url": URL, "events": ["index.evaluated"], "color": 1}, "no field color"),
    ],
)
def test_a_wrong_body_is_refused_by_its_field(live: Programme, body: Any, words: str) -> None:
    answer = call(live, "post", PATH, body, key=key_of(live))
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("event", "scope"), [("consent.changed", "works:read"), ("receipts.accrued", "generations:read")]
)
def test_a_message_tells_no_more_than_its_key_could_read(live: Programme, event: str, scope: str) -> None:
    wanted = {"url": URL, "events": [event]}
    refused = call(live, "post", PATH, wanted, key=key_of(live, "webhooks:write"))
    assert refused.status_code == 403
    assert refused.json()["scope"] == scope
    assert call(live, "post", PATH, wanted, key=key_of(live, "webhooks:write", scope)).status_code == 201


# --- events of real acts ----------------------------------------------------------------------------------------------
def told(event: str) -> dict[str, Any]:
    message = WebhookMessage.objects.get(event=event)
    body: dict[str, Any] = json.loads(message.body)
    assert body["type"] == event
    data: dict[str, Any] = body["data"]
    return data


def listen(programme: Programme, *events: str) -> None:
    webhooks.register_endpoint(owner=f"service:{programme.service.pk}", url=URL, events=events, at=programme.at)


def test_a_withdrawn_consent_is_told_to_services_by_public_ids(live: Programme) -> None:
    listen(live, "consent.changed")
    consents.withdraw_consent(
        contributor=live.contributors[0], scope="train_generative", valid_from=live.at, by=live.user, at=live.at
    )
    data = told("consent.changed")
    assert data["contributor"] == str(live.contributors[0].public_id)
    assert (data["uses"], data["value"]) == (["train_generative"], "deny")


def test_a_work_that_leaves_is_told_to_the_service_of_the_model(live: Programme) -> None:
    listen(live, "work.withdrawn")
    revisions.remove_works(model_version=live.model_version, works=live.works[:1], reason="claim", at=live.at)
    assert told("work.withdrawn") == {
        "model_version": live.model_version.name,
        "works": [str(live.works[0].public_id)],
        "reason": "claim",
    }
