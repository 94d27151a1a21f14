"""One person builds, another approves: the page of each, and the refusals, also of a forged request."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from contributors.operations.people import add_member
from payouts.models import Payout, PayoutRun
from payouts.operations import runs
from people.models import AuditEvent
from tests.worlds.browser import LogIn, words_of
from tests.worlds.world import SEEN, World


def address(name: str, run: PayoutRun) -> str:
    return reverse(f"payouts:{name}", args=[run.public_id])


def sign(client: Client, run: PayoutRun, total: str, content_hash: str | None = None) -> str:
    """Send the approval form; returns the text of the next page."""
    form = {"typed_total": total, "content_hash": content_hash or run.hash_hex}
    return words_of(client.post(address("approve", run), form, follow=True))


@pytest.fixture
def run(world: World) -> PayoutRun:
    world.contributor(1234)
    world.contributor(56789)
    return world.in_review()


def test_a_checker_approves_by_typing_the_total(run: PayoutRun, world: World, log_in: LogIn) -> None:
    client = log_in(world.checker)
    page = words_of(client.get(address("approve", run)))
    assert "USD 580.23" in page
    assert run.hash_hex in page
    assert "Approved. Nothing has been sent yet" in sign(client, run, "580.23")
    run.refresh_from_db()
    assert run.state == PayoutRun.State.APPROVED
    assert run.approved_by == world.checker
    event = AuditEvent.objects.get(action="approve_run")
    assert event.mfa_age_seconds is not None
    assert event.mfa_age_seconds < 60
    assert event.ip == "127.0.0.1"


def test_the_total_may_be_typed_with_its_currency_and_commas(world: World, log_in: LogIn) -> None:
    world.contributor(123_456_700)
    run = world.in_review()
    assert "Approved." in sign(log_in(world.checker), run, "usd 1,234,567.00")


def test_the_maker_sees_why_he_cannot_approve(run: PayoutRun, world: World, log_in: LogIn) -> None:
    client = log_in(world.maker)
    for name in ("run", "approve"):
        page = words_of(client.get(address(name, run)))
        assert "You cannot approve this run" in page
        assert "You built this run, so somebody else has to approve it." in page
    assert "typed_total" not in client.get(address("approve", run)).content.decode()


def test_who_acts_for_a_payee_sees_why_they_cannot_approve(run: PayoutRun, world: World, log_in: LogIn) -> None:
    add_member(contributor=world.contributors[0], user=world.checker, role="viewer", at=world.at)
    client = log_in(world.checker)
    for name in ("run", "approve"):
        page = words_of(client.get(address(name, run)))
        assert f"You act for {world.contributors[0]}, so somebody else has to decide this." in page


def test_the_maker_cannot_approve_by_a_forged_request(run: PayoutRun, world: World, log_in: LogIn) -> None:
    assert world.maker.has_role("finance_checker")
    response = log_in(world.maker).post(
        address("approve", run), {"typed_total": "580.23", "content_hash": run.hash_hex}
    )
    assert response.status_code == 409
    assert "The builder or editor of a run does not approve it." in words_of(response)
    run.refresh_from_db()
    assert (run.state, run.approved_by) == (PayoutRun.State.IN_REVIEW, None)


def test_who_changed_the_run_last_cannot_approve_it_either(run: PayoutRun, world: World, log_in: LogIn) -> None:
    editor = world.second_checker_as_maker()
    part, _ = runs.exclude(run=run, contributors=[world.contributors[0].pk], by=editor, at=world.at, seen=SEEN)
    part = runs.submit_run(run=part, by=world.maker, at=world.at, seen=SEEN)
    client = log_in(editor)
    assert "You changed this run last" in words_of(client.get(address("approve", part)))
    assert "does not approve it" in sign(client, part, "567.89")


@pytest.mark.parametrize("role", ["maker_only", "auditor", "compliance"])
def test_approving_takes_the_role_of_a_checker(run: PayoutRun, world: World, log_in: LogIn, role: str) -> None:
    roles = {"maker_only": "finance_maker"}.get(role, role)
    client = log_in(world._user(role, roles))
    assert "Approving takes the role of a finance checker" in words_of(client.get(address("approve", run)))
    response = client.post(address("approve", run), {"typed_total": "580.23", "content_hash": run.hash_hex})
    assert response.status_code == 403
    assert "needs one of these roles: finance_checker" in words_of(response)
    run.refresh_from_db()
    assert run.state == PayoutRun.State.IN_REVIEW


def test_a_wrong_total_is_refused_in_words(run: PayoutRun, world: World, log_in: LogIn) -> None:
    page = sign(log_in(world.checker), run, "580.32")
    assert "This was refused. Nothing has changed." in page
    assert "The total that you typed is not the total of the run." in page


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("about 580", "is no number, such as 1250.50"),
        ("580.2311", "it has parts of a minor unit"),
        ("580.231", "has two readings"),
        ("-580.23", "An amount below zero makes no sense here."),
        ("", "This field is required."),
    ],
)
def test_a_total_that_is_no_amount_is_marked_at_its_field(
    run: PayoutRun, world: World, log_in: LogIn, typed: str, said: str
) -> None:
    response = log_in(world.checker).post(address("approve", run), {"typed_total": typed, "content_hash": run.hash_hex})
    assert response.status_code == 422
    assert said in words_of(response)


def test_a_page_that_is_out_of_date_approves_nothing(run: PayoutRun, world: World, log_in: LogIn) -> None:
    page = sign(log_in(world.checker), run, "580.23", "00" * 32)
    assert "The run changed since you opened it; look at it again." in page
    run.refresh_from_db()
    assert run.state == PayoutRun.State.IN_REVIEW


def test_a_page_opened_before_somebody_was_excluded_approves_nothing(
    run: PayoutRun, world: World, log_in: LogIn
) -> None:
    opened_with = run.hash_hex
    part, _ = runs.exclude(run=run, contributors=[world.contributors[0].pk], by=world.maker, at=world.at)
    part = runs.submit_run(run=part, by=world.maker, at=world.at, seen=SEEN)
    assert "The run changed since you opened it" in sign(log_in(world.checker), part, "567.89", opened_with)
    assert "Approved." in sign(log_in(world.checker), part, "567.89")


def test_a_review_of_more_than_72_hours_has_expired(db: None, at: datetime, log_in: LogIn) -> None:
    world = World(at - timedelta(hours=73))
    world.policy()
    world.contributor(1234)
    run = world.in_review()
    assert "has been in review for more than 72 hours" in sign(log_in(world.checker), run, "12.34")


def test_approving_asks_for_a_second_factor_of_the_last_five_minutes(
    run: PayoutRun, world: World, log_in: LogIn
) -> None:
    client = log_in(world.checker, factor_age=301)
    response = client.get(address("approve", run))
    assert response.status_code == 302
    assert "reauthenticate" in response["Location"]
    form = {"typed_total": "580.23", "content_hash": run.hash_hex}
    referrer = f"http://testserver{address('approve', run)}"
    response = client.post(address("approve", run), form, headers={"referer": referrer})
    assert "reauthenticate" in response["Location"]
    run.refresh_from_db()
    assert run.state == PayoutRun.State.IN_REVIEW


def test_above_the_limit_a_second_person_has_to_approve_too(world: World, log_in: LogIn) -> None:
    world.policy(second_approval_minor=1000)
    world.contributor(5000)
    run = world.in_review()
    first = log_in(world.checker)
    assert "A second person has to approve as well." in sign(first, run, "50.00")
    assert "a second person has to approve it too" in words_of(first.get(address("approve", run)))
    assert "a second person must" in sign(first, run, "50.00")
    second = log_in(world.second_checker)
    assert f"You are the second, after {world.checker}" in words_of(second.get(address("approve", run)))
    assert "Approved." in sign(second, run, "50.00")
    run.refresh_from_db()
    assert run.state == PayoutRun.State.APPROVED


def test_a_run_is_sent_back_with_a_reason_and_built_again(run: PayoutRun, world: World, log_in: LogIn) -> None:
    checker, maker = log_in(world.checker), log_in(world.maker)
    assert checker.post(address("reject", run), {"reason": " "}).status_code == 422
    reason = "C2 asked us to wait for their new bank account."
    page = words_of(checker.post(address("reject", run), {"reason": reason}, follow=True))
    assert "Sent back with your reason." in page
    assert reason in words_of(maker.get(address("run", run)))
    response = maker.post(address("rebuild", run))
    successor = PayoutRun.objects.get(supersedes=run)
    assert response["Location"] == address("run", successor)
    assert "the rejected USD run" in words_of(maker.get(address("run", successor)))


def test_the_maker_cannot_reject(run: PayoutRun, world: World, log_in: LogIn) -> None:
    maker = world._user("only", "finance_maker")
    response = log_in(maker).post(address("reject", run), {"reason": "no"})
    assert response.status_code == 403
    run.refresh_from_db()
    assert run.state == PayoutRun.State.IN_REVIEW


def test_somebody_is_excluded_into_a_run_of_their_own(run: PayoutRun, world: World, log_in: LogIn) -> None:
    client, small = log_in(world.maker), world.contributors[0]
    page = words_of(client.post(address("exclude", run), {"contributor": [small.pk]}, follow=True))
    assert "1 taken out into a run of their own." in page
    run.refresh_from_db()
    assert (run.state, run.n_payouts, run.total_minor) == (PayoutRun.State.DRAFT, 1, 56789)
    aside = PayoutRun.objects.get(split_from=run)
    assert "Split off from another run" in words_of(client.get(address("run", aside)))
    assert client.post(address("exclude", run), {}).status_code == 422
    page = words_of(client.post(address("take_up", aside), follow=True))
    assert "Another USD run is open; finish it first." in page


def test_a_cancelled_run_leaves_everything_payable(run: PayoutRun, world: World, log_in: LogIn) -> None:
    owed = world.payable(world.contributors[1])
    client = log_in(world.maker)
    assert "Everything in it stays payable" in words_of(client.get(address("cancel", run)))
    assert "Cancelled." in words_of(client.post(address("cancel", run), follow=True))
    assert world.payable(world.contributors[1]) == owed
    response = client.post(address("cancel", run))
    assert response.status_code == 409
    assert "A run that is cancelled cannot be cancelled." in words_of(response)


def test_an_approval_that_expired_executes_nothing(at: datetime, db: None, sandbox: object, log_in: LogIn) -> None:
    world = World(at - timedelta(hours=73))
    world.policy()
    world.contributor(1234)
    run = world.approved()
    response = log_in(world.checker).post(address("execute", run))
    assert response.status_code == 409
    assert "The approval has expired; cancel the run and build it again." in words_of(response)
    assert not Payout.objects.exclude(state=Payout.State.APPROVED).exists()


def test_the_kill_switch_is_shown_and_stops_the_start(
    world: World, log_in: LogIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.contributor(1234)
    run = world.approved()
    monkeypatch.setattr(settings, "PAYOUTS_FROZEN", True)
    client = log_in(world.checker)
    for url in (reverse("payouts:console"), reverse("payouts:runs"), address("run", run)):
        assert "Payouts are frozen" in words_of(client.get(url))
    response = client.post(address("execute", run))
    assert "Payouts are frozen for the whole installation" in words_of(response)
    run.refresh_from_db()
    assert run.state == PayoutRun.State.APPROVED


def test_executing_asks_for_the_second_factor_again(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    run = world.approved()
    response = log_in(world.checker, factor_age=301).post(address("execute", run))
    assert "reauthenticate" in response["Location"]
    run.refresh_from_db()
    assert run.state == PayoutRun.State.APPROVED
