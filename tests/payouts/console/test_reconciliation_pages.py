"""Differences are explained by a second person, lost answers are decided with evidence, the log is checked."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.urls import reverse

from payouts.models import Difference, Payout, PayoutRun, WebhookEvent
from payouts.reconciliation import comparison
from people.models import AuditEvent
from tests.worlds.browser import LogIn, words_of
from tests.worlds.world import World

PAGE = "payouts:reconciliation"


@pytest.fixture
def difference(world: World) -> Difference:
    world.contributor(1234)
    return Difference.objects.create(
        type="fee",
        currency="USD",
        subject="txn_1",
        expected="USD 0.00",
        found="USD 0.25",
        run=world.approved(),
        words="Stripe kept a fee of USD 0.25 that the ledger does not have.",
        found_at=world.at,
    )


def sign_off(difference: Difference) -> str:
    return reverse("payouts:sign_off", args=[difference.public_id])


def test_a_difference_is_explained_by_somebody_else_than_the_maker(
    difference: Difference, world: World, log_in: LogIn
) -> None:
    maker, checker = log_in(world.maker), log_in(world.checker)
    assert "You built the run. Somebody else has to look at its differences." in words_of(
        maker.get(sign_off(difference))
    )
    response = maker.post(sign_off(difference), {"reason": "It is fine."})
    assert response.status_code == 409
    assert "The creator of a run does not sign off its differences." in words_of(response)
    assert "Stripe kept a fee of USD 0.25" in words_of(checker.get(reverse(PAGE)))
    assert checker.post(sign_off(difference), {"reason": ""}).status_code == 422
    page = words_of(checker.post(sign_off(difference), {"reason": "Card fee, booked next month."}, follow=True))
    assert "Signed off with your explanation." in page
    assert "Everything that was compared agrees or is explained." in page
    page = words_of(checker.get(reverse(PAGE), {"state": "signed_off"}))
    assert f"{world.checker}: Card fee, booked next month." in page
    response = checker.post(sign_off(difference), {"reason": "Again."})
    assert "The difference has ended already." in words_of(response)


def test_an_open_difference_is_announced_on_the_run_and_at_home(
    difference: Difference, world: World, log_in: LogIn
) -> None:
    assert difference.run is not None
    client = log_in(world.checker)
    assert "1 open difference" in words_of(client.get(reverse("payouts:run", args=[difference.run.public_id])))
    assert "Differences to explain 1" in words_of(client.get(reverse("payouts:console")))


def test_a_lost_answer_is_decided_by_a_person_with_evidence(paying: World, log_in: LogIn) -> None:
    world = paying
    assert world.sandbox is not None
    world.contributor(1234)
    world.fund(1234)
    run = world.executing()
    world.sandbox.queue_faults("drop_before", "drop_before", "drop_before", "drop_before")
    for hours in (0, 21, 22, 23):
        world.pay(run, seconds=hours * 3600)
    payout = run.payouts.get()
    assert payout.needs_person_since is not None
    client = log_in(world.checker)
    address = reverse("payouts:decide", args=[payout.public_id])
    for page in (reverse(PAGE), reverse("payouts:console")):
        assert address in client.get(page).content.decode()
    assert payout.transfer_group in words_of(client.get(address))
    response = client.post(address, {"paid_transfer_id": "tr_invented", "note": "I saw it."})
    assert response.status_code == 409
    assert "Stripe lists no transfer tr_invented of this payout." in words_of(response)
    assert client.post(address, {"paid_transfer_id": "po_1", "note": "x"}).status_code == 422
    page = words_of(client.post(address, {"note": "Not in the dashboard."}, follow=True))
    assert "Decided. The payout goes on from there." in page
    payout.refresh_from_db()
    assert payout.state == Payout.State.APPROVED


def test_a_comparison_shows_its_figures_beside_each_other(paying: World, log_in: LogIn) -> None:
    world = paying
    world.contributor(1234)
    world.fund(1234)
    run = world.pay(world.executing())
    found = comparison.reconcile_run(run=run, at=world.at + timedelta(seconds=1))
    assert found.is_clean
    page = words_of(log_in(world.checker).get(reverse(PAGE)))
    assert "1 attempts, 1 transfers, 1 balance transactions" in page
    assert "USD 12.34 USD 12.34" in page
    run.refresh_from_db()
    assert run.state == PayoutRun.State.RECONCILED


def test_reconciling_too_early_is_refused_in_words(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    run = world.approved()
    page = words_of(log_in(world.checker).post(reverse("payouts:reconcile", args=[run.public_id]), follow=True))
    assert "Some payouts of the run are not at their end." in page


def test_the_audit_log_shows_who_did_what_and_its_chain_holds(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    run = world.in_review()
    client = log_in(world._user("auditor", "auditor"))
    page = words_of(client.get(reverse("people:audit"), {"q": f"run:{run.public_id}"}))
    assert "Submit run" in page
    assert "Build run" in page
    assert "60 s before" in page
    page = words_of(client.get(reverse("people:audit"), {"check": ""}))
    assert f"The hash of each of the {AuditEvent.objects.count()} lines was computed again" in page
    lines = client.get(reverse("people:audit_csv")).content.decode().splitlines()
    assert len(lines) == AuditEvent.objects.count() + 1


def test_a_line_changed_behind_the_applications_back_is_found(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    world.in_review()
    event = AuditEvent.objects.get(action="build_run")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET LOCAL ROLE tributary_owner")
        cursor.execute("ALTER TABLE people_auditevent DISABLE TRIGGER USER")
        cursor.execute("UPDATE people_auditevent SET action = 'nothing' WHERE sequence = %s", [event.sequence])
        cursor.execute("ALTER TABLE people_auditevent ENABLE TRIGGER USER")
        cursor.execute("SET LOCAL ROLE tributary_app")
    page = words_of(log_in(world.checker).get(reverse("people:audit"), {"check": ""}))
    assert f"The chain is broken at line {event.sequence}" in page


def test_the_inbox_counts_what_stripe_told_us(world: World, log_in: LogIn) -> None:
    for number, state in enumerate(("received", "received", "dead")):
        WebhookEvent.objects.create(
            endpoint="connect",
            event_id=f"evt_{number}",
            type="payout.paid",
            object_id=f"po_{number}",
            created=world.at,
            received_at=world.at,
            livemode=False,
            payload="{}",
            state=state,
            error="Nothing here knows po_2." if state == "dead" else "",
        )
    client = log_in(world.checker)
    page = words_of(client.get(reverse(PAGE)))
    assert "Received 2 on the connect endpoint" in page
    page = words_of(client.get(reverse("payouts:inbox"), {"state": "dead"}))
    assert "Nothing here knows po_2." in page
    assert "po_0" not in page
    assert "Webhooks that nothing here knew 1" in words_of(client.get(reverse("payouts:console")))
