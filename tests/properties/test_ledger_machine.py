"""The ledger against a model of itself in plain Python: any sequence of operations leaves both with the same balances.

The model knows nothing of entries, batches or locks: it keeps one integer an account, and the accounts that may go
below zero. Steps that it refuses must be refused by the ledger, and the other way about.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger import journal
from ledger.documents import Document
from ledger.journal import AccountKey, UnableToPost
from ledger.models import Entry, Period
from ledger.money import apportion, asset
from ledger.operations import closing, payouts, periods
from ledger.queries.invariants import OF_THE_JOURNAL, check_all

PEOPLE = (1, 2, 3)
CURRENCIES = ("USD", "JPY")
CENT = asset("USD").minor


def account(kind: str, currency: str, owner: str = "") -> AccountKey:
    return AccountKey(kind, currency, owner)


def of_person(kind: str, currency: str, person: int) -> AccountKey:
    return AccountKey(kind, currency, f"contributor:{person}")


class Model:
    """Balances and the rows that refer to them, and nothing else. Credit is positive."""

    def __init__(self) -> None:
        self.balances: dict[AccountKey, int] = defaultdict(int)
        # For each month: the sums that each contributor's accrued account received in it.
        self.results: dict[int, dict[AccountKey, int]] = defaultdict(lambda: defaultdict(int))

    def apply(self, lines: list[tuple[AccountKey, int]]) -> bool:
        """Move the balances, or nothing at all where an account would fall below its minimum."""
        after: dict[AccountKey, int] = {}
        for key, amount in lines:
            after[key] = after.get(key, self.balances[key]) + amount
        for key, balance in after.items():
            kind = journal.CHART[key.kind]
            if kind.never_negative and (balance < 0 if kind.normal_side == "C" else balance > 0):
                return False
        self.balances.update(after)
        return True


class _Killed(Exception):
    """The client died here."""


class LedgerMachine(RuleBasedStateMachine):
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.model = Model()
        self.month = 202610
        self.keys = 0
        self.posted: list[tuple[dict[str, Any], int]] = []
        self.reversible: dict[int, list[tuple[AccountKey, int]]] = {}
        self.batches: list[tuple[dict[str, Any], int]] = []
        self.standing: dict[uuid.UUID, Document] = {}
        self.currency_of: dict[uuid.UUID, str] = {}
        self.lines_of: dict[uuid.UUID, list[tuple[AccountKey, int]]] = {}
        self.payouts: dict[str, tuple[int, str, int, int, int]] = {}
        self.entries = 0

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    @initialize()
    def open_the_first_months(self) -> None:
        periods.open_periods(at=datetime(2026, 10, 20, tzinfo=UTC))
        self.month = Period.objects.order_by("id")[0].pk

    # --- helpers of the steps ---
    @property
    def day(self) -> date:
        return date(self.month // 100, self.month % 100, 15)

    @property
    def moment(self) -> datetime:
        return datetime(self.day.year, self.day.month, 15, 12, tzinfo=UTC)

    def fresh_key(self, word: str) -> str:
        self.keys += 1
        return f"{word}-{self.keys}"

    def post(self, kind: str, lines: list[tuple[AccountKey, int]]) -> None:
        arguments = {"kind": kind, "idem_key": self.fresh_key(kind), "effective": self.day, "lines": lines}
        if self.model.apply(lines):
            entry = journal.post(**arguments).entry_id  # type: ignore[arg-type]
            self.entries += 1
            assert entry == self.entries
            self.posted.append((arguments, entry))
            self.reversible[entry] = lines
        else:
            with pytest.raises(UnableToPost, match="below its minimum"):
                journal.post(**arguments)  # type: ignore[arg-type]

    # --- steps ---
    @rule(currency=st.sampled_from(CURRENCIES), amount=st.integers(1, 10**12))
    def put_in_capital(self, currency: str, amount: int) -> None:
        self.post("capital", [(account("bank", currency), -amount), (account("programme_equity", currency), amount)])

    @rule(currency=st.sampled_from(CURRENCIES), amount=st.integers(1, 10**12), back=st.booleans())
    def prefund_or_apply(self, currency: str, amount: int, back: bool) -> None:
        deposit, receivable = (
            account("service_deposit", currency, "service:1"),
            account("service_receivable", currency, "service:1"),
        )
        if back:
            self.post("apply_deposit", [(deposit, -amount), (receivable, amount)])
        else:
            self.post("prefund_service", [(account("bank", currency), -amount), (deposit, amount)])

    @rule(data=st.data())
    def post_the_same_again(self, data: st.DataObject) -> None:
        if not self.posted:
            return
        arguments, entry = data.draw(st.sampled_from(self.posted))
        again = journal.post(**{**arguments, "lines": data.draw(st.permutations(arguments["lines"]))})
        assert (again.entry_id, again.replayed) == (entry, True)
        with pytest.raises(UnableToPost, match="says something else"):
            journal.post(**{**arguments, "reference": "another body"})

    @rule(data=st.data())
    def reverse_an_entry(self, data: st.DataObject) -> None:
        if not self.posted:
            return
        _, entry = data.draw(st.sampled_from(self.posted))
        arguments: dict[str, Any] = {
            "entry_id": entry,
            "idem_key": self.fresh_key("reverse"),
            "effective": self.day,
            "reference": "undo",
        }
        lines = self.reversible.get(entry)
        if lines is None:
            with pytest.raises(UnableToPost, match="reversed already"):
                journal.reverse(**arguments)
        elif self.model.apply([(key, -amount) for key, amount in lines]):
            journal.reverse(**arguments)
            self.entries += 1
            del self.reversible[entry]
        else:
            with pytest.raises(UnableToPost, match="below its minimum"):
                journal.reverse(**arguments)

    def document(
        self, generation: uuid.UUID, revision: int, currency: str, gross: int, shares: list[int]
    ) -> tuple[Document, list[tuple[AccountKey, int]]]:
        take = gross // 5
        credits = [(account("platform_fee", currency), take)]
        people = [of_person("contributor_accrued", currency, person) for person in PEOPLE]
        parts = apportion(gross - take, shares, [bytes([i]) for i in range(len(shares))])
        credits += list(zip([*people, account("suspense_unmatched", currency, "work:1")], parts, strict=True))
        credits = [(key, amount) for key, amount in credits if amount]
        source = account("service_unbilled", currency, "service:1")
        numbers = journal.open_accounts([source, *(key for key, _ in credits)])
        document = Document(
            generation_id=generation,
            revision=revision,
            plan_id=1,
            source_id=numbers[0],
            gross=gross,
            account_ids=numbers[1:],
            amounts=[amount for _, amount in credits],
        )
        return document, [(source, -gross), *credits]

    @rule(
        currency=st.sampled_from(CURRENCIES),
        grosses=st.lists(st.integers(1, 10**10), min_size=1, max_size=4),
        shares=st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(sum),
    )
    def accrue(self, currency: str, grosses: list[int], shares: list[int]) -> None:
        documents = []
        for gross in grosses:
            self.keys += 1
            generation = uuid.UUID(int=0x019 << 116 | self.keys)
            document, lines = self.document(generation, 1, currency, gross, shares)
            documents.append(document)
            self.standing[generation], self.lines_of[generation] = document, lines
            self.currency_of[generation] = currency
            self.model.apply(lines)
            self.note_results(lines)
        arguments: dict[str, Any] = {
            "idem_key": self.fresh_key("accrue"),
            "effective": self.day,
            "earned_period": self.month,
            "documents": documents,
        }
        entry = journal.post_accruals(**arguments).entry_id
        self.entries += 1
        self.batches.append((arguments, entry))

    def note_results(self, lines: list[tuple[AccountKey, int]]) -> None:
        for key, amount in lines:
            if key.kind == "contributor_accrued":
                self.model.results[self.month][key] += amount

    @rule(data=st.data())
    def deliver_a_batch_again(self, data: st.DataObject) -> None:
        if not self.batches:
            return
        arguments, entry = data.draw(st.sampled_from(self.batches))
        again = journal.post_accruals(**{**arguments, "documents": data.draw(st.permutations(arguments["documents"]))})
        assert (again.entry_id, again.replayed) == (entry, True)
        with pytest.raises(UnableToPost):
            journal.post_accruals(**{**arguments, "idem_key": self.fresh_key("stolen")})

    @rule(data=st.data(), shares=st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(sum))
    def restate(self, data: st.DataObject, shares: list[int]) -> None:
        if not self.standing:
            return
        generation = data.draw(st.sampled_from(sorted(self.standing)))
        old, old_lines = self.standing[generation], self.lines_of[generation]
        new, new_lines = self.document(generation, old.revision + 1, self.currency_of[generation], old.gross, shares)
        opposite = Document(
            generation_id=generation,
            revision=-old.revision,
            plan_id=old.plan_id,
            source_id=old.source_id,
            gross=-old.gross,
            account_ids=old.account_ids,
            amounts=[-amount for amount in old.amounts],
        )
        journal.post_accruals(
            kind="restate",
            idem_key=self.fresh_key("restate"),
            effective=self.day,
            earned_period=self.month,
            documents=[opposite, new],
        )
        self.entries += 1
        moved = [*((key, -amount) for key, amount in old_lines), *new_lines]
        assert self.model.apply(moved)
        self.note_results(moved)
        self.standing[generation], self.lines_of[generation] = new, new_lines

    @rule(person=st.sampled_from(PEOPLE), cents=st.integers(1, 400), tax=st.integers(0, 50))
    def reserve_a_payout(self, person: int, cents: int, tax: int) -> None:
        key = self.fresh_key("po")
        gross, withheld = cents * CENT, min(tax, cents - 1) * CENT
        lines = [
            (of_person("contributor_payable", "USD", person), -gross),
            (account("payouts_in_transit", "USD", "rail:stripe"), gross - withheld),
            (account("tax_payable", "USD", "jurisdiction:US/withholding"), withheld),
        ]
        arguments: dict[str, Any] = {
            "contributor_id": person,
            "currency": "USD",
            "gross": gross,
            "tax": withheld,
            "rail": "stripe",
            "attempt_key": key,
            "at": self.moment,
        }
        if self.model.apply(lines):
            entry = payouts.reserve_payout(**arguments)
            self.entries += 1
            self.payouts[key] = (entry, "reserved", person, gross, withheld)
        else:
            with pytest.raises(UnableToPost, match="below its minimum"):
                payouts.reserve_payout(**arguments)

    @precondition(lambda self: self.payouts)
    @rule(data=st.data(), succeeds=st.booleans())
    def settle_a_payout(self, data: st.DataObject, succeeds: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.payouts)))
        entry, state, person, gross, withheld = self.payouts[key]
        net = gross - withheld
        transit = account("payouts_in_transit", "USD", "rail:stripe")
        settle: Any = (
            (
                lambda: payouts.succeed_payout(
                    reserve_entry=entry, attempt_key=key, currency="USD", net=net, at=self.moment
                )
            )
            if succeeds
            else (lambda: payouts.refuse_payout(reserve_entry=entry, attempt_key=key, at=self.moment))
        )
        wanted = "succeeded" if succeeds else "refused"
        if state == "reserved":
            settle()
            self.entries += 1
            if succeeds:
                assert self.model.apply([(transit, -net), (account("stripe_balance", "USD"), net)])
            else:
                back = [(of_person("contributor_payable", "USD", person), gross), (transit, -net)]
                assert self.model.apply(
                    [*back, (account("tax_payable", "USD", "jurisdiction:US/withholding"), -withheld)]
                )
            self.payouts[key] = (entry, wanted, person, gross, withheld)
        elif state == wanted:
            settle()
        elif state == "succeeded":
            with pytest.raises(payouts.UnableToRecordPayout):
                settle()

    @rule(
        amount=st.integers(1, 10**9),
        grosses=st.lists(st.integers(1, 10**9), min_size=1, max_size=3),
        after=st.booleans(),
    )
    def be_killed(self, amount: int, grosses: list[int], after: bool) -> None:
        """A client dies between its entries and its commit: nothing of it is left, and its keys are free again."""
        lines = [(account("bank", "USD"), -amount), (account("programme_equity", "USD"), amount)]
        key, count = self.fresh_key("killed"), Entry.objects.count()
        arguments: dict[str, Any] = {"kind": "capital", "idem_key": key, "effective": self.day, "lines": lines}
        generations = [uuid.UUID(int=0x018 << 116 | self.keys << 8 | i) for i in range(len(grosses))]
        with contextlib.suppress(_Killed), transaction.atomic():
            journal.post(**arguments)
            documents = [
                self.document(generation, 1, "USD", gross, [1, 0, 2, 0])[0]
                for generation, gross in zip(generations, grosses, strict=True)
            ]
            journal.post_accruals(
                idem_key=f"{key}:batch", effective=self.day, earned_period=self.month, documents=documents
            )
            raise _Killed
        assert journal.find(key) is None
        assert Entry.objects.count() == count
        if after:
            # Started again, it delivers each batch without an acknowledgement, with its present amounts.
            amount += 1
            self.post_again(key, amount)

    def post_again(self, key: str, amount: int) -> None:
        lines = [(account("bank", "USD"), -amount), (account("programme_equity", "USD"), amount)]
        arguments: dict[str, Any] = {"kind": "capital", "idem_key": key, "effective": self.day, "lines": lines}
        assert not journal.post(**arguments).replayed
        assert journal.post(**arguments).replayed
        assert self.model.apply(lines)
        self.entries += 1

    @rule()
    def close_the_month(self) -> None:
        if self.month >= 202712:
            return
        following = self.month + 1 if self.month % 100 < 12 else self.month + 89
        at = datetime(following // 100, following % 100, 2, tzinfo=UTC)
        periods.open_periods(at=at)
        closing.close_period(period=self.month, at=at)
        for key, result in self.model.results[self.month].items():
            payable = AccountKey("contributor_payable", key.asset, key.owner)
            debt = AccountKey("contributor_receivable", key.asset, key.owner)
            recovered = min(max(0, result), -self.model.balances[debt])
            left = result - recovered
            taken = min(max(0, -left), self.model.balances[payable])
            assert self.model.apply(
                [(key, -result), (debt, recovered), (payable, max(0, left) - taken), (debt, min(0, left) + taken)]
            )
        self.entries = Entry.objects.count()
        self.month = following

    # --- what must hold after every step ---
    @invariant()
    def the_balances_are_those_of_the_model(self) -> None:
        LedgerMachine.steps += 1
        found = journal.balances(list(self.model.balances))
        assert found == dict(self.model.balances)

    @invariant()
    def entries_are_numbered_without_a_gap(self) -> None:
        assert Entry.objects.count() == self.entries

    def check_the_books(self) -> None:
        assert {r.name: r.rows for r in check_all(OF_THE_JOURNAL) if r.rows} == {}


class CheckedMachine(LedgerMachine):
    """Also runs every invariant of the journal when a sequence ends."""

    def teardown(self) -> None:
        try:
            self.check_the_books()
        finally:
            super().teardown()


# The full size comes in parts that can be run apart from each other: 10,000 steps and more in all.
PARTS = 5


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("examples", "steps", "part"),
    [
        (8, 25, 0),
        *(pytest.param(50, 50, part, marks=pytest.mark.full) for part in range(1, PARTS + 1)),
    ],
    ids=["small", *(f"full-{part}" for part in range(1, PARTS + 1))],
)
def test_any_sequence_of_operations_leaves_the_ledger_as_the_model(
    examples: int, steps: int, part: int, record_property: Callable[[str, object], None]
) -> None:
    LedgerMachine.steps = 0
    # The state before the first step is checked as well, hence not one less for each example.
    wanted = int(0.8 * examples * steps)
    for again in range(5):
        run_state_machine_as_test(
            seed(part + 100 * again)(CheckedMachine),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                # A failing sequence of the small size is shown as it is; the full size takes the time to shrink it.
                phases=[Phase.generate] if part == 0 else [Phase.generate, Phase.shrink],
            ),
        )
        # Hypothesis ends a sequence early that has drawn much: then more sequences make up the steps.
        if LedgerMachine.steps >= wanted:
            break
    record_property("steps", LedgerMachine.steps)
    print(f"{LedgerMachine.steps:,} steps")
    assert LedgerMachine.steps >= wanted
