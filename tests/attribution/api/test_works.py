"""Works for services: those with consent, their contents, the feed of consents, and registration under a mandate."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from attribution.models import Mandate, WorkDelivery
from attribution.operations import mandates, model_services
from contributors.models import Consent, Work
from contributors.operations import consents
from tests.attribution.api.test_model_versions import Team
from tests.worlds.programme import Programme


@pytest.fixture
def reader(programme: Programme) -> Team:
    scopes = ["works:read", "works:write"]
    _, key = model_services.issue_key(service=programme.service, scopes=scopes, at=programme.at)
    return Team(programme, key)


@pytest.fixture
def mandate(programme: Programme) -> Mandate:
    return mandates.record_mandate(
        service=programme.service,
        organisation="Collecting Society",
        contributors=programme.contributors[:2],
        uses=["fine_tune", "search"],
        evidence="contract 7, signed 1 October 2026",
        evidence_sha256=hashlib.sha256(b"contract").hexdigest(),
        valid_from=programme.at - timedelta(days=1),
        valid_to=timezone.now() + timedelta(days=30),
        by=programme.user,
        at=programme.at,
    )


def withdraw(programme: Programme, number: int) -> None:
    now = timezone.now()
    consents.withdraw_consent(
        contributor=programme.contributors[number], scope="train_generative", valid_from=now, by=programme.user, at=now
    )


def get(reader: Team, path: str) -> Any:
    return reader.call("GET", path)


def test_only_works_with_consent_to_the_purpose_are_listed(reader: Team) -> None:
    programme = reader.programme
    before = timezone.now()
    withdraw(programme, 1)
    listed = get(reader, "works?purpose=train_generative").json()
    wanted = [str(work.public_id) for number, work in enumerate(programme.works) if number != 1]
    assert [work["id"] for work in listed["results"]] == wanted
    assert listed["next"] is None
    first = listed["results"][0]
    assert first["sha256"] == bytes(programme.works[0].sha256).hex()
    assert (first["consent"]["scope"], first["consent"]["value"]) == ("train_generative", "allow")
    # At an earlier moment all were allowed; for another purpose nothing is.
    then = get(reader, f"works?purpose=train_generative&at={before.isoformat().replace('+', '%2B')}").json()
    assert len(then["results"]) == 4
    assert get(reader, "works?purpose=fine_tune").json() == {"results": [], "next": None}
    assert get(reader, "works?purpose=train_generative&modality=image").json()["results"] == []


def test_the_list_is_read_in_pages(reader: Team) -> None:
    withdraw(reader.programme, 1)
    seen, path = [], "works?purpose=train_generative&limit=1"
    while path:
        page = get(reader, path).json()
        seen += [work["id"] for work in page["results"]]
        path = (page["next"] or "").partition("/api/v1/")[2]
    assert seen == [str(reader.programme.works[number].public_id) for number in (0, 2, 3)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "purpose"),
        ("purpose=fun", "purpose"),
        ("purpose=search&at=yesterday", "at"),
        ("purpose=search&at=0001-01-01T00:00:00%2B23:00", "at"),
        ("purpose=search&at=2026-10-01T00:00:00", "at"),
        ("purpose=search&modality=smell", "modality"),
        ("purpose=search&limit=0", "limit"),
        ("purpose=search&limit=201", "limit"),
        ("purpose=search&cursor=nonsense", "cursor"),
    ],
)
def test_a_parameter_that_is_none_is_named(reader: Team, query: str, field: str) -> None:
    answer = get(reader, f"works?{query}")
    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_a_content_is_delivered_with_consent_alone_and_recorded(reader: Team) -> None:
    programme, work = reader.programme, reader.programme.works[0]
    answer = get(reader, f"works/{work.public_id}/content?purpose=train_generative")
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).digest() == bytes(work.sha256)
    delivery = WorkDelivery.objects.get()
    assert (delivery.work, delivery.service, delivery.consent.scope) == (work, programme.service, "train_generative")
    refused = get(reader, f"works/{work.public_id}/content?purpose=fine_tune")
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/no-consent")
    withdraw(programme, 0)
    assert get(reader, f"works/{work.public_id}/content?purpose=train_generative").status_code == 403
    assert WorkDelivery.objects.count() == 1
    with pytest.raises(DatabaseError), transaction.atomic():
        WorkDelivery.objects.all().delete()


def test_the_feed_of_consents_goes_on_where_it_stopped(reader: Team) -> None:
    programme = reader.programme
    page = get(reader, "consents?limit=3").json()
    assert len(page["results"]) == 3
    rest = get(reader, page["next"].partition("/api/v1/")[2]).json()
    assert [row["contributor"] for row in page["results"] + rest["results"]] == [
        str(contributor.public_id) for contributor in programme.contributors
    ]
    later = rest["next"].partition("/api/v1/")[2]
    assert get(reader, later).json()["results"] == []
    withdraw(programme, 2)
    (told,) = get(reader, later).json()["results"]
    assert (told["value"], told["contributor"]) == ("deny", str(programme.contributors[2].public_id))


# --- mandates -------------------------------------------------------------------------------------------------------
def dataset_of(reader: Team, under: Mandate, **changes: Any) -> Any:
    body = {
        "mandate": str(under.public_id),
        "contributor": str(reader.programme.contributors[0].public_id),
        "name": "From the society",
        "licence": "members' terms",
        "uses": ["fine_tune"],
    }
    return reader.call("POST", "datasets", {**body, **changes})


def test_works_are_registered_under_a_mandate_with_the_consents_that_it_names(reader: Team, mandate: Mandate) -> None:
    made = dataset_of(reader, mandate)
    assert made.status_code == 201, made.content
    content = base64.b64encode(b"A poem of many words, told again and again. " * 9).decode()
    body = {
        "mandate": str(mandate.public_id),
        "dataset": made.json()["id"],
        "works": [{"title": "A poem", "modality": "text", "content": content}],
    }
    answer = reader.call("POST", "works", body)
    assert answer.status_code == 201, answer.content
    work = Work.objects.get(public_id=answer.json()["results"][0]["id"])
    assert work.dataset.contributor == reader.programme.contributors[0]
    (told,) = get(reader, "works?purpose=fine_tune").json()["results"]
    assert told["id"] == str(work.public_id)
    consent = Consent.objects.get(dataset=work.dataset)
    assert (consent.scope, consent.valid_to, consent.source[:8]) == ("fine_tune", mandate.valid_to, "mandate ")
    again = reader.call("POST", "works", body)
    assert (again.status_code, "holds it already" in again.json()["detail"]) == (422, True)
    faulty = {**body, "works": [{"title": "B", "modality": "text", "content": "*"}]}
    assert reader.call("POST", "works", faulty).json()["field"] == "works.0.content"


def test_outside_the_mandate_nothing_is_registered(reader: Team, mandate: Mandate) -> None:
    programme = reader.programme
    stranger = {"contributor": str(programme.contributors[2].public_id)}
    for change, field in (
        (stranger, "contributor"),
        ({"uses": ["train_generative"]}, "uses"),
        ({"mandate": "00000000-0000-0000-0000-000000000000"}, "mandate"),
    ):
        answer = dataset_of(reader, mandate, **change)
        assert (answer.status_code, answer.json()["field"]) == (403, field)
    other = programme.works[2].dataset
    body = {
        "mandate": str(mandate.public_id),
        "dataset": str(other.public_id),
        "works": [{"title": "B", "modality": "text", "content": "QUJD"}],
    }
    assert reader.call("POST", "works", body).json()["field"] == "dataset"
    mandates.revoke_mandate(mandate=mandate, at=timezone.now(), by=programme.user)
    revoked = dataset_of(reader, mandate)
    assert (revoked.status_code, "was revoked" in revoked.json()["detail"]) == (403, True)
    with pytest.raises(mandates.UnableToRevokeMandate):
        mandates.revoke_mandate(mandate=mandate, at=timezone.now(), by=programme.user)
    assert Consent.objects.filter(scope="fine_tune").count() == 0


def test_a_mandate_of_another_service_is_unknown(reader: Team, mandate: Mandate) -> None:
    programme = reader.programme
    stranger = model_services.register_service(name="stranger", at=programme.at)
    _, key = model_services.issue_key(service=stranger, scopes=["works:write"], at=programme.at)
    assert dataset_of(Team(programme, key), mandate).json()["field"] == "mandate"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"organisation": " "}, "Name the organisation"),
        ({"evidence": ""}, "where the signed mandate lies"),
        ({"evidence_sha256": "x"}, "64 hexadecimal"),
        ({"uses": ["fun"]}, "no use 'fun'"),
        ({"contributors": []}, "not 0"),
    ],
)
def test_a_mandate_without_proof_is_none(programme: Programme, change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {
        "service": programme.service,
        "organisation": "Society",
        "contributors": programme.contributors,
        "uses": [],
        "evidence": "contract 7",
        "evidence_sha256": "00" * 32,
        "valid_from": programme.at,
        "at": programme.at,
    }
    with pytest.raises(mandates.UnableToRecordMandate, match=words):
        mandates.record_mandate(**{**given, **change})


def test_a_mandate_stays_as_it_was_recorded(mandate: Mandate) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        Mandate.objects.filter(pk=mandate.pk).update(uses=["train_generative"])
