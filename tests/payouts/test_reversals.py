"""Reversing transfers: the effect of a lost answer, a failed look-up and a late refusal on a sent transfer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings

from payouts.crashpoints import CrashPoint
from payouts.models import Payout, PayoutAttempt, TopUp
from payouts.operations import closing, funding, reversals
from payouts.operations.reversals import UnableToReverse, recover_reversals, reverse_payout
from payouts.queries import payees
from payouts.rails.stripe import calls
from payouts.reconciliation import sweeping
from tests.worlds.world import SEEN, World, only

REVERSALS = "/v1/transfers/*/reversals"


class Killed(BaseException):
    """A worker that died: nothing after it runs, and nothing catches it."""


@pytest.fixture
def payout(paying: World) -> Payout:
    paying.contributor(1_000)
    return only(paying.pay(paying.executing()))


def reverse(paying: World, payout: Payout, *, dies_at: CrashPoint | None = None) -> PayoutAttempt:
    def die(point: CrashPoint) -> None:
        if point == dies_at:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reversals, "crashpoint", die)
        try:
            reverse_payout(
                payout=payout, amount_minor=400, by=paying.checker, reason="overpaid", at=paying.at, seen=SEEN
            )
        except Killed:
            assert dies_at is not None
    return payout.attempts.get(kind="reversal")


def recover(paying: World, *, minutes: float) -> None:
    moment = paying.at + timedelta(minutes=minutes)
    recover_reversals(clock=lambda: moment)


def taken_back(payout: Payout) -> tuple[int, int]:
    """(booked, at Stripe), in minor units."""
    payout.refresh_from_db()
    paid = payout.attempts.get(kind="pay").provider_transfer_id or ""
    return payout.reversed_minor, calls.retrieve_transfer(paid).reversed_minor


@pytest.mark.parametrize("fault", ["", "drop_after", "500_after"])
def test_a_look_up_that_is_refused_says_nothing_of_the_reversal_that_was_sent(
    paying: World, payout: Payout, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    assert paying.sandbox is not None
    if fault:
        paying.sandbox.queue_faults(fault, path=REVERSALS)
    attempt = reverse(paying, payout, dies_at=None if fault else CrashPoint.REVERSAL_ANSWERED)
    before = attempt.state
    with monkeypatch.context() as revoked:
        revoked.setattr(settings, "STRIPE_READ_KEY", "sk_test_revoked")
        recover(paying, minutes=10)
    attempt.refresh_from_db()
    assert attempt.state == before
    with pytest.raises(UnableToReverse, match="under way"):
        reverse(paying, payout)
    recover(paying, minutes=11)
    attempt.refresh_from_db()
    assert attempt.state == "succeeded"
    assert taken_back(payout) == (400, 400)


def test_a_look_up_that_is_put_off_counts_as_no_send(paying: World, payout: Payout) -> None:
    assert paying.sandbox is not None
    attempt = reverse(paying, payout, dies_at=CrashPoint.REVERSAL_COMMITTED)
    paying.sandbox.queue_faults(*["429"] * 3, path=REVERSALS, method="GET")
    recover(paying, minutes=10)
    attempt.refresh_from_db()
    assert (attempt.state, attempt.sends, attempt.sends_not_executed) == ("sent", 1, 0)
    paying.sandbox.clear_faults()
    recover(paying, minutes=11)
    assert taken_back(payout) == (400, 400)


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
def test_a_person_ends_a_reversal_that_has_no_answer_as_stripe_lists_it(
    paying: World, payout: Payout, fault: str
) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults(fault, path=REVERSALS)
    attempt = reverse(paying, payout)
    # Nobody looked for twenty hours, and then Stripe did not answer.
    Payout.objects.filter(pk=payout.pk).update(needs_person_since=paying.at)
    assert [found.pk for found in payees.needs_person()] == [payout.pk]
    payout.refresh_from_db()
    closing.decide_unknown(
        payout=payout, paid_transfer_id=None, by=paying.checker, note="the dashboard", at=paying.at, seen=SEEN
    )
    attempt.refresh_from_db()
    made = 400 if fault == "drop_after" else 0
    assert attempt.state == ("succeeded" if made else "void")
    assert taken_back(payout) == (made, made)
    assert not payees.needs_person().exists()


def test_a_reversal_that_breaks_the_sweep_keeps_no_other_work_waiting(
    paying: World, payout: Payout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("drop_before", path=REVERSALS)
    reverse(paying, payout)
    paying.sandbox.queue_faults(*["drop_before"] * 3, path="/v1/topups")
    with pytest.raises(funding.UnableToFund):
        paying.fund(4_000)
    later = paying.at + timedelta(minutes=5)

    def break_down(point: CrashPoint) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(reversals, "crashpoint", break_down)
        with pytest.raises(ExceptionGroup) as raised:
            sweeping.sweep_stuck(at=later, threads=1, clock=lambda: later)
    assert [str(error) for error in raised.value.exceptions] == ["a fault of ours"]
    assert TopUp.objects.get().state == "succeeded"
    assert only(payout.run).run.reconciliations.exists()


def test_a_key_that_stripe_refuses_later_says_nothing_of_an_earlier_send(
    paying: World, payout: Payout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("drop_before", path=REVERSALS)
    attempt = reverse(paying, payout)
    assert attempt.state == "unknown"
    with monkeypatch.context() as revoked:
        revoked.setattr(settings, "STRIPE_SECRET_KEY", "sk_test_revoked")
        recover(paying, minutes=10)
    attempt.refresh_from_db()
    assert (attempt.state, attempt.sends, attempt.failure_stored_at) == ("unknown", 2, None)
    recover(paying, minutes=16)
    assert taken_back(payout) == (400, 400)
