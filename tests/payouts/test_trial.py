"""One person tries the programme out: both halves of an act, marked; never with a live key, never over full books."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from config import live_keys
from config.celery import refuse_live_key
from ledger.operations.plans import propose_plan
from payouts.operations import approval
from payouts.operations.approval import UnableToApprove
from payouts.rails.stripe import client as stripe_client
from payouts.rails.stripe.errors import UnableToUseStripe
from people.models import AuditEvent, Programme, User
from people.operations.programme import UnableToUseLiveKey, note_live_key
from people.operations.proposals import UnableToDecide, approve
from people.operations.trial import UnableToTryOut, begin_trial, end_trial, second_half
from people.queries.audit import first_broken_audit_event
from people.queries.programme import on_trial
from tests.worlds import people
from tests.worlds.world import SEEN, TERMS, World

pytestmark = pytest.mark.django_db
AT = datetime.fromisoformat("2026-11-20T12:00:00+00:00")


def ada() -> User:
    return people.user("ada@example.org", AT, ("admin",), second_factor=True)


def test_one_person_builds_and_approves_a_run_and_the_log_says_so() -> None:
    person = ada()
    begin_trial(person=person, by=person, at=AT, seen=SEEN)
    person = User.objects.get(pk=person.pk)
    world = World(at=AT)
    world.maker = person
    world.contributor(1000)
    run = world.in_review()
    approved = approval.approve_run(
        run=run, by=person, typed_total=run.total_minor, content_hash=bytes(run.content_hash or b""), at=AT, seen=SEEN
    )
    assert approved.approved_by is not None
    assert (approved.approved_by.stands_for, approved.approved_by.is_active) == (person, False)
    line = AuditEvent.objects.get(action="approve_run")
    assert (line.actor, line.after["on_trial"]) == (person, "one person did both halves")
    assert first_broken_audit_event() is None


def test_without_the_mode_the_builder_does_not_approve() -> None:
    person = people.user("ada@example.org", AT, ("admin", "finance_maker", "finance_checker"))
    world = World(at=AT)
    world.maker = person
    world.contributor(1000)
    run = world.in_review()
    with pytest.raises(UnableToApprove, match="builder or editor"):
        approval.approve_run(
            run=run,
            by=person,
            typed_total=run.total_minor,
            content_hash=bytes(run.content_hash or b""),
            at=AT,
            seen=SEEN,
        )
    assert second_half(person, (person.pk,)) == person
    assert not User.objects.exclude(stands_for=None).exists()


def test_the_stand_in_is_no_way_round_a_conflict_or_a_lost_role() -> None:
    person = ada()
    begin_trial(person=person, at=AT)
    own = people.contributor("Ada", AT, person)
    stand_in = second_half(User.objects.get(pk=person.pk), (person.pk,))
    from contributors.operations.deciding import acts_for

    assert acts_for(by=stand_in, contributors=[own.pk])
    assert stand_in.has_role("finance_checker")
    User.objects.get(pk=person.pk).groups.clear()
    assert not User.objects.get(pk=stand_in.pk).has_role("finance_checker")


@pytest.mark.parametrize("name", ["STRIPE_SECRET_KEY", "STRIPE_READ_KEY"])
def test_the_mode_never_begins_with_a_live_key(settings: Any, name: str) -> None:
    setattr(settings, name, "rk_live_x")
    with pytest.raises(UnableToTryOut, match="live Stripe key"):
        begin_trial(person=ada(), at=AT)


def test_a_live_key_that_was_once_seen_keeps_the_mode_away_also_from_raw_sql() -> None:
    note_live_key(at=AT)
    person = ada()
    with pytest.raises(UnableToTryOut, match="live Stripe key"):
        begin_trial(person=person, at=AT)
    for statement in (
        "UPDATE people_programme SET on_trial = true",
        "UPDATE people_programme SET live_key_at = NULL",
        "DELETE FROM people_programme",
    ):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


def test_a_live_key_is_refused_while_the_mode_is_on(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_trial(person=ada(), at=AT)
    stripe_client._noted.clear()
    with pytest.raises(UnableToUseLiveKey):
        note_live_key(at=AT)
    with pytest.raises(IntegrityError, match="a_trial_never_sees_a_live_key"), transaction.atomic():
        Programme.objects.update(live_key_at=AT)
    settings.STRIPE_SECRET_KEY = "rk_live_x"
    with pytest.raises(UnableToUseStripe, match="End the trial"):
        stripe_client.sender()
    with pytest.raises(UnableToUseLiveKey, match="End the trial"):
        live_keys.refuse_live_key_on_trial()
    with pytest.raises(SystemExit):
        refuse_live_key()
    end_trial(at=AT)
    stripe_client.sender()
    assert Programme.objects.get().live_key_at is not None
    stripe_client._noted.clear()


def test_the_mode_begins_only_over_empty_books_also_by_raw_sql() -> None:
    person = ada()
    World(at=AT).contributor(1000)
    with pytest.raises(UnableToTryOut, match="books are not empty"):
        begin_trial(person=person, at=AT)
    Programme.objects.get_or_create(pk=1)
    with pytest.raises(IntegrityError, match="only while its books are empty"), transaction.atomic():
        Programme.objects.update(on_trial=True)
    with pytest.raises(IntegrityError, match="stand-in"), transaction.atomic():
        User.objects.create(email="x@trial.invalid", stands_for=person)


def test_the_pages_offer_it_mark_it_and_end_it(client: Client) -> None:
    person = people.user("ada@example.org", timezone.now(), ("admin",), second_factor=True)
    people.log_in(client, person.email, code=people.totp_code)
    assert "Try it out alone" in client.get("/console/setup/").content.decode()
    assert client.post("/console/trial/").status_code == 302
    assert {"finance_maker", "finance_checker", "model_team"} <= User.objects.get(pk=person.pk).role_names
    for page in ("/", "/console/", "/console/setup/", "/profile/", "/accounts/signup/", "/api/v1/docs", "/roots/"):
        found = (Client() if page == "/accounts/signup/" else client).get(page)
        assert "One person tries this programme out" in found.content.decode(), page
    assert "one person tries this programme out" in client.get("/console/tables/").content.decode()
    assert client.post("/console/trial/").status_code == 302
    assert not on_trial()
    assert "One person tries" not in client.get("/").content.decode()
    assert {"begin_trial", "end_trial"} <= set(AuditEvent.objects.values_list("action", flat=True))


def test_the_command_begins_and_ends_it() -> None:
    ada()
    out = io.StringIO()
    call_command("try_out", "Ada@example.org", stdout=out)
    assert on_trial()
    with pytest.raises(CommandError, match="on already"):
        call_command("try_out", "ada@example.org")
    call_command("try_out", "--end", stdout=out)
    assert not on_trial()
    with pytest.raises(CommandError, match="no account"):
        call_command("try_out", "nobody@example.org")
    with pytest.raises(CommandError, match="Name the person"):
        call_command("try_out")


def test_one_person_proposes_and_approves_a_plan_and_the_rules_of_two_people_stay_as_they_are() -> None:
    person = ada()
    begin_trial(person=person, by=person, at=AT, seen=SEEN)
    person = User.objects.get(pk=person.pk)
    World(at=AT)
    given: dict[str, Any] = {"currency": "USD", "effective_from": AT, "at": AT, "terms": TERMS}
    plan = approve(propose_plan(by=person, **given), by=person, at=AT)
    assert plan.decided_by is not None
    assert (plan.state, plan.decided_by.stands_for) == ("approved", person)
    line = AuditEvent.objects.get(action="approve_plan")
    assert (line.actor, line.after["on_trial"]) == (person, "one person did both halves")
    end_trial(at=AT)
    again = propose_plan(by=person, **{**given, "effective_from": AT + timedelta(days=1)})
    with pytest.raises(UnableToDecide, match="somebody else has to approve"):
        approve(again, by=person, at=AT)
