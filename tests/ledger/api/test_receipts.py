"""The receipt that a model service reads over the API: its shape in every state, and its owner."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils.timezone import now
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator

from attribution.models import Generation
from attribution.operations import model_services
from ledger.models import Entry
from tests.worlds.pages import receipt_over_api
from tests.worlds.programme import Programme

pytestmark = pytest.mark.django_db


@pytest.fixture
def one(programme: Programme) -> Programme:
    programme.attribute(programme.generate(1), scores=[0.5, 0.3125, 0.1875])
    programme.accrue()
    return programme


def test_an_accrued_generation_has_shares_amounts_works_and_its_entry(one: Programme) -> None:
    body = receipt_over_api(one, one.generations[0]).json()
    entry = Entry.objects.get()
    assert body["state"] == "accrued"
    assert (body["method"], body["weight_ppb"], body["revision"]) == ("midpoint", 500_000_000, 1)
    assert body["index"] == str(one.indexes[0].public_id)
    assert (body["gross"], body["take"], body["direct"]) == ("0.050000000", "0.010000000", "0.016000000")
    assert body["floor"] == "0.024000000"
    assert body["unattributed_ppb"] == 0
    assert body["entry"] == {"id": entry.pk, "hash": bytes(entry.hash).hex(), "period": "2026-10"}
    first = body["shares"][0]
    assert first["holder"] == str(one.holders[0].public_id)
    assert (first["ppb"], first["amount"]) == (500_000_000, "0.008000000")
    assert first["se_ppb"] == 62_500_000
    assert [work["id"] for work in first["works"]] == [str(work.public_id) for work in one.works_of(0)]
    assert first["works"][0]["score"] == 0.5


def test_the_parts_make_up_the_gross_exactly(programme: Programme) -> None:
    programme.attribute(programme.generate(20))
    programme.accrue()
    for generation in programme.generations:
        body = receipt_over_api(programme, generation).json()
        amounts = [body["take"], body["floor"], *(share["amount"] for share in body["shares"])]
        assert sum(int(amount.replace(".", "")) for amount in amounts) == int(body["gross"].replace(".", ""))
        assert sum(share["ppb"] for share in body["shares"]) + body["unattributed_ppb"] == 10**9


def test_before_its_attribution_a_generation_is_received(programme: Programme) -> None:
    (generation,) = programme.generate(1)
    body = receipt_over_api(programme, generation).json()
    assert body["state"] == "received"
    assert body["external_id"] == generation.external_id
    assert body["shares"] == []
    assert [body[name] for name in ("index", "weight_ppb", "gross", "entry", "reason", "unattributed_ppb")] == [
        None
    ] * 6


def test_attributed_and_not_yet_accrued_it_has_shares_without_amounts(programme: Programme) -> None:
    made = programme.generate(1)
    programme.attribute(made, scores=[0.5, 0.3125, 0.1875])
    body = receipt_over_api(programme, made[0]).json()
    assert body["state"] == "attributed"
    assert [share["amount"] for share in body["shares"]] == [None] * 3
    assert body["shares"][0]["ppb"] == 500_000_000


def test_an_unattributable_one_says_why(programme: Programme) -> None:
    (generation,) = programme.generate(1)
    Generation.objects.filter(pk=generation.pk).update(state="unattributable", error="The output is empty.")
    body = receipt_over_api(programme, generation).json()
    assert (body["state"], body["reason"]) == ("unattributable", "The output is empty.")


def test_a_refused_one_says_why(programme: Programme) -> None:
    made = programme.generate(1, gross=("0.80", "USD"))
    programme.attribute(made)
    programme.accrue()
    body = receipt_over_api(programme, made[0]).json()
    assert (body["state"], body["reason"]) == ("refused", "USD plan 1 sets the price of a generation itself.")
    assert body["entry"] is None


def test_a_restated_one_has_the_standing_revision(one: Programme) -> None:
    one.attribute(one.generations, scores=[0.1875, 0.3125, 0.5], revision=2)
    waiting = receipt_over_api(one, one.generations[0]).json()
    assert (waiting["revision"], waiting["shares"][0]["ppb"]) == (1, 500_000_000)
    one.accrue()
    body = receipt_over_api(one, one.generations[0]).json()
    assert (body["state"], body["revision"]) == ("accrued", 2)
    assert body["shares"][0]["amount"] == "0.008000000"


def test_a_service_reads_its_own_only(one: Programme) -> None:
    response = receipt_over_api(one, one.generations[0], place=1)
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    unknown = receipt_over_api(one, "019e0000-0000-7000-8000-000000000000", place=1)
    assert unknown.status_code == 404
    assert response.json() == unknown.json()


def test_a_key_without_the_scope_is_refused(one: Programme) -> None:
    _, key = model_services.issue_key(service=one.services[0], scopes=["generations:write"], at=now())
    response = receipt_over_api(one, one.generations[0], key=key)
    assert response.status_code == 403
    assert response.json()["type"] == "/problems/missing-scope"
    assert response.json()["scope"] == "generations:read"


def test_a_key_that_is_none_is_refused(one: Programme) -> None:
    for key in ("trib_x_y", "nonsense", " "):
        response = receipt_over_api(one, one.generations[0], key=key)
        assert response.status_code == 401
        assert response["Content-Type"] == "application/problem+json"


def test_a_contributor_s_session_opens_no_api(one: Programme) -> None:
    assert one.client(0).get(f"/api/v1/generations/{one.generations[0].pk}").status_code == 401


def test_a_split_sheet_leaves_the_service_s_shares_as_they_are(programme: Programme) -> None:
    """A service sees holders; a holder divides its earnings without the service."""
    from contributors.models import PPB
    from contributors.operations.people import record_split_sheet
    from tests.worlds.programme import REGISTERED

    lincoln, grant, _ = programme.contributors
    record_split_sheet(
        holder=programme.holders[0],
        parts={lincoln: PPB // 4, grant: PPB - PPB // 4},
        effective_from=REGISTERED.replace(day=2),
        at=REGISTERED,
    )
    programme.attribute(programme.generate(1), scores=[0.5, 0.3125, 0.1875])
    programme.accrue()
    assert receipt_over_api(programme, programme.generations[0]).json()["shares"][0]["amount"] == "0.008000000"


def test_every_answer_is_as_the_openapi_document_says(programme: Programme) -> None:
    document: Any = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    operation = document["paths"]["/api/v1/generations/{generation_id}"]["get"]
    assert operation["operationId"] == "get_generation"
    assert {"200", "401", "403", "404", "429"} <= operation["responses"].keys()
    schema = {
        **operation["responses"]["200"]["content"]["application/json"]["schema"],
        "components": document["components"],
    }
    validator = Draft202012Validator(_nullable_as_type(schema))
    accrued = programme.generate(2)
    programme.attribute(accrued)
    programme.accrue()
    waiting = programme.generate(1)
    attributed = programme.generate(1)
    programme.attribute(attributed)
    for generation in (*accrued, *waiting, *attributed):
        validator.validate(receipt_over_api(programme, generation).json())


def _nullable_as_type(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable` in the words of JSON Schema."""
    if isinstance(schema, list):
        return [_nullable_as_type(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _nullable_as_type(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [changed, {"type": "null"}]} if schema.get("nullable") else changed
