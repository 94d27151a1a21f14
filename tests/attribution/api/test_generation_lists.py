"""A service lists its own generations: pages, filters, strangers, unchanged answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from attribution.models import Generation
from attribution.operations import attributions, model_services
from tests.worlds.programme import Programme

PATH = "/api/v1/generations"


@pytest.fixture
def live(indexed: Programme) -> Programme:
    cache.clear()
    indexed.at = timezone.now()
    return indexed


@pytest.fixture
def key(live: Programme) -> str:
    return model_services.issue_key(service=live.service, scopes=["generations:read"], at=live.at)[1]


def listed(live: Programme, key: str, address: str = PATH, status: int = 200, **query: Any) -> Any:
    answer = live.api.get(address, query or None, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == status, answer.content
    return answer.json()


def names(body: Any) -> list[str]:
    return [row["external_id"] for row in body["results"]]


def test_pages_hold_every_generation_once_also_while_others_come(live: Programme, key: str) -> None:
    # Ids are in the order of the milliseconds.
    live.report(*(live.generation(f"g{number}") for number in range(5)))
    page = listed(live, key, limit=2)
    seen = names(page)
    live.report(live.generation("later"))
    while page["next"]:
        page = listed(live, key, page["next"])
        seen += names(page)
    assert len(seen) == 5
    assert set(seen) == {f"g{number}" for number in range(5)}
    assert names(listed(live, key, limit=1)) == ["later"]


def test_an_external_id_leads_to_the_receipt(live: Programme, key: str) -> None:
    live.report(live.generation("g1"), live.generation("g2"))
    stored = Generation.objects.get(external_id="g2")
    (row,) = listed(live, key, external_id="g2")["results"]
    assert row == {
        "id": str(stored.pk),
        "external_id": "g2",
        "model_version": live.model_version.name,
        "modality": "text",
        "occurred_at": stored.occurred_at.isoformat().replace("+00:00", "Z"),
        "received_at": stored.received_at.isoformat().replace("+00:00", "Z"),
        "state": "received",
        "reason": "",
    }
    assert listed(live, key, f"{PATH}/{row['id']}")["external_id"] == "g2"
    assert listed(live, key, external_id="g") == {"results": [], "next": None}


def test_filters_are_joined(live: Programme, key: str) -> None:
    early = (live.at - timedelta(days=3)).isoformat()
    live.report(live.generation("g1", occurred_at=early), live.generation("g2"))
    while attributions.attribute_batch(at=live.at):
        pass
    live.report(live.generation("g3"))
    moment = (live.at - timedelta(days=1)).isoformat()
    assert sorted(names(listed(live, key, state="attributed"))) == ["g1", "g2"]
    assert names(listed(live, key, state="attributed", until=moment)) == ["g1"]
    assert names(listed(live, key, since=moment)) == ["g3", "g2"]
    assert names(listed(live, key, since=early, until=early)) == []
    assert names(listed(live, key, model_version=live.model_version.name, state="received")) == ["g3"]


def test_another_service_sees_nothing_of_it(live: Programme) -> None:
    live.report(live.generation("g1"))
    other = model_services.register_service(name="Another", at=live.at)
    stranger = model_services.issue_key(service=other, scopes=["generations:read"], at=live.at)[1]
    assert listed(live, stranger)["results"] == []
    assert listed(live, stranger, external_id="g1")["results"] == []
    told = listed(live, stranger, model_version=live.model_version.name, status=400)
    assert told["field"] == "model_version"
    assert "names none of this service" in told["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cursor", "xyz"),
        ("cursor", "azEy"),
        ("limit", "0"),
        ("limit", "201"),
        ("state", "accrued"),
        ("since", "yesterday"),
        ("until", "2026-10-03T10:00:00"),
        ("since", "0001-01-01T00:00:00+23:59"),
        ("until", "9999-12-31T23:59:59-23:00"),
        ("cursor", "kMDAwMA"),
        ("external_id", ""),
        ("external_id", "x" * 201),
        ("model_version", "nobody-1"),
    ],
)
def test_a_wrong_parameter_is_named(live: Programme, key: str, name: str, value: str) -> None:
    told = listed(live, key, status=400, **{name: value})
    assert (told["type"], told["field"]) == ("/problems/invalid-parameter", name)


def test_the_scope_is_checked_and_an_unchanged_list_is_an_empty_304(live: Programme, key: str) -> None:
    _, writer = model_services.issue_key(service=live.service, scopes=["generations:write"], at=live.at)
    assert listed(live, writer, status=403)["scope"] == "generations:read"
    live.report(live.generation("g1"))
    asked = {"Authorization": f"Bearer {key}"}
    first = live.api.get(PATH, headers=asked)
    again = live.api.get(PATH, headers={**asked, "If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    live.report(live.generation("g2"))
    assert live.api.get(PATH, headers={**asked, "If-None-Match": first["ETag"]}).status_code == 200


def test_reads_are_counted_with_reads_and_load_no_text(live: Programme, key: str) -> None:
    live.report(*(live.generation(f"g{number}") for number in range(3)))
    answer = live.api.get(f"{PATH}/{Generation.objects.earliest('pk').pk}", headers={"Authorization": f"Bearer {key}"})
    with CaptureQueriesContext(connection) as asked:
        listing = live.api.get(PATH, headers={"Authorization": f"Bearer {key}"})
    assert listing["RateLimit-Policy"] == answer["RateLimit-Policy"]
    left = [int(each["RateLimit"].split(";r=")[1].split(";")[0]) for each in (answer, listing)]
    assert left[1] == left[0] - 1
    (rows,) = [
        query["sql"] for query in asked if "ORDER BY" in query["sql"] and "attribution_generation" in query["sql"]
    ]
    assert "output_text" not in rows
