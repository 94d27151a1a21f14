"""Manual entries: two pairs of eyes on every connection, and only where no operation owns the account."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest
from django.db import DatabaseError, connection, transaction

from ledger import journal
from ledger.journal import AccountKey, UnableToPost
from ledger.models import Account, Entry, ManualEntry
from ledger.operations.manual import (
    UnableToProposeManualEntry,
    propose_manual_entry,
)
from ledger.queries.invariants import check_all
from people.actor import UnableToAct
from people.operations.proposals import UnableToDecide, approve, withdraw
from people.operations.users import register_user
from tests.databases import CommittedDatabase
from tests.worlds.manual import finance, post_by_hand
from tests.worlds.world import CENT, World, build_world

BANK, COST, FEES = (AccountKey(kind, "USD") for kind in ("bank", "programme_cost", "fees"))
LINES = [(BANK, -5 * CENT), (FEES, 5 * CENT)]


@pytest.fixture
def world(db: None, at: Any) -> World:
    return build_world(at, contributors=1)


def propose(world: World, lines: Any = LINES, **changes: Any) -> ManualEntry:
    arguments = {
        "reason": "a fee was booked twice",
        "reference": "bank letter 7",
        "by": finance(world.at)[0],
        **changes,
    }
    return propose_manual_entry(lines=lines, at=world.at, **arguments)


def test_an_entry_by_hand_is_proposed_by_one_and_approved_by_another(world: World) -> None:
    first, second = finance(world.at)
    manual = propose(world)
    assert not Entry.objects.exists()
    with pytest.raises(UnableToDecide, match="somebody else has to approve it"):
        approve(manual, by=first, at=world.at)
    posted = approve(manual, by=second, at=world.at)
    assert posted.entry is not None
    assert posted.entry.reference == "bank letter 7: a fee was booked twice"
    assert journal.balance(BANK) == -5 * CENT
    with pytest.raises(UnableToDecide, match="approved already"):
        approve(manual, by=second, at=world.at)
    assert not [r.rows for r in check_all() if r.rows]


def test_an_equal_entry_is_proposed_once_at_a_time(world: World) -> None:
    first, _second = finance(world.at)
    many = [(AccountKey("contributor_payable", "USD", f"contributor:{number}"), -CENT) for number in range(1, 20)]
    for lines in (LINES, [*many, (FEES, 19 * CENT)]):
        manual = propose(world, lines)
        with pytest.raises(UnableToProposeManualEntry, match="proposed already"):
            propose(world, lines, reason="the form was sent twice")
        propose(world, lines, reference="bank letter 8")
        withdraw(manual, by=first, at=world.at)
        propose(world, lines)


def test_a_proposal_that_was_withdrawn_is_never_posted(world: World) -> None:
    first, second = finance(world.at)
    manual = withdraw(propose(world), by=first, at=world.at)
    with pytest.raises(UnableToDecide, match="withdrawn already"):
        approve(manual, by=second, at=world.at)
    assert not Entry.objects.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"reason": "  "}, "why this is posted by hand"),
        ({"reference": ""}, "Name the evidence"),
        ({"lines": [(BANK, -5), (FEES, 4)]}, "Debits and credits differ"),
        ({"lines": [(BANK, 5)]}, "2 to 50,000 lines"),
        ({"lines": [(BANK, 0), (FEES, 0)]}, "must be a whole number but 0"),
        ({"lines": [(BANK, -(2**63)), (FEES, 2**63)]}, "larger than the ledger can hold"),
        ({"lines": [(BANK, -5), (AccountKey("gold", "USD"), 5)]}, "no kind 'gold'"),
        ({"lines": [(BANK, -5), (AccountKey("fees", "XXX"), 5)]}, "no currency 'XXX'"),
        ({"lines": [(BANK, -5), (AccountKey("fees", "EUR"), 5)]}, "Debits and credits differ"),
        ({"lines": [(BANK, -5), (BANK, 5)]}, "stands in two lines"),
        ({"lines": [(AccountKey("fees", "USD", f"x:{n}"), -1) for n in range(21)]}, "at most 20 lines"),
        *(
            ({"lines": [(BANK, -5), (AccountKey(kind, "USD", owner), 5)]}, "by their operations alone")
            for kind, owner in [
                ("contributor_accrued", "contributor:1"),
                ("royalty_pool", "plan:1"),
                ("floor_pool", "plan:1"),
                ("advance", "contributor:1"),
                ("reserve_held", "contributor:1"),
                ("on_hold", "dispute:1"),
                ("unclaimed", "contributor:1"),
                ("payouts_in_transit", "rail:stripe"),
                ("fx_clearing", ""),
            ]
        ),
    ],
)
def test_a_proposal_that_makes_no_entry_is_refused_and_no_row_is_written(
    world: World, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises((UnableToProposeManualEntry, UnableToPost), match=named):
        propose(world, **changes)
    assert not ManualEntry.objects.exists()
    assert not Account.objects.exclude(kind="floor_pool").exists()


def test_only_finance_proposes_and_only_a_checker_approves(world: World) -> None:
    with pytest.raises(UnableToAct, match="takes the role finance_maker or finance_checker"):
        propose(world, by=world.users[0])
    maker = register_user(email="m@example.org", password="x" * 12, name="M", at=world.at, roles=["finance_maker"])
    manual = propose(world)
    with pytest.raises(UnableToDecide, match="finance_checker"):
        approve(manual, by=maker, at=world.at)


def test_no_account_falls_below_its_minimum_by_hand_and_the_proposal_stands(world: World) -> None:
    manual = propose(world, [(world.key("contributor_payable"), -CENT), (COST, CENT)])
    with pytest.raises(UnableToPost, match="below its minimum"):
        approve(manual, by=finance(world.at)[1], at=world.at)
    manual.refresh_from_db()
    assert (manual.state, Entry.objects.count()) == ("proposed", 0)


def test_a_proposal_is_not_changed_after_it_was_made(world: World) -> None:
    propose(world)
    for change in ("lines = '[]'", "reason = 'another'", "proposed_by_id = proposed_by_id + 1", "state = 'proposed'"):
        with (
            pytest.raises(DatabaseError, match="stands as it was proposed"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"UPDATE ledger_manualentry SET {change}")


def test_the_journal_posts_nothing_by_hand_without_a_proposal(world: World) -> None:
    with transaction.atomic():
        journal.post(kind="manual", idem_key="alone", effective=world.at.date(), lines=LINES)
        with pytest.raises(DatabaseError, match="not proposed by one person"):
            connection.check_constraints()
        transaction.set_rollback(True)


def test_not_even_a_superuser_posts_by_hand_alone(committed_database: CommittedDatabase, at: Any) -> None:
    world = build_world(at, contributors=1)
    post_by_hand([(BANK, -CENT), (FEES, CENT)], at)
    first, second = finance(at)
    entry = "SELECT ledger_post('manual', '{key}', '2026-11-20', ARRAY[{accounts}], ARRAY[-7, 7], NULL, NULL, '', '')"
    bank, fees = journal.open_accounts([BANK, FEES])
    accrued, cost = journal.open_accounts([world.key("contributor_accrued"), COST])
    insert = (
        "INSERT INTO ledger_manualentry (reason, reference, lines, state, proposed_by_id, proposed_at)"
        " VALUES ('r', 'r', '{lines}', 'proposed', {by}, now()) RETURNING id"
    )
    decide = (
        "UPDATE ledger_manualentry SET state = 'approved', decided_by_id = {by}, decided_at = now(),"
        " entry_id = (SELECT max(id) FROM ledger_entry) WHERE state = 'proposed'"
    )
    honest = '[["bank", "USD", "", "", -7], ["fees", "USD", "", "", 7]]'
    other = '[["bank", "USD", "", "", -6], ["fees", "USD", "", "", 6]]'
    pay = f'[["contributor_accrued", "USD", "contributor:{world.contributors[0].pk}", "", -7],'
    pay += ' ["programme_cost", "USD", "", "", 7]]'
    alone = entry.format(key="a", accounts=f"{bank}, {fees}")
    attempts = [
        ([alone], "not proposed by one person"),
        ([insert.format(lines=honest, by=first.pk), alone, decide.format(by=first.pk)], "approved_by_somebody_else"),
        ([insert.format(lines=other, by=first.pk), alone, decide.format(by=second.pk)], "not proposed by one person"),
        (
            [
                insert.format(lines=pay, by=first.pk),
                entry.format(key="b", accounts=f"{accrued}, {cost}"),
                decide.format(by=second.pk),
            ],
            "moved by their operations alone",
        ),
        (["UPDATE ledger_manualentry SET decided_by_id = NULL WHERE state = 'approved'"], "stands as it was proposed"),
        (["DELETE FROM ledger_manualentry"], "never changed"),
    ]
    superuser = psycopg2.connect(committed_database.url)
    try:
        for statements, refusal in attempts:
            with pytest.raises(psycopg2.Error, match=refusal), superuser, superuser.cursor() as cursor:
                # One after the other in one transaction; a deferred check speaks at its end.
                cursor.execute(";".join(statements))
        # Two people make it good.
        with superuser, superuser.cursor() as cursor:
            for statement in (insert.format(lines=honest, by=first.pk), alone, decide.format(by=second.pk)):
                cursor.execute(statement)
    finally:
        superuser.close()
    assert Entry.objects.filter(kind="manual").count() == 2
