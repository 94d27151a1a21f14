"""Our rows, the ledger and Stripe, compared; and the handling of a difference."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger import journal
from ledger.journal import AccountKey
from ledger.money import from_minor
from payouts.models import Difference, PayoutRun, Reconciliation, TopUp
from payouts.operations import closing, funding, reversals
from payouts.queries import balances
from payouts.rails.stripe import calls
from payouts.reconciliation import comparison, sweeping
from stripe_sandbox.models import PLATFORM
from tests.worlds.manual import post_by_hand
from tests.worlds.world import SEEN, World, only


def types() -> list[str]:
    return sorted(Difference.objects.filter(state="open").values_list("type", flat=True))


def test_a_run_with_payouts_under_way_is_not_reconciled(paying: World) -> None:
    paying.contributor(1_000)
    with pytest.raises(comparison.UnableToReconcile):
        comparison.reconcile_run(run=paying.executing(), at=paying.at)


def test_a_transfer_that_was_recorded_for_a_run_but_is_not_ours_is_found(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(1_000)
    run = paying.pay(paying.executing())
    stranger = paying.sandbox.client().v1.transfers.create(
        {
            "amount": 250,
            "currency": "usd",
            "destination": paying.account(contributor),
            "transfer_group": only(run).transfer_group,
            "metadata": {"run": run.public_id.hex},
        }
    )
    record = comparison.reconcile_run(run=run, at=paying.at)
    assert not record.is_clean
    assert types() == ["duplicate_group", "ledger_balance", "missing_local"]
    assert stranger.id in Difference.objects.values_list("subject", flat=True)
    run.refresh_from_db()
    assert run.state == PayoutRun.State.EXECUTING
    # The same comparison again opens nothing twice.
    assert comparison.reconcile_run(run=run, at=paying.at).n_differences == record.n_differences


def test_a_difference_ends_when_a_later_comparison_no_longer_finds_it(paying: World) -> None:
    assert paying.sandbox is not None
    paying.contributor(1_000)
    run = paying.pay(paying.executing())
    paying.sandbox.adjust(PLATFORM, 77)
    assert not comparison.reconcile_run(run=run, at=paying.at).is_clean
    assert types() == ["ledger_balance"]
    paying.sandbox.adjust(PLATFORM, -77)
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean
    assert Difference.objects.get().state == "resolved"
    run.refresh_from_db()
    assert run.state == PayoutRun.State.RECONCILED


def test_a_difference_that_was_signed_off_stays_explained(paying: World) -> None:
    assert paying.sandbox is not None
    paying.contributor(1_000)
    run = paying.pay(paying.executing())
    paying.sandbox.adjust(PLATFORM, 78)
    try:
        comparison.reconcile_run(run=run, at=paying.at)
        closing.sign_off(
            difference=Difference.objects.get(), by=paying.checker, note="a gift from Stripe", at=paying.at, seen=SEEN
        )
        assert comparison.reconcile_run(run=run, at=paying.at).is_clean
    finally:
        paying.sandbox.adjust(PLATFORM, -78)


def test_the_transit_account_is_what_open_attempts_reserve(paying: World) -> None:
    assert paying.sandbox is not None
    paying.contributor(1_000)
    paying.sandbox.queue_faults("drop_before")
    paying.pay(paying.executing())
    assert balances.ledger_in_transit("USD") == balances.live_in_transit("USD") == from_minor(1_000, "USD")
    journal.post(
        kind="write_off",
        idem_key="astray",
        effective=paying.at.date(),
        reference="a test",
        lines=[(AccountKey("programme_cost", "USD"), -5), (AccountKey("payouts_in_transit", "USD", "rail:stripe"), 5)],
    )
    comparison.reconcile_day(currency="USD", day=paying.at.date(), at=paying.at)
    assert "in_transit" in types()


def test_a_day_is_compared_movement_by_movement(paying: World) -> None:
    assert paying.sandbox is not None
    paying.contributor(1_000)
    paying.fund(5_000)
    run = paying.pay(paying.executing())
    payout = only(run)
    reversals.reverse_payout(
        payout=payout, amount_minor=100, by=paying.checker, reason="a test", at=paying.at, seen=SEEN
    )
    (transfer,) = calls.find_transfers(payout.transfer_group)
    comparison.reconcile_day(currency="USD", day=transfer.created.date(), at=paying.at)
    mine = {transfer.id, payout.reversals.get().provider_reversal_id, TopUp.objects.get().provider_topup_id}
    assert not mine & set(Difference.objects.values_list("subject", flat=True)), "what was booked is no difference"
    assert "missing_local" in types(), "what other programmes did with this sandbox is"


def test_after_an_outage_every_day_that_nobody_compared_is_compared(world: World) -> None:
    def days(**later: float) -> list[int]:
        found = comparison.days_to_compare(currency="USD", at=world.at + timedelta(**later))
        return [(day - world.at.date()).days for day in found]

    assert days() == [-1], "where nothing was compared before, yesterday"
    Reconciliation.objects.create(
        kind="day", currency="USD", since=world.at.replace(hour=0) - timedelta(days=1), until=world.at.replace(hour=0),
        n_attempts=0, n_transfers=0, n_balance_transactions=0, ours_minor=0, stripe_minor=0, ledger_balance=0,
        stripe_balance=0, in_transit_ledger=0, in_transit_live=0, n_differences=0, finished_at=world.at,
    )  # fmt: skip
    assert days(hours=1) == [-1], "again: what came late in the day is found by the next hour"
    assert days(days=1) == [0]
    assert days(days=4) == [0, 1, 2, 3]
    assert len(days(days=400)) == 31


def test_what_a_day_did_not_look_at_it_does_not_resolve(paying: World) -> None:
    assert paying.sandbox is not None
    topup = paying.sandbox.client().v1.topups.create({"amount": 300, "currency": "usd"})
    (row,) = [row for row in calls.list_balance_transactions(since=paying.at) if row.source == topup.id]
    day = row.created.date()
    comparison.reconcile_day(currency="USD", day=day, at=paying.at)
    found = Difference.objects.get(subject=topup.id)
    comparison.reconcile_day(currency="USD", day=day + timedelta(days=7), at=paying.at)
    found.refresh_from_db()
    assert found.state == "open", "a week later nobody has explained it"


def test_a_top_up_is_booked_once_when_stripe_has_it(paying: World) -> None:
    before = balances.ledger_stripe_balance("USD")
    paying.fund(1_234)
    topup = TopUp.objects.get()
    assert topup.state == "succeeded"
    assert balances.ledger_stripe_balance("USD") - before == from_minor(1_234, "USD")
    funding.finish_top_up(topup=topup, at=paying.at)
    assert balances.ledger_stripe_balance("USD") - before == from_minor(1_234, "USD")


def test_the_sweep_finishes_what_a_dead_worker_left_and_reconciles(paying: World) -> None:
    assert paying.sandbox is not None
    paying.contributor(1_000)
    paying.sandbox.queue_faults("drop_after")
    run = paying.pay(paying.executing())
    later = paying.at + timedelta(seconds=90)
    sweeping.sweep_stuck(at=later, threads=1, clock=lambda: later)
    run.refresh_from_db()
    assert run.state == PayoutRun.State.RECONCILED


def test_what_a_contributor_owes_back_is_kept_from_what_they_are_paid(paying: World) -> None:
    debtor, other = paying.contributor(2_000), paying.contributor(300)
    for contributor, minor in ((debtor, 700), (other, 900)):
        owed = AccountKey("contributor_receivable", "USD", f"contributor:{contributor.pk}")
        post_by_hand([(owed, -minor * 10**7), (AccountKey("programme_cost", "USD"), minor * 10**7)], paying.at)
    run = paying.built()
    assert only(run).amount_minor == 1_300
    assert run.left_out.get().reason == "negative_balance"


def test_what_is_younger_than_the_delay_waits(paying: World) -> None:
    paying.policy(maturity_days=30)
    contributor = paying.contributor(1_000)
    run = paying.built()
    assert run.matured_before == paying.at - timedelta(days=30)
    # Money that no close credited has no age; money from a recent close waits.
    assert only(run).contributor == contributor


@pytest.mark.parametrize(
    ("currency", "owed", "paid", "left"),
    [("JPY", 12_345, 12_345, 0), ("HUF", 1_234_567, 1_234_500, 67), ("KWD", 12_345, 12_340, 5)],
)
def test_currencies_of_other_decimals_are_paid_in_what_a_rail_can_pay(
    db: None, at: object, currency: str, owed: int, paid: int, left: int
) -> None:
    world = World(at, currency=currency)  # type: ignore[arg-type]
    world.policy(minimum_minor=100)
    contributor = world.contributor(owed)
    payout = only(world.built())
    assert payout.amount_minor == paid
    assert world.payable(contributor) - from_minor(paid, currency) == from_minor(left, currency)
