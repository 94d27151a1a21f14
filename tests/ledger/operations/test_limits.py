"""Limits of a service's charges: alerts once, a stop where it is wanted, and no accepted report without its charge."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.db.models import F
from django.test import Client

from attribution.models import Generation, ReportStop
from attribution.operations import model_services
from attribution.operations.reports import report_generations
from ledger.models import Accrual, MonthSpent, SpendAlert, SpendLimit
from ledger.operations import corrections
from ledger.operations.limits import UnableToSetLimit, check_limits, mail_alerts, remove_limit, set_limit
from ledger.queries.limits import limits_of
from people.models import AuditEvent, WebhookDelivery
from people.operations import webhooks
from tests.worlds.browser import LogIn, log_in
from tests.worlds.world import CENT, World, build_world

__all__ = ["log_in"]
pytestmark = pytest.mark.django_db
NOON = datetime.now(UTC).replace(day=15, hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture
def world(db: None) -> World:
    """A price of 5 cents for each generation."""
    return build_world(NOON)


def charge(world: World, n: int) -> list[Generation]:
    made = world.generate(n)
    world.attribute(made)
    world.accrue_all()
    return made


def limit_of(world: World, amount: str = "1.00", **options: Any) -> SpendLimit:
    return set_limit(service=world.service, currency="USD", amount=amount, at=world.at, **options)


def report(world: World, name: str, **options: Any) -> Any:
    body = {
        "external_id": name,
        "model_version": world.index.model_version.name,
        "occurred_at": (world.at - timedelta(hours=1)).isoformat(),
        "output": {"text": "text"},
    }
    world.index.model_version.__class__.objects.filter(pk=world.index.model_version_id).update(state="ready")
    (result,) = report_generations(service=world.service, generations=[body], at=world.at, **options)
    return result


def test_each_threshold_is_told_once_by_mail_and_webhook(world: World) -> None:
    webhooks.register_endpoint(
        owner=f"service:{world.service.pk}", url="https://example.org/h", events=["limit.threshold"], at=world.at
    )
    limit_of(world, thresholds=[50, 80], contacts=["billing@example.org"])
    charge(world, 9)
    assert not SpendAlert.objects.exists()
    charge(world, 1)
    charge(world, 1)
    assert list(SpendAlert.objects.values_list("percent", "spent")) == [(50, 50 * CENT)]
    finance = {user.email for user in world.staff}
    mail.outbox.clear()
    assert (mail_alerts(at=world.at), mail_alerts(at=world.at)) == (1, 0)
    assert {message.to[0] for message in mail.outbox} >= {"billing@example.org", *finance}
    assert "USD 0.50 are charged" in mail.outbox[0].body
    assert "The limit is USD 1.00" in mail.outbox[0].body
    charge(world, 20)
    assert list(SpendAlert.objects.order_by("percent").values_list("percent", flat=True)) == [50, 80, 100]
    told = [json.loads(row.message.body)["data"] for row in WebhookDelivery.objects.select_related("message")]
    assert sorted(row["percent"] for row in told) == [50, 80, 100]
    assert told[0] | {"percent": 50} == {
        "currency": "USD", "month": f"{NOON:%Y-%m}", "limit": "1.00", "accrued": "0.50", "percent": 50,
        "at_limit": "alert",
    }  # fmt: skip
    # A limit that only alerts takes everything.
    assert report(world, "more").status == 201


def test_a_mail_server_that_fails_is_tried_again(world: World, settings: Any) -> None:
    limit_of(world, thresholds=[5])
    charge(world, 1)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    assert mail_alerts(at=world.at) == 0
    alert = SpendAlert.objects.get()
    assert "Refused" in alert.error
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert mail_alerts(at=world.at) == 0
    assert mail_alerts(at=world.at + timedelta(minutes=2)) == 1
    alert.refresh_from_db()
    assert (alert.error, alert.next_at) == ("", None)


def test_a_stop_refuses_new_reports_alone_and_a_higher_limit_opens_the_way(world: World) -> None:
    assert report(world, "before").status == 201
    limit_of(world, at_limit="refuse")
    charge(world, 20)
    refused = report(world, "after")
    assert (refused.status, refused.refusal.problem) == (402, "limit-reached")
    assert refused.refusal.members == {
        "currency": "USD",
        "month": f"{NOON:%Y-%m}",
        "limit": "1.00",
        "accrued": "1.00",
        "until": (NOON.replace(day=1, hour=0) + timedelta(days=32)).strftime("%Y-%m-01T00:00:00Z"),
    }
    assert "PUT /api/v1/limits/USD" in str(refused.refusal)
    # An accepted report is answered as before, and charged.
    assert report(world, "before").status == 200
    # One that a gateway took and that waited is stored.
    assert report(world, "waited", was_accepted=True).status == 201
    world.attribute(list(Generation.objects.filter(state="received")))
    world.accrue_all()
    assert Accrual.objects.count() == Generation.objects.count() == 22
    limit_of(world, "1.20", at_limit="refuse")
    assert report(world, "after").status == 201


def test_a_void_and_the_next_month_open_the_way(world: World) -> None:
    limit_of(world, at_limit="refuse")
    made = charge(world, 20)
    corrections.void_generation(generation=made[0], reason="test", detail="", at=world.at)
    assert report(world, "n1").status == 402
    check_limits(at=world.at)
    assert report(world, "n1").status == 201
    charge(world, 1)
    assert report(world, "n2").status == 402
    world.at = (NOON.replace(day=1) + timedelta(days=32)).replace(day=2)
    assert report(world, "n2").status == 201
    check_limits(at=world.at)
    assert not ReportStop.objects.exists()


def test_the_kept_sum_is_that_of_the_documents_after_voids_and_an_invoice(world: World) -> None:
    limit_of(world)
    made = charge(world, 7)
    corrections.void_generation(generation=made[0], reason="test", detail="", at=world.at)
    charge(world, 3)
    (row,) = limits_of(world.service, at=world.at)
    assert row.spent == sum(Accrual.objects.values_list("gross", flat=True)) == 9 * 5 * CENT
    check_limits(at=world.at)
    assert MonthSpent.objects.get(month=row.month).spent == row.spent
    MonthSpent.objects.update(spent=F("spent") * 0, entry_id=0)
    assert limits_of(world.service, at=world.at)[0].spent == row.spent


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"currency": "XXX"}, "currency"),
        ({"amount": "0"}, "limit"),
        ({"amount": "-1.00"}, "limit"),
        ({"amount": "1,50"}, "limit"),
        ({"thresholds": [0]}, "thresholds"),
        ({"thresholds": list(range(1, 12))}, "thresholds"),
        ({"at_limit": "explode"}, "at_limit"),
        ({"contacts": ["nobody"]}, "contacts"),
    ],
)
def test_a_wrong_limit_is_refused_by_field(world: World, changes: dict[str, Any], field: str) -> None:
    given: dict[str, Any] = {"currency": "USD", "amount": "1.00", **changes}
    with pytest.raises(UnableToSetLimit) as caught:
        set_limit(service=world.service, at=world.at, **given)
    assert caught.value.members == {"field": field}


def test_a_service_sets_its_limit_by_the_api(world: World) -> None:
    _, key = model_services.issue_key(service=world.service, scopes=["usage:read", "limits:write"], at=world.at)
    client = Client(headers={"Authorization": f"Bearer {key}"})
    path = "/api/v1/limits/USD"
    body = {"limit": "1.00", "at_limit": "refuse", "thresholds": [50]}
    answer = client.put(path, json.dumps(body), content_type="application/json")
    assert answer.status_code == 200, answer.content
    charge(world, 20)
    (row,) = client.get("/api/v1/limits").json()["results"]
    assert (row["limit"], row["accrued"], row["alerted"], row["refuses"]) == (
        "1.000000000", "1.000000000", [50, 100], True,
    )  # fmt: skip
    wrong = client.put(path, json.dumps({"limit": "x"}), content_type="application/json")
    assert (wrong.status_code, wrong.json()["field"]) == (422, "limit")
    assert client.put("/api/v1/limits/ZZZ", json.dumps(body), content_type="application/json").status_code == 422
    assert client.delete(path).status_code == 204
    assert client.delete(path).status_code == 404
    assert report(world, "n1").status == 201
    _, reader = model_services.issue_key(service=world.service, scopes=["usage:read"], at=world.at)
    assert client.delete(path, headers={"Authorization": f"Bearer {reader}"}).status_code == 403


def test_finance_sets_and_removes_a_limit_in_the_console(world: World, log_in: LogIn) -> None:
    path = f"/console/services/{world.service.public_id}/limits/"
    browser = log_in(world.maker)
    given = {
        "currency": "USD",
        "amount": "1,50",
        "thresholds": "50 80%",
        "at_limit": "refuse",
        "contacts": "a@b.org\nc@d.org",
    }
    assert browser.post(path, {**given, "amount": "1.500"}).status_code == 422
    assert browser.post(path, given).status_code == 302
    limit = SpendLimit.objects.get()
    assert (limit.amount, limit.thresholds, limit.contacts) == (150 * CENT, [50, 80, 100], ["a@b.org", "c@d.org"])
    assert AuditEvent.objects.filter(action="set_limit").exists()
    charge(world, 30)
    page = browser.get(path).content.decode()
    assert "New reports are refused" in page
    reader = log_in(world.compliance)
    assert reader.get(path).status_code == 200
    assert reader.post(path, given).status_code == 403
    assert browser.post(f"{path}USD/remove/").status_code == 302
    assert not SpendLimit.objects.exists()
    assert report(world, "n1").status == 201
    assert AuditEvent.objects.filter(action="remove_limit").exists()


def test_a_removed_limit_has_no_stop(world: World) -> None:
    limit = limit_of(world, at_limit="refuse")
    charge(world, 20)
    remove_limit(limit=limit, at=world.at)
    assert not ReportStop.objects.exists()
