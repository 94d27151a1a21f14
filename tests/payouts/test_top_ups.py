"""A top-up and all that Stripe may answer: asked for once, looked up after any doubt, booked once it arrived."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction

from ledger.models import Line
from ledger.money import from_minor
from payouts.models import Difference, Notice, TopUp
from payouts.operations import funding
from payouts.queries import attention, balances
from payouts.rails.stripe import calls, values
from payouts.reconciliation import sweeping
from people import actor
from tests.payouts.test_webhooks import apply, event_of
from tests.worlds.world import SEEN, World

TOP_UPS = "/v1/topups"


@pytest.fixture
def slow(paying: World) -> Iterator[World]:
    """Stripe takes four days for a top-up."""
    assert paying.sandbox is not None
    paying.sandbox.settings(topup_seconds=4 * 86_400)
    yield paying
    paying.sandbox.settings(topup_seconds=0)
    # A top-up that this test left under way must not arrive in the next one.
    paying.sandbox.advance(days=5)


def at_stripe(topup: TopUp) -> list[values.ToppedUp]:
    since = topup.requested_at - timedelta(days=1)
    return [made for made in calls.list_topups(since=since) if made.key == topup.idempotency_key]


def sweep(world: World, **later: float) -> TopUp:
    moment = world.at + timedelta(**later)
    sweeping.sweep_stuck(at=moment, threads=1, clock=lambda: moment)
    return TopUp.objects.get()


def agrees(world: World) -> bool:
    return balances.ledger_stripe_balance("USD") == from_minor(calls.balance().total("USD"), "USD")


def test_a_top_up_that_takes_days_is_read_until_it_arrives_and_never_asked_for_again(slow: World) -> None:
    assert slow.sandbox is not None
    slow.fund(5_000)
    first = TopUp.objects.get().provider_topup_id
    # Stripe forgets the key meanwhile.
    slow.sandbox.advance(hours=25)
    topup = sweep(slow, hours=25)
    assert (topup.state, topup.provider_topup_id, topup.sends) == ("requested", first, 1)
    slow.sandbox.advance(days=4)
    topup = sweep(slow, days=5)
    assert (topup.state, topup.provider_topup_id) == ("succeeded", first)
    assert len(at_stripe(topup)) == 1
    assert agrees(slow)


def test_the_event_of_its_arrival_books_a_top_up(slow: World) -> None:
    assert slow.sandbox is not None
    slow.fund(5_000)
    topup = TopUp.objects.get()
    slow.sandbox.advance(days=5)
    for number in (1, 2):
        assert apply(event_of("topup.succeeded", str(topup.provider_topup_id), number=number), slow) == "applied"
    topup.refresh_from_db()
    assert topup.state == "succeeded"
    assert agrees(slow)


def taken_back(world: World, *, times: int) -> TopUp:
    """A top-up of USD 50.00 that the bank took back, of which Stripe told so many times."""
    assert world.sandbox is not None
    world.fund(5_000)
    topup = TopUp.objects.get()
    name = str(topup.provider_topup_id)
    world.sandbox.reverse_topup(name)
    for number in range(1, times + 1):
        assert apply(event_of("topup.reversed", name, number=number), world) == "applied"
    topup.refresh_from_db()
    return topup


def test_a_top_up_that_the_bank_takes_back_is_booked_back_once_and_said(paying: World) -> None:
    topup = taken_back(paying, times=2)
    assert topup.state == "reversed"
    assert topup.reversal_entry is not None
    lines = Line.objects.filter(entry_id=topup.reversal_entry).values_list("account__kind", "amount")
    assert dict(lines) == {"stripe_balance": 50 * 10**9, "bank": -50 * 10**9}
    assert agrees(paying)
    assert "took back a top-up of USD 50.00" in Notice.objects.get(kind="top_up_reversed").words


def test_the_form_of_a_top_up_that_was_taken_back_says_so_and_does_not_speak_of_its_arrival(paying: World) -> None:
    topup = taken_back(paying, times=1)
    with pytest.raises(funding.UnableToFund, match="The bank took it back"):
        funding.fund_platform(
            currency="USD", amount_minor=5_000, by=paying.maker, at=paying.at, public_id=topup.public_id, seen=SEEN
        )
    assert len(at_stripe(topup)) == 1


def test_a_reversal_that_comes_before_the_arrival_was_known_books_both(slow: World) -> None:
    assert slow.sandbox is not None
    slow.fund(5_000)
    slow.sandbox.advance(days=5)
    slow.sandbox.reverse_topup(str(TopUp.objects.get().provider_topup_id))
    topup = sweep(slow, days=6)
    assert topup.state == "reversed"
    assert None not in (topup.entry, topup.reversal_entry)
    assert agrees(slow)


def test_the_database_refuses_a_reversal_that_is_not_booked_or_of_what_never_arrived(slow: World) -> None:
    slow.fund(5_000)
    for change in ({"state": "reversed", "reversal_entry": 1}, {"reversal_entry": 1}):
        with pytest.raises(IntegrityError), transaction.atomic():
            TopUp.objects.update(**change)


def test_the_event_of_a_top_up_whose_answer_was_lost_brings_its_number(slow: World) -> None:
    assert slow.sandbox is not None
    slow.sandbox.queue_faults(*["drop_after"] * 3, path=TOP_UPS)
    with pytest.raises(funding.UnableToFund, match="did not say"):
        slow.fund(5_000)
    topup = TopUp.objects.get()
    (made,) = at_stripe(topup)
    assert apply(event_of("topup.created", made.id), slow) == "applied"
    topup.refresh_from_db()
    assert (topup.state, topup.provider_topup_id) == ("requested", made.id)


@pytest.mark.parametrize("fault", ["drop_after", "500_after"])
def test_a_top_up_whose_answer_was_lost_is_found_in_stripes_list(paying: World, fault: str) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults(*[fault] * 3, path=TOP_UPS)
    with pytest.raises(funding.UnableToFund, match="did not say"):
        paying.fund(4_000)
    topup = sweep(paying, minutes=5)
    assert (topup.state, topup.sends) == ("succeeded", 1)
    assert agrees(paying)


def test_a_top_up_that_never_arrived_is_sent_again_under_its_key(paying: World) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults(*["drop_before"] * 3, path=TOP_UPS)
    with pytest.raises(funding.UnableToFund):
        paying.fund(4_000)
    topup = sweep(paying, minutes=5)
    assert (topup.state, topup.sends) == ("succeeded", 2)
    assert agrees(paying)


def test_a_refused_key_says_nothing_of_an_earlier_send(paying: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults(*["drop_before"] * 3, path=TOP_UPS)
    with pytest.raises(funding.UnableToFund):
        paying.fund(4_000)
    with monkeypatch.context() as revoked:
        revoked.setattr(settings, "STRIPE_SECRET_KEY", "sk_test_revoked")
        topup = sweep(paying, minutes=5)
    assert (topup.state, topup.sends) == ("requested", 2)
    assert sweep(paying, minutes=10).state == "succeeded"
    assert agrees(paying)


def test_a_key_that_stripe_refuses_at_once_ends_the_top_up(paying: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as revoked:
        revoked.setattr(settings, "STRIPE_SECRET_KEY", "sk_test_revoked")
        with pytest.raises(funding.UnableToFund, match="refused"):
            paying.fund(4_000)
    topup = sweep(paying, minutes=5)
    assert (topup.state, topup.entry) == ("failed", None)
    assert at_stripe(topup) == []


def test_a_top_up_without_an_answer_is_not_sent_once_stripe_may_have_forgotten_its_key(paying: World) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults(*["drop_before"] * 3, path=TOP_UPS)
    with pytest.raises(funding.UnableToFund):
        paying.fund(4_000)
    topup = sweep(paying, hours=20)
    assert (topup.state, topup.sends, at_stripe(topup)) == ("failed", 1, [])
    difference = Difference.objects.get(type="missing_remote")
    assert (difference.subject, difference.expected) == (topup.idempotency_key, "4000")


def test_a_second_top_up_of_one_request_is_a_difference_and_never_takes_its_place(paying: World) -> None:
    assert paying.sandbox is not None
    paying.fund(4_000)
    topup = TopUp.objects.get()
    twin = paying.sandbox.client().v1.topups.create(
        {"amount": 4_000, "currency": "usd", "metadata": {"topup": topup.idempotency_key}}
    )
    for number in (1, 2):
        assert apply(event_of("topup.succeeded", twin.id, number=number), paying) == "applied"
    first = topup.provider_topup_id
    topup.refresh_from_db()
    assert topup.provider_topup_id == first
    difference = Difference.objects.get(type="duplicate_group")
    assert (difference.subject, difference.expected, difference.found) == (twin.id, first, "4000")
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        TopUp.objects.update(provider_topup_id=twin.id)


def test_a_top_up_that_arrives_after_it_was_given_up_is_a_difference(paying: World) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults(*["drop_before"] * 3, path=TOP_UPS)
    with pytest.raises(funding.UnableToFund):
        paying.fund(4_000)
    topup = sweep(paying, hours=20)
    made = paying.sandbox.client().v1.topups.create(
        {"amount": 4_000, "currency": "usd", "metadata": {"topup": topup.idempotency_key}}
    )
    assert apply(event_of("topup.succeeded", made.id), paying) == "applied"
    assert Difference.objects.get(type="missing_local").subject == made.id


def test_what_stripe_took_in_another_amount_is_a_difference(slow: World) -> None:
    assert slow.sandbox is not None
    slow.sandbox.queue_faults(*["drop_before"] * 3, path=TOP_UPS)
    with pytest.raises(funding.UnableToFund):
        slow.fund(4_000)
    topup = TopUp.objects.get()
    made = slow.sandbox.client().v1.topups.create(
        {"amount": 400, "currency": "usd", "metadata": {"topup": topup.idempotency_key}}
    )
    assert apply(event_of("topup.created", made.id), slow) == "applied"
    topup.refresh_from_db()
    assert (topup.state, topup.provider_topup_id) == ("requested", None)
    assert Difference.objects.get(type="amount").found == "USD 4.00"


def test_a_top_up_made_at_stripe_appears_and_is_booked_once_by_one_person(slow: World) -> None:
    assert slow.sandbox is not None
    made = slow.sandbox.client().v1.topups.create(
        {"amount": 4_321, "currency": "usd", "metadata": {"topup": "not a number, and yet 32 letters"}}
    )
    assert apply(event_of("topup.created", made.id), slow) == "applied"
    topup = TopUp.objects.get()
    assert (topup.state, topup.amount_minor, topup.requested_by) == ("found", 4_321, None)
    [waiting] = attention.groups(at=slow.at, limit=5, kind="top_up_found")
    assert "43.21" in waiting.items[0].title
    with pytest.raises(funding.UnableToFund, match="not arrived"):
        funding.book_top_up(topup=topup, by=slow.maker, at=slow.at, seen=SEEN)
    slow.sandbox.advance(days=5)
    assert apply(event_of("topup.succeeded", made.id, number=2), slow) == "applied"
    assert TopUp.objects.get().state == "found"
    with pytest.raises(actor.UnableToAct):
        funding.book_top_up(topup=topup, by=slow.owner, at=slow.at, seen=SEEN)
    topup = funding.book_top_up(topup=topup, by=slow.maker, at=slow.at, seen=SEEN)
    assert (topup.state, topup.booked_by) == ("succeeded", slow.maker)
    assert agrees(slow)
    with pytest.raises(funding.UnableToFund, match="not waiting"):
        funding.book_top_up(topup=topup, by=slow.checker, at=slow.at, seen=SEEN)
    # The bank takes it back.
    slow.sandbox.reverse_topup(made.id)
    assert apply(event_of("topup.reversed", made.id, number=3), slow) == "applied"
    assert TopUp.objects.get().state == "reversed"
    assert agrees(slow)


def test_a_top_up_made_at_stripe_that_failed_is_not_booked(paying: World) -> None:
    found = values.ToppedUp(id="tu_1", amount_minor=100, currency="USD", state="pending", key="")
    topup = funding.note_top_up(made=found, at=paying.at)
    assert topup is not None
    funding.apply_top_up(topup=topup, made=dataclasses.replace(found, state="failed"), at=paying.at)
    topup.refresh_from_db()
    assert (topup.state, topup.entry) == ("failed", None)
    assert funding.note_top_up(made=dataclasses.replace(found, id="tu_2", state="canceled"), at=paying.at) is None
    assert funding.note_top_up(made=dataclasses.replace(found, id="tu_3", currency="XTS"), at=paying.at) is None
