"""One generation in the console: found, read, restated or taken back by two people with a second factor."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg2
import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client

from attribution.models import AttributionIndex, Generation
from attribution.operations import reports
from ledger.models import Entry, Restatement, Void, VoidProposal
from ledger.operations import corrections, voids
from ledger.queries.invariants import check_all
from people.actor import UnableToAct
from people.operations.proposals import UnableToDecide, approve, reject
from tests.databases import CommittedDatabase
from tests.worlds.manual import finance
from tests.worlds.pages import receipt_page, text_of
from tests.worlds.programme import AT, Programme
from tests.worlds.world import build_world


@pytest.fixture
def one(programme: Programme) -> Programme:
    programme.attribute(programme.generate(1), scores=[0.5, 0.3125, 0.1875])
    programme.accrue()
    return programme


def address(programme: Programme) -> str:
    return f"/console/generations/{programme.generations[0].pk}/"


def take_over(programme: Programme) -> AttributionIndex:
    """Another index serves the first model version from now on."""
    old = programme.indexes[0]
    AttributionIndex.objects.filter(pk=old.pk).update(serving=False)
    fields = {f.attname: getattr(old, f.attname) for f in old._meta.fields if f.attname not in {"id", "public_id"}}
    return AttributionIndex.objects.create(**{**fields, "serving": True, "config_sha256": b"n" * 32})


def test_a_generation_is_found_by_its_number_and_by_its_service_s_id(one: Programme) -> None:
    generation, auditor = one.generations[0], one.staff_client("auditor")
    for text in (str(generation.pk), generation.external_id):
        assert auditor.get("/console/generations/", {"find": text})["Location"] == address(one)
    assert "Nothing has this id" in text_of(auditor.get("/console/generations/", {"find": "g"}).content)
    assert "Nothing has this id" not in text_of(auditor.get("/console/generations/").content)
    page = text_of(auditor.get(address(one)).content)
    assert "Stands" in page
    assert "Propose to take it back" not in page
    assert one.contributors[0].display_name in page
    entry = Entry.objects.get(kind="accrue")
    assert address(one) in auditor.get(f"/console/journal/{entry.pk}/").content.decode()
    assert one.client(0).get(address(one)).status_code == 403
    assert auditor.get(f"/console/generations/{uuid.uuid4()}/").status_code == 404


def test_ids_of_several_services_are_listed(one: Programme) -> None:
    first = one.generations[0]
    report = {
        "external_id": first.external_id,
        "model_version": one.versions[1].name,
        "occurred_at": AT.isoformat(),
        "prompt": {"text": "Fellow citizens"},
        "output": {"text": "The Union is strong."},
    }
    reports.report_generations(service=one.services[1], generations=[report], at=AT)
    other = Generation.objects.exclude(pk=first.pk).get()
    page = one.staff_client("auditor").get("/console/generations/", {"find": first.external_id})
    assert page.status_code == 200
    assert f"/console/generations/{first.pk}/" in page.content.decode()
    assert f"/console/generations/{other.pk}/" in page.content.decode()


def test_a_generation_is_restated_by_two_people_from_its_page(one: Programme) -> None:
    maker, checker = one.staff_client("finance_maker"), one.staff_client("finance_checker")
    assert "attributed it already" in text_of(maker.get(address(one)).content)
    index = take_over(one)
    assert "Propose to attribute it again" in text_of(maker.get(address(one)).content)
    refused = maker.post(f"{address(one)}restate/", {"reason": ""})
    assert refused.status_code == 422
    maker.post(f"{address(one)}restate/", {"reason": "A dispute was upheld"})
    asked = Restatement.objects.get()
    assert (asked.index, asked.generation_id, asked.state) == (index, one.generations[0].pk, "proposed")
    page = text_of(maker.get(address(one)).content)
    decide = f"/console/proposals/restatement/{asked.pk}/"
    assert decide in maker.get(address(one)).content.decode()
    assert "Propose to attribute it again" not in page
    assert "You proposed this restatement, so somebody else has to approve it" in text_of(maker.get(decide).content)
    assert maker.post(decide, {"decision": "approve"}).status_code == 409
    answer = checker.post(decide, {"decision": "approve"}, follow=True)
    assert f'href="{address(one)}"' in answer.content.decode()
    asked.refresh_from_db()
    assert (asked.state, asked.is_running, asked.decided_by) == ("approved", True, one.staff["finance_checker"])
    # Attribute the generations again, as the worker does.
    one.indexes[0] = index
    one.attribute(one.generations, scores=[0.1875, 0.3125, 0.5], revision=2)
    one.accrue()
    assert corrections.continue_restatement(restatement=asked, at=AT) == 0
    page = text_of(checker.get(address(one)).content)
    assert "Reversed" in page
    listed = text_of(checker.get("/console/restatements/").content)
    assert f"only {one.generations[0].external_id}" in listed
    assert not [r.rows for r in check_all() if r.rows]


def test_one_restatement_of_a_generation_at_a_time_and_its_own_index(one: Programme) -> None:
    maker = one.staff["finance_maker"]
    take_over(one)
    generation = Generation.objects.get()
    asked = corrections.propose_generation_restatement(generation=generation, reason="why", by=maker, at=AT)
    with pytest.raises(corrections.UnableToRestate, match="proposed or under way"):
        corrections.propose_generation_restatement(generation=generation, reason="why", by=maker, at=AT)
    foreign = {"index": one.indexes[1], "generation": generation, "since": AT, "reason": "r", "proposed_by": maker}
    with pytest.raises(DatabaseError, match="another model version"), transaction.atomic():
        Restatement.objects.create(**foreign, proposed_at=AT)
    approve(asked, by=one.staff["finance_checker"], at=AT)
    with pytest.raises(DatabaseError, match="stands for the generations"), transaction.atomic():
        Restatement.objects.update(generation=None)


VOID = {"reason": "refunded", "detail": "The service is bankrupt; its users were refunded"}


def test_a_generation_is_taken_back_by_two_people_from_its_page(one: Programme) -> None:
    one.close()
    maker, checker = one.staff_client("finance_maker"), one.staff_client("finance_checker")
    for wrong in ({"reason": "boredom"}, {"detail": ""}, {"detail": "x" * 301}):
        answer = maker.post(f"{address(one)}void/", VOID | wrong)
        assert answer.status_code == 422
    assert not VoidProposal.objects.exists()
    maker.post(f"{address(one)}void/", VOID)
    asked = VoidProposal.objects.get()
    maker.post(f"{address(one)}void/", VOID)
    assert VoidProposal.objects.count() == 1
    decide = f"/console/proposals/void/{asked.pk}/"
    assert decide in checker.get(address(one)).content.decode()
    assert maker.post(decide, {"decision": "approve"}).status_code == 409
    assert not Void.objects.exists()
    assert "This cannot be undone." in text_of(checker.get(decide).content)
    checker.post(decide, {"decision": "approve"})
    void = Void.objects.get()
    assert (void.reason, void.detail, void.voided_by) == (*VOID.values(), one.staff["finance_checker"])
    assert Entry.objects.filter(kind="void_generations").count() == 1
    page = text_of(checker.get(address(one)).content)
    assert f"by {one.staff['finance_checker']}" in page
    assert "Propose to take it back" not in page
    assert "The programme's finance staff voided this output of press-1" in receipt_page(one)
    assert "its users were refunded" in receipt_page(one)
    assert not [r.rows for r in check_all() if r.rows]


def test_a_void_is_rejected_or_overtaken_by_its_service(one: Programme) -> None:
    maker, checker = one.staff["finance_maker"], one.staff["finance_checker"]
    generation = one.generations[0]
    asked = voids.propose_void(generation=generation, **VOID, by=checker, at=AT)
    with pytest.raises(UnableToDecide, match="somebody else has to approve it"):
        approve(asked, by=checker, at=AT)
    with pytest.raises(UnableToDecide, match="finance_checker"):
        approve(asked, by=maker, at=AT)
    reject(asked, by=maker, at=AT)
    with pytest.raises(UnableToDecide, match="rejected already"):
        approve(asked, by=one.staff["finance_checker"], at=AT)
    again = voids.propose_void(generation=generation, **VOID, by=maker, at=AT)
    corrections.void_generation(generation=generation, reason="test", at=AT)
    client = one.staff_client("finance_checker")
    answer = client.post(f"/console/proposals/void/{again.pk}/", {"decision": "approve"})
    assert "It is void already: it was a test" in text_of(answer.content)
    assert Void.objects.get().voided_by is None
    client.post(f"/console/proposals/void/{again.pk}/", {"decision": "reject"})
    again.refresh_from_db()
    assert again.state == "rejected"
    with pytest.raises(corrections.UnableToVoid, match="void already"):
        voids.propose_void(generation=generation, **VOID, by=maker, at=AT)
    with pytest.raises(UnableToAct, match="takes the role finance_maker or finance_checker"):
        voids.propose_void(generation=one.generate(1)[0], **VOID, by=one.members[0], at=AT)


def test_taking_back_needs_the_second_factor_used_just_now_and_the_role(one: Programme) -> None:
    asked = voids.propose_void(generation=one.generations[0], **VOID, by=one.staff["finance_maker"], at=AT)
    stale = Client(headers={"Host": "127.0.0.1"})
    stale.force_login(one.staff["finance_checker"], backend="allauth.account.auth_backends.AuthenticationBackend")
    answer = stale.post(f"/console/proposals/void/{asked.pk}/", {"decision": "approve"})
    assert answer["Location"].startswith("/accounts/2fa/reauthenticate/")
    auditor = one.staff_client("auditor")
    for path in (f"{address(one)}void/", f"{address(one)}restate/", f"/console/proposals/void/{asked.pk}/"):
        assert auditor.post(path, VOID | {"decision": "approve"}).status_code == 403
    assert one.staff_client("finance_checker").post("/console/proposals/void/9999/").status_code == 404
    assert not Void.objects.exists()


def test_a_proposed_void_is_not_changed(one: Programme) -> None:
    voids.propose_void(generation=one.generations[0], **VOID, by=one.staff["finance_maker"], at=AT)
    for change in ("detail = 'another'", "reason = 'test'", "proposed_by_id = proposed_by_id + 1"):
        with (
            pytest.raises(DatabaseError, match="stands as it was proposed"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"UPDATE ledger_voidproposal SET {change}")


def test_not_even_a_superuser_voids_in_the_name_of_staff_alone(committed_database: CommittedDatabase, at: Any) -> None:
    world = build_world(at, contributors=1)
    generation = world.generate(1)[0].pk
    first, second = finance(at)
    void = (
        "INSERT INTO ledger_void (generation_id, reason, detail, voided_by_id, voided_at)"
        f" VALUES ('{generation}', 'test', '{{detail}}', {{by}}, now())"
    )
    insert = (
        "INSERT INTO ledger_voidproposal (generation_id, reason, detail, state, proposed_by_id, proposed_at)"
        f" VALUES ('{generation}', 'test', 'd', '{{state}}', {first.pk}, now())"
    )
    decide = "UPDATE ledger_voidproposal SET state = 'approved', decided_by_id = {by}, decided_at = now()"
    asked = insert.format(state="proposed")
    not_so = "not proposed by one person and approved by another"
    attempts = [
        ([void.format(detail="d", by=first.pk)], not_so),
        ([asked, void.format(detail="d", by=first.pk), decide.format(by=first.pk)], "approved_by_somebody_else"),
        ([asked, void.format(detail="other", by=second.pk), decide.format(by=second.pk)], not_so),
        ([asked, void.format(detail="d", by=first.pk), decide.format(by=second.pk)], not_so),
        ([insert.format(state="approved")], "cannot begin as"),
        ([asked, "DELETE FROM ledger_voidproposal"], "never changed"),
    ]
    superuser = psycopg2.connect(committed_database.url)
    try:
        for statements, refusal in attempts:
            with pytest.raises(psycopg2.Error, match=refusal), superuser, superuser.cursor() as cursor:
                cursor.execute(";".join(statements))
        with superuser, superuser.cursor() as cursor:
            cursor.execute(";".join([asked, void.format(detail="d", by=second.pk), decide.format(by=second.pk)]))
    finally:
        superuser.close()
    assert Void.objects.get().voided_by == second
