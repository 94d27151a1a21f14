"""Any sequence of runs, faults, holds, reversals and failures of banks: all earnings are somewhere, to the billionth.

The model is one integer a person: the credits, less the debts to the programme. After every step it equals the ledger's
debt to them, plus the sums under way, sent and withheld by the payouts' own rows. When a sequence ends, everything is
brought to its end, and Stripe, the rows and the ledger agree.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contributors.models import Contributor
from ledger import journal
from ledger.journal import AccountKey
from ledger.money import from_minor
from ledger.queries.invariants import check_all
from payouts.attempts import crew
from payouts.models import BankPayout, Hold, Payout, PayoutAccount, PayoutAttempt, PayoutRun
from payouts.operations import accounts, approval, building, closing, holds, reversals, runs
from payouts.queries import balances, payees
from payouts.rails.stripe import calls
from payouts.reconciliation import bank_payouts, comparison
from stripe_sandbox.bank_payouts import RETURN_WINDOW
from stripe_sandbox.models import PLATFORM
from tests.sandbox_server import StripeSandbox
from tests.worlds.manual import post_by_hand
from tests.worlds.world import SEEN, World

# Two, no and three decimals; HUF and TWD are paid in whole units only, KWD with a last digit of zero.
CURRENCIES = ("USD", "JPY", "KWD", "HUF", "TWD")
FAULTS = ("drop_before", "drop_after", "500_before", "500_after", "429", "409")
PEOPLE = 3
WITHHOLDING_PPB = 300_000_000
STARTS = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ENOUGH = 10**9


class PayoutMachine(RuleBasedStateMachine):
    sandbox: ClassVar[StripeSandbox]

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        # As the test's own transaction: durable blocks may stand in it.
        self.atomic._from_testcase = True  # type: ignore[attr-defined]
        self.atomic.__enter__()
        self.now = STARTS
        self.earned: dict[int, int] = defaultdict(int)
        self.run: PayoutRun | None = None
        self.all_runs: list[PayoutRun] = []
        self.disconnected: set[int] = set()

    @initialize(currency=st.sampled_from(CURRENCIES))
    def open_a_programme(self, currency: str) -> None:
        self.world = World(STARTS, self.sandbox, currency=currency)
        self.currency = currency
        self.world.policy(minimum_minor=500)
        self.people = [self.world.contributor() for _ in range(PEOPLE)]
        self.world.tax_form(self.people[0], WITHHOLDING_PPB)
        self.sandbox.adjust(PLATFORM, ENOUGH, currency.lower())
        self.world.same_balance_as_stripe()
        for place in range(PEOPLE):
            self.credit(place=place, minor=100_000 * (place + 1), units=place)

    # --- what is owed ---
    @rule(place=st.integers(0, PEOPLE - 1), minor=st.integers(1, 2_000_000), units=st.integers(0, 9))
    def credit(self, place: int, minor: int, units: int) -> None:
        self.world.credit(self.people[place], minor, nanos=units)
        self.earned[self.people[place].pk] += from_minor(minor, self.currency) + units

    @rule(place=st.integers(0, PEOPLE - 1), minor=st.integers(1, 50_000))
    def owe_back(self, place: int, minor: int) -> None:
        """A correction after payment: the person owes the programme."""
        amount, contributor = from_minor(minor, self.currency), self.people[place]
        cost = AccountKey("programme_cost", self.currency)
        post_by_hand([(self.receivable(contributor), -amount), (cost, amount)], STARTS)
        self.earned[contributor.pk] -= amount

    def account(self, contributor: Contributor) -> PayoutAccount:
        return PayoutAccount.objects.get(contributor=contributor)

    def receivable(self, contributor: Contributor) -> AccountKey:
        return AccountKey("contributor_receivable", self.currency, f"contributor:{contributor.pk}")

    @rule(minimum=st.sampled_from([100, 500, 100_000]))
    def change_the_threshold(self, minimum: int) -> None:
        self.world.policy(minimum_minor=minimum)

    # --- what stops a payout ---
    @rule(place=st.integers(0, PEOPLE - 1))
    def hold_or_release(self, place: int) -> None:
        contributor = self.people[place]
        found = Hold.objects.filter(contributor=contributor, reason="fraud_review", released_at__isnull=True).first()
        if found is None:
            holds.place_hold(
                contributor=contributor, reason="fraud_review", by=self.world.compliance, at=self.now, seen=SEEN
            )
        else:
            holds.release_hold(hold=found, by=self.world.compliance, at=self.now, seen=SEEN)

    @rule(place=st.integers(1, PEOPLE - 1), tells=st.booleans())
    def disconnect(self, place: int, tells: bool) -> None:
        """Somebody leaves the platform; our own copy of the account may learn of it only from a refusal."""
        contributor = self.people[place]
        if contributor.pk in self.disconnected:
            return
        self.disconnected.add(contributor.pk)
        self.sandbox.happens(self.world.account(contributor), "disconnect")
        if tells:
            accounts.disconnect_account(account=self.account(contributor), at=self.now)

    # --- runs ---
    @precondition(lambda self: self.run is None)
    @rule(excluded=st.integers(0, PEOPLE))
    def begin_a_run(self, excluded: int) -> None:
        world = self.world
        run = building.build_run(currency=self.currency, cut_off=self.now, by=world.maker, at=self.now, seen=SEEN)
        if run.n_payouts > 1 and excluded < PEOPLE and run.payouts.filter(contributor=self.people[excluded]).exists():
            run, other = runs.exclude(
                run=run, contributors=[self.people[excluded].pk], by=world.maker, at=self.now, seen=SEEN
            )
            runs.cancel_run(run=other, by=world.maker, at=self.now, seen=SEEN)
        if not run.n_payouts:
            runs.cancel_run(run=run, by=world.maker, at=self.now, seen=SEEN)
            return
        run = runs.submit_run(run=run, by=world.maker, at=self.now, seen=SEEN)
        run = world.approve(run, at=self.now)
        self.run = approval.start_execution(run=run, by=world.checker, at=self.now, seen=SEEN)
        self.all_runs.append(self.run)

    @precondition(lambda self: self.run is not None)
    @rule(faults=st.lists(st.sampled_from(FAULTS), max_size=4), seconds=st.sampled_from([1, 10, 70, 1_000, 90_000]))
    def execute(self, faults: list[str], seconds: int) -> None:
        assert self.run is not None
        if faults:
            self.sandbox.queue_faults(*faults)
        self.now += timedelta(seconds=seconds)
        crew.execute_run(run_id=self.run.pk, threads=1, clock=lambda: self.now)
        self.sandbox.clear_faults()

    @precondition(lambda self: self.run is not None)
    @rule()
    def pause_or_resume(self) -> None:
        assert self.run is not None
        self.run.refresh_from_db()
        if self.run.state == PayoutRun.State.EXECUTING:
            approval.pause_run(run=self.run, by=self.world.maker, note="wait", at=self.now, seen=SEEN)
        elif self.run.state == PayoutRun.State.PAUSED:
            approval.resume_run(run=self.run, by=self.world.compliance, at=self.now, seen=SEEN)

    @precondition(lambda self: self.run is not None)
    @rule()
    def finish_the_run(self) -> None:
        """Bring every payout to its end, as machines and people would, and compare."""
        run = self.run
        assert run is not None
        self.sandbox.clear_faults()
        for hold in Hold.objects.filter(reason="fraud_review", released_at__isnull=True):
            holds.release_hold(hold=hold, by=self.world.compliance, at=self.now, seen=SEEN)
        for _ in range(12):
            run.refresh_from_db()
            if run.state == PayoutRun.State.PAUSED:
                approval.resume_run(run=run, by=self.world.compliance, at=self.now, seen=SEEN)
            for payout in payees.needs_person().filter(run=run):
                found = calls.find_transfers(payout.transfer_group)
                closing.decide_unknown(
                    payout=payout,
                    paid_transfer_id=found[0].id if found else None,
                    by=self.world.checker,
                    note="looked at Stripe",
                    at=self.now,
                    seen=SEEN,
                )
            self.now += timedelta(seconds=1_000)
            crew.execute_run(run_id=run.pk, threads=1, clock=lambda: self.now)
            self.finish_reversals()
            if not run.payouts.filter(state__in=Payout.LIVE).exists():
                break
        assert not run.payouts.filter(state__in=Payout.LIVE).exists(), "a payout was lost"
        assert balances.ledger_in_transit(self.currency) == 0
        record = comparison.reconcile_run(run=run, at=self.now)
        assert record.is_clean, [str(one) for one in run.differences.all()]
        self.run = None

    # --- what comes back ---
    @precondition(lambda self: bool(self.all_runs))
    @rule(which=st.integers(0, 20), part=st.sampled_from([1, 2, 7]), fault=st.sampled_from(["", *FAULTS]))
    def reverse(self, which: int, part: int, fault: str) -> None:
        paid = list(Payout.objects.filter(state__in=[s for s in Payout.PAID if s != "reversed"]).order_by("pk"))
        if not paid:
            return
        payout = paid[which % len(paid)]
        left = payout.amount_minor - payout.reversed_minor
        if fault:
            self.sandbox.queue_faults(fault, path="/v1/transfers/*/reversals")
        try:
            reversals.reverse_payout(
                payout=payout,
                amount_minor=max(left // part, 1),
                by=self.world.checker,
                reason="a test",
                at=self.now,
                seen=SEEN,
            )
        except reversals.UnableToReverse:
            underway = [PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN]
            assert payout.attempts.filter(kind="reversal", state__in=underway).exists()
        self.sandbox.clear_faults()

    @rule()
    def finish_reversals(self) -> None:
        for _ in range(4):
            self.now += timedelta(seconds=1_000)
            reversals.recover_reversals(clock=lambda: self.now)

    @precondition(lambda self: bool(self.all_runs))
    @rule(place=st.integers(0, PEOPLE - 1), fails=st.booleans())
    def money_reaches_the_bank(self, place: int, fails: bool) -> None:
        """Stripe pays the bank; days later the bank may send it back, after it was said to be paid."""
        contributor = self.people[place]
        if contributor.pk in self.disconnected:
            return
        name, account = self.world.account(contributor), self.account(contributor)
        now = self.sandbox.advance(days=4)
        for bank in self.sandbox.client().v1.payouts.list({}, {"stripe_account": name}).data:
            known = bank_payouts.sync_bank_payout(account=account, payout_id=bank.id, at=self.now)
            may_fail = now + 60 < bank.arrival_date + RETURN_WINDOW.total_seconds()
            if fails and may_fail and known.state == "paid":
                self.sandbox.fail_payout(bank.id)
                known = bank_payouts.sync_bank_payout(account=account, payout_id=bank.id, at=self.now)
                assert known.state == "failed"
        assert not BankPayout.objects.filter(account=account, state="pending").exists()

    # --- what must hold after every step ---
    @invariant()
    def what_was_earned_is_somewhere(self) -> None:
        if not hasattr(self, "people"):
            return
        for contributor in self.people:
            payable = self.world.payable(contributor)
            owes = journal.owed(self.receivable(contributor))
            gone = sum(self.gone(payout) for payout in contributor.payouts.all())
            assert self.earned[contributor.pk] == payable - owes + gone
        assert balances.ledger_in_transit(self.currency) == balances.live_in_transit(self.currency)

    def gone(self, payout: Payout) -> int:
        """Sum one payout's part of the earnings that is not payable: in transit, sent and not reversed, withheld."""
        if payout.state in (Payout.State.SENDING, Payout.State.UNKNOWN):
            return from_minor(payout.gross_minor, self.currency)
        if payout.state not in Payout.PAID:
            return 0
        returned = payout.tax_minor * payout.reversed_minor // payout.amount_minor
        return from_minor(payout.gross_minor - payout.reversed_minor - returned, self.currency)

    def check_the_end(self) -> None:
        if self.run is not None:
            self.finish_the_run()
        self.finish_reversals()
        self.what_was_earned_is_somewhere()
        for payout in Payout.objects.all():
            found = calls.find_transfers(payout.transfer_group)
            assert len(found) == (payout.state in Payout.PAID), "paid once, or not at all"
            assert sum(transfer.reversed_minor for transfer in found) == payout.reversed_minor
        assert {r.name: r.rows for r in check_all() if r.rows} == {}

    def teardown(self) -> None:
        try:
            if hasattr(self, "people"):
                self.check_the_end()
        finally:
            self.sandbox.clear_faults()
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("examples", "steps"), [(8, 20), pytest.param(60, 40, marks=pytest.mark.full)], ids=["small", "full"]
)
def test_whatever_happens_to_payouts_what_was_earned_is_somewhere(
    sandbox: StripeSandbox, examples: int, steps: int
) -> None:
    machine: Any = type("Machine", (PayoutMachine,), {"sandbox": sandbox})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=examples < 50,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if examples < 50 else [Phase.generate, Phase.shrink],
        ),
    )
