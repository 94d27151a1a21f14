"""One payout and all that Stripe may answer: repeated requests, their keys, and the conditions for giving up."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from ledger.money import from_minor
from payouts.attempts import crew, execution, recording
from payouts.attempts.pace import LIVE
from payouts.models import Difference, Payout, PayoutAttempt, PayoutRun
from payouts.operations import approval, closing, holds
from payouts.rails.stripe import calls, errors, values
from payouts.rails.stripe.client import boot_clock
from payouts.reconciliation import comparison
from people import actor
from stripe_sandbox.models import PLATFORM
from tests.worlds.world import SEEN, World, only, states


def attempts(run: PayoutRun) -> list[tuple[int, str]]:
    found = PayoutAttempt.objects.filter(payout__run=run).order_by("number")
    return [(attempt.number, attempt.state) for attempt in found]


def transfers(run: PayoutRun) -> int:
    return sum(len(calls.find_transfers(payout.transfer_group)) for payout in run.payouts.all())


@pytest.fixture
def run(paying: World) -> PayoutRun:
    paying.contributor(1_000)
    return paying.executing()


@pytest.mark.parametrize("fault", ["drop_after", "500_after"])
def test_an_answer_that_was_lost_is_found_by_looking(paying: World, run: PayoutRun, fault: str) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults(fault)
    paying.pay(run)
    assert states(run) == ["unknown"]
    paying.pay(run, seconds=61)
    assert states(run) == ["transferred"]
    assert attempts(run) == [(1, "succeeded")]
    assert transfers(run) == 1
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean


def test_a_request_that_never_arrived_is_sent_again_under_its_key(paying: World, run: PayoutRun) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("drop_before")
    paying.pay(run)
    assert states(run) == ["unknown"]
    paying.pay(run, seconds=6)
    assert attempts(run) == [(1, "succeeded")]
    assert PayoutAttempt.objects.get(payout__run=run).sends == 2


@pytest.mark.parametrize("fault", ["429", "409"])
def test_what_stripe_did_not_even_try_is_sent_again_under_its_key(paying: World, run: PayoutRun, fault: str) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults(fault)
    paying.pay(run)
    assert states(run) == ["sending"]
    paying.pay(run, seconds=6)
    assert attempts(run) == [(1, "succeeded")]


def test_a_stored_failure_takes_two_look_ups_a_quarter_of_an_hour_apart_before_a_new_key(
    paying: World, run: PayoutRun
) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("500_before")
    paying.pay(run)
    paying.pay(run, seconds=61)  # looked, found nothing, sent again: the same failure, from Stripe's store
    assert attempts(run) == [(1, "unknown")]
    assert PayoutAttempt.objects.get(payout__run=run).failure_stored_at is not None
    paying.pay(run, seconds=61 + 899)
    assert attempts(run) == [(1, "unknown")]
    paying.pay(run, seconds=61 + 901)
    assert attempts(run) == [(1, "void")]
    assert states(run) == ["approved"]
    paying.pay(run, seconds=61 + 901 + 59)
    assert attempts(run) == [(1, "void")], "no new key before the old lease has ended and a minute more"
    paying.pay(run, seconds=61 + 901 + 121)
    assert attempts(run) == [(1, "void"), (2, "succeeded")]
    keys = list(PayoutAttempt.objects.filter(payout__run=run).values_list("idempotency_key", flat=True))
    assert len(set(keys)) == 2
    assert transfers(run) == 1
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean


def test_after_twenty_hours_without_an_answer_a_person_decides(paying: World, run: PayoutRun) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("drop_before")
    paying.pay(run)
    paying.pay(run, seconds=20 * 3600 + 1)
    payout = only(run)
    assert payout.needs_person_since is not None
    paying.pay(run, seconds=30 * 3600)
    assert attempts(run) == [(1, "unknown")], "never a new key by itself"
    with pytest.raises(closing.UnableToDecide, match="no transfer tr_1"):
        closing.decide_unknown(
            payout=payout, paid_transfer_id="tr_1", by=paying.checker, note="x", at=paying.at, seen=SEEN
        )
    later = paying.at + timedelta(hours=30)
    closing.decide_unknown(
        payout=payout, paid_transfer_id=None, by=paying.checker, note="not in the dashboard", at=later, seen=SEEN
    )
    assert attempts(run) == [(1, "void")]
    paying.pay(run, seconds=31 * 3600)
    assert attempts(run) == [(1, "void"), (2, "succeeded")]
    assert transfers(run) == 1


def test_a_person_cannot_say_that_what_stripe_lists_was_not_paid(paying: World, run: PayoutRun) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("drop_after")
    paying.pay(run)
    Payout.objects.filter(run=run).update(needs_person_since=paying.at)
    with pytest.raises(closing.UnableToDecide, match="it was paid"):
        closing.decide_unknown(
            payout=only(run), paid_transfer_id=None, by=paying.checker, note="x", at=paying.at, seen=SEEN
        )
    (found,) = calls.find_transfers(only(run).transfer_group)
    closing.decide_unknown(
        payout=only(run), paid_transfer_id=found.id, by=paying.checker, note="seen", at=paying.at, seen=SEEN
    )
    assert states(run) == ["transferred"]


def test_a_transfer_that_is_not_what_was_approved_is_taken_back_and_then_decided(paying: World, run: PayoutRun) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("drop_before")
    payout = only(paying.pay(run))
    client = paying.sandbox.client()
    odd = client.v1.transfers.create(
        {
            "amount": 900,
            "currency": "usd",
            "destination": payout.destination,
            "transfer_group": payout.transfer_group,
            "metadata": {"payout": payout.public_id.hex, "attempt": "1"},
        }
    )
    paying.pay(run, seconds=6)

    def decide(transfer: str | None) -> None:
        closing.decide_unknown(
            payout=only(run), paid_transfer_id=transfer, by=paying.checker, note="x", at=paying.at, seen=SEEN
        )

    with pytest.raises(closing.UnableToDecide, match="differs from the approval"):
        decide(odd.id)
    with pytest.raises(closing.UnableToDecide, match="it was paid"):
        decide(None)
    assert states(run) == ["unknown"]
    client.v1.transfers.reversals.create(odd.id, {"amount": 900})
    stale = only(run)
    decide(None)
    assert (states(run), attempts(run)) == (["approved"], [(1, "void")])
    with pytest.raises(closing.UnableToDecide, match="no longer waits"):
        closing.decide_unknown(
            payout=stale, paid_transfer_id=None, by=paying.checker, note="x", at=paying.at, seen=SEEN
        )
    approval.resume_run(run=run, by=paying.compliance, at=paying.at, seen=SEEN)
    # The next attempt's answer is lost too, and the look-up meets the old transfer again.
    paying.sandbox.queue_faults("drop_before")
    paying.pay(run, seconds=3_600)
    paying.pay(run, seconds=3_700)
    assert (states(run), attempts(run)) == (["transferred"], [(1, "void"), (2, "succeeded")])


def test_without_the_money_the_run_pauses_and_resuming_tries_again_under_a_new_key(
    paying: World, run: PayoutRun
) -> None:
    assert paying.sandbox is not None
    balance = calls.balance().available["USD"]
    paying.sandbox.adjust(PLATFORM, -balance)
    try:
        run = paying.pay(run)
        assert (run.state, run.pause_code) == (PayoutRun.State.PAUSED, "balance_insufficient")
        assert states(run) == ["refused"]
        assert attempts(run) == [(1, "refused")]
        assert paying.payable(paying.contributors[0]) == from_minor(1_000, "USD")
    finally:
        paying.sandbox.adjust(PLATFORM, balance)
    run = approval.resume_run(run=run, by=paying.checker, at=paying.at, seen=SEEN)
    paying.pay(run)
    assert attempts(run) == [(1, "refused"), (2, "succeeded")]
    assert transfers(run) == 1


def test_a_refused_payee_is_held_and_told_and_the_others_are_paid(paying: World) -> None:
    assert paying.sandbox is not None
    refused, paid = paying.contributor(1_000), paying.contributor(2_000)
    run = paying.executing()
    # Stripe knows of the review first; our copy of the account still says active.
    paying.sandbox.happens(paying.account(refused), "reject")
    run = paying.pay(run)
    assert states(run) == ["held", "transferred"]
    held = run.payouts.get(contributor=refused)
    assert held.attempts.get().state == "refused"
    assert paying.payable(refused) == from_minor(1_000, "USD")
    assert refused.notices.filter(kind="payout_held").exists()
    assert refused.holds.filter(released_at__isnull=True).exists()
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean
    assert paid.payouts.get().state == "transferred"


def test_a_worker_that_wakes_late_in_its_lease_writes_nothing(paying: World, run: PayoutRun) -> None:
    moment = paying.at
    late = replace(LIVE, lease=35.0)  # the margin takes all of it
    crew.execute_run(run_id=run.pk, threads=1, clock=lambda: moment, pace=late)
    assert transfers(run) == 0
    attempt = PayoutAttempt.objects.get(payout__run=run)
    assert (attempt.state, attempt.sends, attempt.sends_not_executed) == ("sent", 1, 1)
    paying.pay(run, seconds=10)
    assert attempts(run) == [(1, "succeeded")]


def test_other_bytes_than_those_written_down_are_never_sent(paying: World, run: PayoutRun) -> None:
    request = calls.transfer_request(
        amount_minor=1, currency="USD", destination="acct_1", transfer_group="g", metadata={"a": "b c&d"}
    )
    other = values.TransferRequest(request.body.replace("amount=1", "amount=01"))
    assert values.TransferRequest(request.body).params == request.params

    class Swapped(values.TransferRequest):
        @property
        def sha256(self) -> bytes:
            return other.sha256

    with pytest.raises(errors.UnableToSend, match="differs") as caught:
        calls.create_transfer(Swapped(request.body), idempotency_key="k", deadline=boot_clock() + 9)
    assert caught.value.verdict.action == errors.Action.FREEZE_RUN


def test_a_success_is_recorded_even_when_the_lease_is_lost(paying: World, run: PayoutRun) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("drop_after")
    paying.pay(run)
    payout = only(run)
    (transfer,) = calls.find_transfers(payout.transfer_group)
    attempt = payout.attempts.get()
    Payout.objects.filter(pk=payout.pk).update(lease_token="00000000-0000-0000-0000-000000000001")
    assert recording.record_transfer(attempt_id=attempt.pk, transfer=transfer, at=paying.at)
    assert not recording.record_transfer(attempt_id=attempt.pk, transfer=transfer, at=paying.at)
    assert states(run) == ["transferred"]


def test_a_second_transfer_for_an_attempt_freezes_the_run(paying: World, run: PayoutRun) -> None:
    paying.pay(run)
    payout = only(run)
    (transfer,) = calls.find_transfers(payout.transfer_group)
    other = replace(transfer, id="tr_another")
    assert not recording.record_transfer(attempt_id=payout.attempts.get().pk, transfer=other, at=paying.at)
    run.refresh_from_db()
    assert run.is_frozen
    assert Difference.objects.get().type == "duplicate_group"
    with pytest.raises(actor.UnableToAct):
        approval.resume_run(run=run, by=paying.maker, at=paying.at, seen=SEEN)
    approval.resume_run(run=run, by=paying.compliance, at=paying.at, seen=SEEN)
    assert not comparison.reconcile_run(run=run, at=paying.at).is_clean, "only a person explains a double payment"


@pytest.mark.parametrize(
    ("change", "type_"),
    [
        ({"amount_minor": 999}, "amount"),
        ({"currency": "EUR"}, "currency"),
        ({"destination": "acct_other"}, "destination"),
        ({"metadata": {}}, "unknown_type"),
    ],
)
def test_a_transfer_that_is_not_what_was_approved_is_never_booked(
    paying: World, run: PayoutRun, change: dict[str, object], type_: str
) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("drop_after")
    paying.pay(run)
    payout = only(run)
    (transfer,) = calls.find_transfers(payout.transfer_group)
    odd = replace(transfer, **change)  # type: ignore[arg-type]
    assert not recording.record_transfer(attempt_id=payout.attempts.get().pk, transfer=odd, at=paying.at)
    run.refresh_from_db()
    assert run.is_frozen
    assert Difference.objects.get().type == type_
    assert only(run).needs_person_since is not None


def test_a_pause_or_a_hold_stops_the_sending_but_not_the_looking(paying: World, run: PayoutRun) -> None:
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("drop_before")
    paying.pay(run)
    approval.pause_run(run=run, by=paying.maker, note="wait", at=paying.at, seen=SEEN)
    paying.pay(run, seconds=10)
    assert (attempts(run), transfers(run)) == ([(1, "unknown")], 0)
    approval.resume_run(run=run, by=paying.maker, at=paying.at, seen=SEEN)
    hold = holds.place_hold(
        contributor=paying.contributors[0], reason="fraud_review", by=paying.compliance, at=paying.at, seen=SEEN
    )
    paying.pay(run, seconds=400)
    assert (attempts(run), transfers(run)) == ([(1, "unknown")], 0)
    holds.release_hold(hold=hold, by=paying.compliance, at=paying.at + timedelta(seconds=500), seen=SEEN)
    paying.pay(run, seconds=900)
    assert attempts(run) == [(1, "succeeded")]


def test_a_row_that_differs_from_what_was_approved_freezes_the_run(
    paying: World, run: PayoutRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database refuses to change the row; here the code that reads it sees another destination."""
    monkeypatch.setattr(execution, "row_sha256", lambda payout: b"other")
    run = paying.pay(run)
    assert run.is_frozen
    assert states(run) == ["approved"]
    with pytest.raises(actor.UnableToAct):
        approval.resume_run(run=run, by=paying.maker, at=paying.at, seen=SEEN)


def test_a_key_that_stripe_refuses_stops_the_run_and_nothing_is_retried(
    paying: World, run: PayoutRun, settings: object
) -> None:
    right = settings.STRIPE_SECRET_KEY  # type: ignore[attr-defined]
    settings.STRIPE_SECRET_KEY = "sk_test_wrong"  # type: ignore[attr-defined]
    run = paying.pay(run)
    assert (run.state, run.pause_code) == (PayoutRun.State.PAUSED, "stripe_refuses_our_key")
    assert attempts(run) == [(1, "refused")]
    settings.STRIPE_SECRET_KEY = right  # type: ignore[attr-defined]
    approval.resume_run(run=run, by=paying.maker, at=paying.at, seen=SEEN)
    paying.pay(run)
    assert attempts(run) == [(1, "refused"), (2, "succeeded")]


def test_the_lease_is_measured_on_a_clock_that_runs_while_the_machine_sleeps() -> None:
    assert abs(boot_clock() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1
