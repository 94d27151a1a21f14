"""The API as a model service meets it: authentication, problems, per-item answers, a document that tells the truth."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from django.conf import settings as django_settings
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.utils import timezone
from drf_spectacular.checks import schema_check
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, Phase, given, settings
from rest_framework.throttling import ScopedRateThrottle
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from attribution.models import Generation, ServiceKey
from attribution.operations import mandates, model_services
from people.operations import webhooks
from tests.attribution.api.test_model_versions import Team
from tests.worlds.programme import Programme
from tests.worlds.trained import Committed

PROBLEM_JSON = "application/problem+json"


@pytest.fixture(autouse=True)
def _throttles_start_empty() -> None:
    cache.clear()


@pytest.fixture
def live(indexed: Programme) -> Programme:
    """The programme at the API's own time, which is now."""
    indexed.at = timezone.now()
    return indexed


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == PROBLEM_JSON
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail"} <= body.keys()
    return body


def test_a_batch_is_answered_item_by_item(live: Programme) -> None:
    body = {"generations": [live.generation("g1"), live.generation("g2", model_version="unheard-of")]}
    answer = live.post(body)
    assert answer.status_code == 207
    first, second = answer.json()["results"]
    assert first == {"external_id": "g1", "status": 201, "id": str(Generation.objects.get().pk)}
    assert second["status"] == 422
    assert second["problem"]["type"] == "/problems/unknown-model-version"
    assert second["problem"]["field"] == "model_version"
    (again, _) = live.post(body).json()["results"]
    assert again == {**first, "status": 200}


def test_a_conflict_names_what_differs(live: Programme) -> None:
    live.post({"generations": [live.generation("g1")]})
    answer = live.post({"generations": [live.generation("g1", output={"text": "war"})]})
    (result,) = answer.json()["results"]
    assert result["status"] == 409
    assert result["problem"]["type"] == "/problems/body-differs"
    assert result["problem"]["differs"] == ["output"]


@pytest.mark.parametrize("key", ["", "trib_", "trib_nobody_secret", "wrong", "é"])
def test_without_a_valid_key_nothing_is_read(live: Programme, key: str) -> None:
    answer = live.api.post(
        "/api/v1/generations", b"{", content_type="application/json", HTTP_AUTHORIZATION=f"Bearer {key}"
    )
    problem(answer, 401)
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_request_without_authorization_is_told_what_is_missing(live: Programme) -> None:
    answer = live.api.get("/api/v1/model-versions")
    assert problem(answer, 401)["type"] == "/problems/not-authenticated"


def test_a_key_without_the_scope_is_told_which_it_needs(live: Programme) -> None:
    _, reader = model_services.issue_key(service=live.service, scopes=["generations:read"], at=live.at)
    body = problem(live.post({"generations": [live.generation()]}, key=reader), 403)
    assert (body["type"], body["scope"]) == ("/problems/missing-scope", "generations:write")
    assert not Generation.objects.exists()


def test_an_expired_key_is_told_so(live: Programme) -> None:
    _, text = model_services.issue_key(
        service=live.service,
        scopes=["generations:write"],
        at=live.at - timedelta(days=2),
        expires_at=live.at - timedelta(days=1),
    )
    assert problem(live.post({"generations": []}, key=text), 401)["type"] == "/problems/expired-key"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"generations": [NaN]}', 400),
        (b'{"generations": [' + b"9" * 5_000 + b"]}", 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b'"generations"', 422),
        (b"{}", 422),
        (b'{"generations": {}}', 422),
        (b'{"generations": []}', 422),
        (b'{"generations": [], "more": 1}', 422),
        (json.dumps({"generations": [{}] * 1_001}).encode(), 422),
    ],
)
def test_what_is_no_batch_is_a_problem(live: Programme, body: bytes, status: int) -> None:
    problem(live.post(body), status)


def test_a_body_that_is_not_json_is_refused(live: Programme) -> None:
    answer = live.api.post(
        "/api/v1/generations",
        "generations=1",
        content_type="application/x-www-form-urlencoded",
        headers={"Authorization": f"Bearer {live.key}"},
    )
    problem(answer, 415)


def test_a_request_that_is_too_large_is_refused_unread(live: Programme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_settings, "DATA_UPLOAD_MAX_MEMORY_SIZE", 1_000)
    body = problem(live.post({"generations": [live.generation(output={"text": "x" * 2_000})]}), 413)
    assert body["type"] == "/problems/request-too-large"


def test_an_unknown_method_is_a_problem(live: Programme) -> None:
    answer = live.api.delete("/api/v1/generations", headers={"Authorization": f"Bearer {live.key}"})
    problem(answer, 405)


def test_text_that_no_database_can_hold_is_refused_and_its_neighbours_kept(live: Programme) -> None:
    good, bad = live.generation("g1"), live.generation("g2", output={"text": "half a pair"})
    body = json.dumps({"generations": [bad, good]}).replace("half a pair", r"\ud800\u0000")
    refused, stored = live.post(body.encode()).json()["results"]
    assert refused["problem"]["type"] == "/problems/malformed-text"
    assert stored["status"] == 201


def test_a_service_that_reports_too_often_is_told_when_to_come_back(
    live: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ScopedRateThrottle.THROTTLE_RATES, "report", "3/min")
    for _ in range(3):
        problem(live.post(b""), 422)
    answer = live.post(b"")
    assert problem(answer, 429)["type"] == "/problems/throttled"
    assert 0 < int(answer["Retry-After"]) <= 60


REPORT_WITHOUT_BROKER = """
import json, sys, time
import django
django.setup()
from django.test import Client

task = json.load(sys.stdin)
began = time.monotonic()
answer = Client(headers={"Host": "127.0.0.1", "Authorization": "Bearer " + task["key"]}).post(
    "/api/v1/generations", task["body"], content_type="application/json")
print(json.dumps([answer.json(), time.monotonic() - began]))
"""


def test_a_report_is_stored_and_answered_when_the_broker_is_gone(committed: Committed) -> None:
    programme = committed.programme
    programme.at = timezone.now()
    task = {"key": programme.key, "body": {"generations": [programme.generation()]}}
    # The cache is beside the broker's messages unless somebody says otherwise.
    environment = {name: value for name, value in committed.environment.items() if name != "CACHE_URL"}
    reported = subprocess.run(
        [sys.executable, "-c", REPORT_WITHOUT_BROKER],
        env={**environment, "BROKER_URL": "redis+socket:///nowhere/at/all.sock", "LOG_LEVEL": "WARNING"},
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer, seconds = json.loads(reported.stdout)
    assert answer["results"][0]["status"] == 201
    assert seconds < 5
    assert "no hint was sent" in reported.stderr
    assert "calls are not counted" in reported.stderr
    assert Generation.objects.get().state == "received"


def test_a_service_sees_its_own_model_versions(live: Programme) -> None:
    answer = live.api.get("/api/v1/model-versions", headers={"Authorization": f"Bearer {live.key}"})
    (version,) = answer.json()["results"]
    assert (version["name"], version["state"]) == ("orator-1", "ready")
    assert version["manifest"]["works"] == 4
    assert version["index"]["state"] == "built"
    assert version["index"]["weight_ppb"] == 0
    stranger = model_services.register_service(name="stranger", at=live.at)
    _, key = model_services.issue_key(service=stranger, scopes=["generations:read"], at=live.at)
    answer = live.api.get("/api/v1/model-versions", headers={"Authorization": f"Bearer {key}"})
    assert answer.json() == {"results": [], "next": None}


# --- the document ---------------------------------------------------------------------------------------------------
def test_the_openapi_document_is_valid_and_knows_our_operations(live: Programme) -> None:
    document = live.api.get("/api/v1/openapi.json").json()
    validate_schema(document)  # type: ignore[no-untyped-call]
    post = document["paths"]["/api/v1/generations"]["post"]
    assert {"207", "400", "401", "403", "413", "415", "422", "429"} <= post["responses"].keys()
    assert post["security"] == [{"serviceKey": []}]
    item = document["components"]["schemas"]["Generation"]
    assert item["additionalProperties"] is False
    assert sorted(item["required"]) == ["external_id", "model_version", "occurred_at", "output"]


def test_every_body_and_set_of_choices_has_a_form_and_a_name_in_the_document() -> None:
    GENERATOR_STATS.reset()
    assert schema_check(None) == []


def test_the_reference_page_lists_every_operation(live: Programme) -> None:
    page = live.api.get("/api/v1/docs")
    assert page.status_code == 200
    text = page.content.decode()
    words = ("Report generations", "/api/v1/generations", "List model versions", "body-differs", "Void a generation")
    for word in words:
        assert word in text


def test_every_answer_is_one_that_the_document_announces(committed: Committed) -> None:
    """Through WSGI, which ends each request by closing its connection: on rows that are committed."""
    programme = committed.programme
    programme.at = timezone.now()
    client = Team(programme, _key_of_everything(programme))
    stored, bodies = _stored(client)
    schema = schemathesis.openapi.from_dict(programme.api.get("/api/v1/openapi.json").json())
    schema.app = get_wsgi_application()
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    operations = {(method.upper(), path) for path, methods in schema.raw_schema["paths"].items() for method in methods}
    assert {(operation.method.upper(), operation.path) for operation in found} == operations
    assert len(operations) > 30
    faults: dict[str, str] = {}
    # The ends come last, so that the others find something.
    for operation in sorted(found, key=lambda operation: operation.method == "delete"):
        named = {name: stored[operation.path, name] for name in re.findall(r"{(\w+)}", operation.path)}
        strategy = operation.as_strategy()
        if named:
            # Ids at random lead nowhere.
            strategy |= operation.as_strategy(path_parameters=named)
        if operation.label in bodies:
            strategy |= operation.as_strategy(body=bodies[operation.label], media_type="application/json")

        @settings(
            max_examples=15,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @given(case=strategy)
        def is_as_announced(case: Any) -> None:
            cache.clear()
            case.call_and_validate(
                base_url="http://127.0.0.1",
                headers={"Authorization": f"Bearer {client.key}"},
                # A malformed item of a batch is refused inside a 207, which is the point of a 207. A body of the right
                # form may name a work or a file that does not exist.
                excluded_checks=[negative_data_rejection, positive_data_acceptance],
            )

        try:
            is_as_announced()
        except (Exception, FailureGroup) as fault:
            faults[operation.label] = "\n".join(map(str, getattr(fault, "exceptions", [fault])))
    assert not faults, "\n\n".join(f"{label}: {fault}" for label, fault in faults.items())


@schemathesis.serializer("application/x-ndjson")
def _as_line(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def _key_of_everything(programme: Programme) -> str:
    return model_services.issue_key(service=programme.service, scopes=ServiceKey.Scope.values, at=programme.at)[1]


def _stored(client: Team) -> tuple[dict[tuple[str, str], str], dict[str, Any]]:
    """Make one of everything that an operation names in its path.

    Returns the ids by path and parameter, and bodies that are accepted, by operation.
    """
    programme = client.programme
    mandate = mandates.record_mandate(
        service=programme.service,
        organisation="Collecting Society",
        contributors=programme.contributors[:2],
        uses=["fine_tune", "search"],
        evidence="contract 7, signed 1 October 2026",
        evidence_sha256=hashlib.sha256(b"contract").hexdigest(),
        valid_from=programme.at - timedelta(days=1),
        valid_to=programme.at + timedelta(days=30),
        by=programme.user,
        at=programme.at,
    )
    dataset = {
        "mandate": str(mandate.public_id),
        "contributor": str(programme.contributors[0].public_id),
        "name": "Poems",
        "licence": "by contract",
        "uses": ["fine_tune"],
    }
    made = client.call("POST", "datasets", dataset).json()
    poem = base64.b64encode(b"A poem of many words, told again and again. " * 9).decode()
    works = {
        "mandate": str(mandate.public_id),
        "dataset": made["id"],
        "works": [{"title": "A poem", "modality": "text", "content": poem}],
    }
    batch = {"generations": [programme.generation()]}
    (reported,) = client.call("POST", "generations", batch).json()["results"]
    file = {"path": "weights", "size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    upload = client.call("POST", "uploads", {"files": [file]}).json()
    hook = {"url": "https://hooks.example.org/tributary", "events": ["index.evaluated"]}
    endpoint = client.call("POST", "webhook-endpoints", hook).json()
    owner = f"service:{programme.service.pk}"
    webhooks.emit(event="index.evaluated", owners=[owner], data={"n": 1}, at=programme.at)
    (delivery,) = client.call("GET", f"webhook-endpoints/{endpoint['id']}/deliveries").json()["results"]
    assert programme.index is not None
    names = {
        "generations": {"generation_id": reported["id"]},
        "indexes": {"id": str(programme.index.public_id)},
        "limits": {"currency": "USD"},
        "model-versions": {"name": programme.model_version.name},
        "uploads": {"id": upload["id"]},
        "webhook-endpoints": {"public_id": endpoint["id"], "delivery_id": delivery["id"]},
        "works": {"id": str(programme.works[0].public_id)},
    }
    document = programme.api.get("/api/v1/openapi.json").json()
    ids = {
        (path, name): names[path.split("/")[3]][name]
        for path in document["paths"]
        for name in re.findall(r"{(\w+)}", path)
    }
    return ids, {
        "POST /api/v1/datasets": {**dataset, "name": "Essays"},
        "POST /api/v1/generations": batch,
        "POST /api/v1/uploads": {"files": [file]},
        "POST /api/v1/webhook-endpoints": hook,
        "POST /api/v1/works": works,
        "PUT /api/v1/limits/{currency}": {"limit": "250.00"},
    }


@pytest.mark.parametrize("seed", range(3))
def test_generated_batches_are_answered_item_by_item(live: Programme, seed: int) -> None:
    """Any JSON in a batch gets one answer an item, in order, and never a server error."""
    chance = random.Random(seed)
    odd: list[Any] = [None, True, -1, 1e308, "", "\u0000", "\ud800", [], {}, {"text": None}, "x" * 300, [[]]]
    batch = []
    for number in range(200):
        generation = live.generation(f"g{number}")
        for _ in range(chance.randrange(3)):
            generation[chance.choice([*generation, "gross", "more"])] = chance.choice(odd)
        batch.append(chance.choice([generation, generation, generation, chance.choice(odd)]))
    answer = live.post({"generations": batch})
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert len(results) == len(batch)
    stored = {result["external_id"] for result in results if result["status"] == 201}
    assert stored == set(Generation.objects.values_list("external_id", flat=True))
    assert stored
    assert {result["status"] for result in results} <= {200, 201, 409, 422}
