"""A run from its draft to its filing, and everything on the way that stops it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, transaction

from ledger.models import Entry
from ledger.money import from_minor
from ledger.operations import taxes
from payouts.models import LeftOut, Notice, Payout, PayoutRun
from payouts.operations import accounts, approval, building, closing, holds, runs
from payouts.queries import payees, standing
from payouts.reconciliation import comparison
from people import actor
from people.actor import Presence
from people.models import AuditEvent
from people.operations.proposals import approve
from people.queries import audit as audit_queries
from tests.worlds.world import SEEN, World, only, states


def test_a_run_is_built_reviewed_approved_executed_reconciled_and_closed(paying: World) -> None:
    people = [paying.contributor(1_000 + place) for place in range(3)]
    paying.credit(people[0], 0, nanos=7)

    run = paying.pay(paying.executing())
    record = comparison.reconcile_run(run=run, at=paying.at)
    run.refresh_from_db()

    assert states(run) == ["transferred"] * 3
    assert record.is_clean
    assert record.n_attempts == record.n_transfers == record.n_balance_transactions == 3
    assert record.ours_minor == record.stripe_minor == 3_003
    assert record.ledger_balance == record.stripe_balance
    assert record.in_transit_ledger == record.in_transit_live == 0
    assert run.state == PayoutRun.State.RECONCILED
    assert paying.payable(people[0]) == 7, "what is less than a cent stays owed"
    assert Notice.objects.filter(kind="payout_transferred").count() == 3
    closed = closing.close_run(run=run, by=paying.checker, at=paying.at, seen=SEEN)
    assert closed.state == PayoutRun.State.CLOSED
    assert audit_queries.first_broken_audit_event() is None
    actions = AuditEvent.objects.order_by("sequence").values_list("action", flat=True)
    assert [a for a in actions if "run" in a or "execution" in a] == [
        "build_run",
        "submit_run",
        "approve_run",
        "start_execution",
        "reconcile_run",
        "close_run",
    ]


def test_everybody_with_money_is_paid_or_told_why_not(paying: World) -> None:
    paid = paying.contributor(2_000)
    small = paying.contributor(499)
    held = paying.contributor(3_000)
    new = paying.contributor(4_000, outcome=None)
    unfinished = paying.contributor(5_000, outcome="")
    nobody = paying.contributor(0)
    holds.place_hold(contributor=held, reason="fraud_review", by=paying.compliance, at=paying.at, seen=SEEN)

    run = paying.built()

    assert [payout.contributor_id for payout in run.payouts.all()] == [paid.pk]
    reasons = {row.contributor_id: row for row in run.left_out.all()}
    assert reasons[small.pk].reason == LeftOut.Reason.BELOW_THRESHOLD
    assert "USD 5.00" in reasons[small.pk].words
    assert reasons[held.pk].reason == LeftOut.Reason.HELD
    assert reasons[held.pk].hold_reason == "fraud_review"
    assert reasons[new.pk].reason == reasons[unfinished.pk].reason == LeftOut.Reason.NOT_ONBOARDED
    assert nobody.pk not in reasons
    assert all(row.words and row.remedy for row in reasons.values())
    assert reasons[new.pk].amount == from_minor(4_000, "USD")


def test_what_was_below_the_threshold_is_carried_over_to_the_next_run(paying: World) -> None:
    small, other = paying.contributor(499), paying.contributor(900)
    first = paying.pay(paying.executing())
    comparison.reconcile_run(run=first, at=paying.at)
    paying.credit(small, 2)

    second = paying.pay(paying.executing())

    assert only(second).contributor == small
    assert only(second).amount_minor == 501
    assert only(first).contributor == other


def test_the_contributors_own_threshold_counts_when_it_is_larger(paying: World) -> None:
    contributor = paying.contributor(2_000)
    accounts.set_own_threshold(account=contributor.payout_account, minimum_minor=5_000, by=paying.owner, at=paying.at)
    run = paying.built()
    assert not run.payouts.exists()
    assert "USD 50.00" in run.left_out.get().words


def test_the_contributors_own_threshold_is_none_of_another_currencys(world: World) -> None:
    contributor = world.contributor(9_000)
    accounts.set_own_threshold(account=contributor.payout_account, minimum_minor=10_000, by=world.owner, at=world.at)
    world.currency = "JPY"
    world.policy(minimum_minor=1_500)
    world.credit(contributor, 9_000)
    assert only(world.built()).amount_minor == 9_000
    purses = {purse.currency: purse.threshold for purse in standing.purses_of(contributor, at=world.at)}
    assert purses == {"JPY": from_minor(1_500, "JPY"), "USD": from_minor(10_000, "USD")}


def test_tax_is_withheld_and_only_the_rest_is_sent(paying: World) -> None:
    contributor = paying.contributor(1_001)
    paying.tax_form(contributor, 300_000_000)
    run = paying.pay(paying.executing())
    payout = only(run)
    assert (payout.gross_minor, payout.tax_minor, payout.amount_minor) == (1_001, 300, 701)
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean


def test_a_cut_off_before_the_books_began_is_refused(world: World) -> None:
    for cut_off in (datetime(1, 1, 1, tzinfo=UTC), world.at - timedelta(days=400)):
        with pytest.raises(building.UnableToBuildRun, match="before the first month of the books"):
            building.build_run(currency="USD", cut_off=cut_off, by=world.maker, at=world.at, seen=SEEN)


def test_one_run_of_a_currency_is_open_at_a_time(world: World) -> None:
    world.contributor(1_000)
    world.built()
    with pytest.raises(building.UnableToBuildRun, match="open already"):
        world.built()


def test_the_creator_does_not_approve_even_with_the_checkers_role(world: World) -> None:
    world.contributor(1_000)
    run = world.in_review()
    with pytest.raises(approval.UnableToApprove, match="builder or editor"):
        world.approve(run, by=world.maker)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"typed_total": 999}, "total"),
        ({"content_hash": b"\0" * 32}, "changed since"),
        ({"late": timedelta(hours=72)}, "72 hours"),
    ],
)
def test_an_approval_of_something_else_is_refused(world: World, change: dict[str, object], words: str) -> None:
    world.contributor(1_000)
    run = world.in_review()
    late = change.pop("late", timedelta())
    asked = {"typed_total": run.total_minor, "content_hash": bytes(run.content_hash or b""), **change}
    with pytest.raises(approval.UnableToApprove, match=words):
        approval.approve_run(run=run, by=world.checker, at=world.at + late, seen=SEEN, **asked)  # type: ignore


@pytest.mark.parametrize("age", [None, 301, -1])
def test_approving_takes_a_fresh_second_factor(world: World, age: int | None) -> None:
    world.contributor(1_000)
    run = world.in_review()
    with pytest.raises(actor.UnableToTrustPresence):
        approval.approve_run(
            run=run,
            by=world.checker,
            typed_total=run.total_minor,
            content_hash=bytes(run.content_hash or b""),
            at=world.at,
            seen=Presence(mfa_age_seconds=age),
        )


def test_a_person_without_the_role_does_nothing(world: World) -> None:
    world.contributor(1_000)
    with pytest.raises(actor.UnableToAct):
        building.build_run(currency="USD", cut_off=world.at, by=world.owner, at=world.at)
    run = world.in_review()
    with pytest.raises(actor.UnableToAct):
        world.approve(run, by=world.compliance)


def test_above_the_limit_two_people_approve(world: World) -> None:
    world.policy(second_approval_minor=1_500)
    world.contributor(1_000)
    world.contributor(1_000)
    run = world.approve(world.in_review())
    assert run.state == PayoutRun.State.IN_REVIEW
    with pytest.raises(approval.UnableToApprove, match="second person"):
        world.approve(run)
    run = world.approve(run, by=world.second_checker)
    assert run.state == PayoutRun.State.APPROVED
    assert set(states(run)) == {"approved"}


def test_an_approval_that_expired_executes_nothing_and_is_taken_back(paying: World) -> None:
    paying.contributor(1_000)
    run = paying.approved()
    late = paying.at + timedelta(hours=72)
    with pytest.raises(approval.UnableToStart, match="expired"):
        approval.start_execution(run=run, by=paying.checker, at=late, seen=SEEN)
    assert approval.expire_approvals(at=late) == 1
    run.refresh_from_db()
    assert (run.state, run.approved_by) == (PayoutRun.State.IN_REVIEW, None)
    assert states(run) == ["ready"]


def test_a_rejected_run_stays_as_it_was_judged_and_its_successor_names_it(world: World) -> None:
    world.contributor(1_000)
    run = approval.reject_run(
        run=world.in_review(), by=world.checker, reason="the amount is odd", at=world.at, seen=SEEN
    )
    assert states(run) == ["ready"]
    again = building.rebuild_run(run=run, by=world.maker, at=world.at, seen=SEEN)
    assert again.supersedes == run
    assert again.total_minor == 1_000


def test_excluding_somebody_splits_the_run_and_both_parts_are_reviewed_anew(world: World) -> None:
    stays, leaves = world.contributor(1_000), world.contributor(2_000)
    run = world.approved()
    approved_hash = bytes(run.content_hash or b"")

    run, other = runs.exclude(
        run=run, contributors=[leaves.pk], by=world.second_checker_as_maker(), at=world.at, seen=SEEN
    )

    assert (run.state, other.state) == (PayoutRun.State.DRAFT, PayoutRun.State.SET_ASIDE)
    assert (run.approved_by, run.total_minor, other.total_minor) == (None, 1_000, 2_000)
    assert run.left_out.get().reason == LeftOut.Reason.EXCLUDED
    run = runs.submit_run(run=run, by=world.maker, at=world.at, seen=SEEN)
    assert bytes(run.content_hash or b"") != approved_hash
    with pytest.raises(approval.UnableToApprove, match="builder or editor"):
        world.approve(run, by=world.second_checker_as_maker())
    run = world.approve(run)
    assert only(run).contributor == stays
    with pytest.raises(runs.UnableToChangeRun, match="open"):
        runs.take_up_run(run=other, by=world.maker, at=world.at, seen=SEEN)
    runs.cancel_run(run=run, by=world.maker, at=world.at, seen=SEEN)
    other = runs.take_up_run(run=other, by=world.maker, at=world.at, seen=SEEN)
    other = runs.submit_run(run=other, by=world.maker, at=world.at, seen=SEEN)
    assert only(world.approve(other)).contributor == leaves


def test_a_cancelled_run_leaves_everything_payable(world: World) -> None:
    contributor = world.contributor(1_000)
    run = runs.cancel_run(run=world.approved(), by=world.maker, at=world.at, seen=SEEN)
    assert states(run) == ["ready"]
    assert world.payable(contributor) == from_minor(1_000, "USD")
    assert world.built().total_minor == 1_000


def test_without_the_money_at_stripe_nothing_starts(paying: World) -> None:
    paying.contributor(900_000_000)
    run = paying.approved()
    with pytest.raises(approval.UnableToStart, match="short"):
        approval.start_execution(run=run, by=paying.checker, at=paying.at, seen=SEEN)


def test_somebody_held_after_the_approval_is_not_paid_and_the_others_are(paying: World) -> None:
    held, other = paying.contributor(1_000), paying.contributor(2_000)
    run = paying.executing()
    holds.place_hold(contributor=held, reason="fraud_review", by=paying.compliance, at=paying.at, seen=SEEN)
    run = paying.pay(run)
    assert states(run) == ["held", "transferred"]
    assert paying.payable(held) == from_minor(1_000, "USD")
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean
    assert other.payouts.get().state == Payout.State.TRANSFERRED


def test_a_balance_that_fell_since_the_review_holds_the_payout(paying: World) -> None:
    contributor = paying.contributor(1_000)
    run = paying.executing()
    paying.credit(contributor, -1)
    run = paying.pay(run)
    assert states(run) == ["held"]
    assert only(run).reason == "negative_balance"
    assert not payees.open_holds(contributor)


def test_the_kill_switch_stops_everything_new(paying: World, settings: object) -> None:
    paying.contributor(1_000)
    run = paying.executing()
    settings.PAYOUTS_FROZEN = True  # type: ignore[attr-defined]
    run = paying.pay(run)
    assert states(run) == ["approved"]
    settings.PAYOUTS_FROZEN = False  # type: ignore[attr-defined]
    assert states(paying.pay(run)) == ["transferred"]


def test_a_paused_run_sends_nothing_until_it_is_resumed(paying: World) -> None:
    paying.contributor(1_000)
    run = approval.pause_run(run=paying.executing(), by=paying.maker, note="lunch", at=paying.at, seen=SEEN)
    assert states(paying.pay(run)) == ["approved"]
    run = approval.resume_run(run=run, by=paying.maker, at=paying.at, seen=SEEN)
    assert states(paying.pay(run)) == ["transferred"]


def test_the_withholding_table_counts_before_what_stands_in_a_profile_and_stays_on_the_entry(paying: World) -> None:
    contributor = paying.contributor(1_000)
    paying.tax_form(contributor, 300_000_000)
    rate = taxes.propose_withholding_rate(
        jurisdiction="US",
        country="DE",
        form="w8ben",
        rate_ppb=50_000_000,
        treaty="art. 12(1)",
        effective_from=paying.at.date(),
        by=paying.maker,
        at=paying.at,
    )
    approve(rate, by=paying.checker, at=paying.at)
    payout = only(paying.pay(paying.executing()))
    assert (payout.tax_minor, payout.amount_minor, payout.tax_basis) == (49, 950, "5% art. 12(1)")
    assert Entry.objects.get(kind="payout_reserve").rule_version == "5% art. 12(1)"
    with pytest.raises(DatabaseError), transaction.atomic():
        type(payout).objects.filter(pk=payout.pk).update(tax_basis="0%")
