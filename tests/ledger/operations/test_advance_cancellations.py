"""Two people can cancel the open part of an advance: never the part that a close took, never twice."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from django.db import DatabaseError, connection, transaction

from contributors.models import PPB
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import AdvanceCancellation, AdvanceProposal, Entry, Period
from ledger.operations import advances, closing, contracts, payouts, periods, verbs
from ledger.operations.programme import top_up_stripe
from ledger.operations.verbs import post_verb
from ledger.queries.accounts import open_advances
from ledger.queries.invariants import check_all
from ledger.statements.build import build_statement
from people.operations.proposals import UnableToDecide, approve, reject
from tests.databases import CommittedDatabase
from tests.worlds.contracts import advance, cancel, terms
from tests.worlds.manual import finance
from tests.worlds.pages import text_of
from tests.worlds.programme import Programme
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import CENT, World, build_world

COST = AccountKey("programme_cost", "USD")


@pytest.fixture
def world(db: None) -> World:
    return build_world(OCTOBER, contributors=1)


def earn(world: World, n: int) -> None:
    """Earn two cents a generation for the one contributor; the close adds the base pool's part."""
    made = world.generate(n)
    world.attribute(made, shares=[PPB], general=[PPB], weight_ppb=PPB)
    world.accrue_all()


def close_october(at: datetime = NOVEMBER) -> None:
    for month in (202609, 202610):
        closing.close_period(period=month, at=at)


def pay(world: World, gross: int, at: datetime, *, ends: str = "paid", key: str = "p") -> int:
    """A payout and its end; returns the entry that reserved it."""
    post_verb(verb="capital", amount=gross, currency="USD", reference=key, at=at)
    top_up_stripe(amount=gross, currency="USD", reference=key, at=at)
    who = world.contributors[0].pk
    entry = payouts.reserve_payout(
        contributor_id=who, currency="USD", gross=gross, tax=0, rail="stripe", attempt_key=key, at=at
    )
    if ends == "paid":
        payouts.succeed_payout(reserve_entry=entry, attempt_key=key, currency="USD", net=gross, at=at)
    elif ends == "refused":
        payouts.refuse_payout(reserve_entry=entry, attempt_key=key, at=at)
    return entry


def violated() -> list[str]:
    return [result.name for result in check_all() if result.rows]


def test_an_advance_that_nothing_was_earned_against_is_taken_back_whole(world: World) -> None:
    open_ = advance(world, "book", 300 * CENT)
    assert cancel(open_, world) == 300 * CENT
    assert (journal.owed(open_), world.balance("contributor_payable")) == (0, 0)
    assert [(row.granted, row.open, row.recouped) for row in open_advances(world.contributors[0].pk)] == [(0, 0, 0)]
    with pytest.raises(advances.UnableToCancelAdvance, match="Nothing of it is open"):
        cancel(open_, world)
    made = build_statement(contributor=world.contributors[0], period=Period.objects.get(pk=202610))
    lines = [(pot.name, line.kind, line.amount) for pot in made.pots for line in pot.lines]
    assert ("owed", "advances_cancelled", -300 * CENT) in lines
    assert ("advance", "advances_cancelled", 300 * CENT) in lines
    assert not violated()


def test_what_a_close_recouped_is_not_taken_back(world: World) -> None:
    open_ = advance(world, "book", 300 * CENT)
    earn(world, 10)
    close_october()
    recouped = 300 * CENT - journal.owed(open_)
    assert 0 < recouped < 300 * CENT
    assert cancel(open_, world, at=NOVEMBER) == 300 * CENT - recouped
    # The contributor keeps the earnings that the close had set against the advance.
    assert world.balance("contributor_payable") == recouped
    (row,) = open_advances(world.contributors[0].pk)
    assert (row.granted, row.open, row.recouped) == (recouped, 0, recouped)
    assert not violated()


def test_what_is_cancelled_before_a_late_close_is_not_recouped_by_it(world: World) -> None:
    open_ = advance(world, "book", 300 * CENT)
    earn(world, 10)
    # October is over and not closed yet: its close finds the advance as October left it, and must not.
    cancel(open_, world, at=NOVEMBER)
    close_october()
    assert journal.owed(open_) == 0
    assert not Entry.objects.filter(kind="close_recoup").exists()
    assert world.balance("contributor_payable") > 0
    assert not violated()


def test_an_advance_of_the_next_month_is_not_earned_back_in_place_of_one_that_was_cancelled(world: World) -> None:
    open_ = advance(world, "book", 300 * CENT)
    earn(world, 10)
    cancel(open_, world, at=NOVEMBER)
    advance(world, "book", 200 * CENT, at=NOVEMBER)
    close_october()
    assert journal.owed(open_) == 200 * CENT
    assert not Entry.objects.filter(kind="close_recoup").exists()
    assert not violated()


def test_of_two_advances_under_a_contract_the_older_is_earned_back_first(world: World) -> None:
    open_ = advance(world, "book", 20 * CENT)
    advance(world, "book", 300 * CENT)
    earn(world, 10)
    close_october()
    recouped = 320 * CENT - journal.owed(open_)
    assert 20 * CENT < recouped < 300 * CENT
    first, second = AdvanceProposal.objects.order_by("id")
    assert advances.cancellable(first)[0] == 0
    assert advances.cancellable(second)[0] == 320 * CENT - recouped
    assert cancel(open_, world, at=NOVEMBER) == 320 * CENT - recouped


def test_an_advance_that_was_paid_out_is_written_off_and_not_taken_back(world: World) -> None:
    open_ = advance(world, "book", 300 * CENT)
    pay(world, 300 * CENT, OCTOBER)
    with pytest.raises(advances.UnableToCancelAdvance, match=r"It was paid out.*written off"):
        cancel(open_, world)
    assert cancel(open_, world, way="write_off") == 300 * CENT
    assert (journal.owed(open_), world.balance("contributor_payable")) == (0, 0)
    assert journal.balance(COST) == -300 * CENT
    assert not violated()


def test_a_payout_that_was_refused_leaves_an_advance_to_be_taken_back(world: World) -> None:
    open_ = advance(world, "book", 300 * CENT)
    pay(world, 300 * CENT, OCTOBER, ends="refused")
    with pytest.raises(advances.UnableToCancelAdvance, match="not paid out yet"):
        cancel(open_, world, way="write_off")
    assert cancel(open_, world) == 300 * CENT


def test_while_a_payout_is_under_way_an_advance_is_neither_taken_back_nor_written_off(world: World) -> None:
    open_ = advance(world, "book", 300 * CENT)
    entry = pay(world, 200 * CENT, OCTOBER, ends="")
    for way in ("take_back", "write_off"):
        with pytest.raises(advances.UnableToCancelAdvance, match=r"under way; wait for its end"):
            cancel(open_, world, way=way)
    pay(world, 100 * CENT, OCTOBER, key="q")
    # Were the first refused, the second would still have taken the advance.
    assert advances.cancellable(AdvanceProposal.objects.get())[1] == "write_off"
    payouts.refuse_payout(reserve_entry=entry, attempt_key="p", at=OCTOBER)
    assert cancel(open_, world, way="write_off") == 300 * CENT


def test_a_payout_of_older_money_leaves_an_advance_to_be_taken_back(world: World) -> None:
    earn(world, 10)
    close_october()
    older = world.balance("contributor_payable")
    open_ = advance(world, "book", 300 * CENT, at=NOVEMBER)
    pay(world, older // CENT * CENT, NOVEMBER, key="older")
    (granted,) = AdvanceProposal.objects.all()
    assert advances.cancellable(granted) == (300 * CENT, "take_back")
    # A cent more than stood there before it is the advance's own.
    pay(world, CENT, NOVEMBER, key="beyond")
    assert advances.cancellable(granted) == (300 * CENT, "write_off")
    assert cancel(open_, world, way="write_off", at=NOVEMBER) == 300 * CENT
    assert not violated()


@pytest.mark.parametrize("way_out", ["exchange", "escheat"])
def test_an_advance_that_left_without_a_payout_is_not_taken_back(world: World, way_out: str) -> None:
    open_ = advance(world, "book", 300 * CENT)
    who: dict[str, Any] = {"contributor_id": world.contributors[0].pk, "currency": "USD", "at": OCTOBER}
    if way_out == "exchange":
        verbs.post_verb(
            verb="exchange_debt", amount=300 * CENT, into="EUR", rate="0.9", source="ECB", reference="x", **who
        )
    else:
        verbs.post_verb(verb="mark_dormant", reference="a", **who)
        # Unclaimed it is still the contributor's.
        assert advances.cancellable(AdvanceProposal.objects.get())[1] == "take_back"
        verbs.post_verb(verb="reclaim", reference="b", **who)
        verbs.post_verb(verb="mark_dormant", reference="c", **who)
        verbs.post_verb(verb="escheat", reference="d", **who)
    with pytest.raises(advances.UnableToCancelAdvance, match=r"handed to the state.*written off"):
        cancel(open_, world)
    assert cancel(open_, world, way="write_off") == 300 * CENT
    assert not violated()


def test_an_older_advance_that_was_taken_back_is_not_older_money(world: World) -> None:
    older, newer = advance(world, "book", 300 * CENT), advance(world, "film", 200 * CENT)
    cancel(older, world)
    pay(world, 200 * CENT, OCTOBER)
    with pytest.raises(advances.UnableToCancelAdvance, match="It was paid out"):
        cancel(newer, world)


def test_a_payout_between_proposal_and_decision_stops_the_cancellation(world: World) -> None:
    advance(world, "book", 300 * CENT)
    first, second = finance(OCTOBER)
    proposed = advances.propose_cancellation(
        advance=AdvanceProposal.objects.get(), way="take_back", reason="r", by=first, at=OCTOBER
    )
    pay(world, 100 * CENT, OCTOBER)
    with pytest.raises(advances.UnableToCancelAdvance, match="It was paid out"):
        approve(proposed, by=second, at=OCTOBER)
    proposed.refresh_from_db()
    assert (proposed.state, proposed.amount) == ("proposed", None)


@pytest.mark.parametrize(
    ("changes", "named"), [({"reason": " "}, "why"), ({"reason": "x" * 301}, "why"), ({"way": "x"}, "not paid out yet")]
)
def test_a_cancellation_that_cannot_be_is_refused(world: World, changes: dict[str, Any], named: str) -> None:
    advance(world, "book", CENT)
    arguments: dict[str, Any] = {"way": "take_back", "reason": "r", "by": finance(OCTOBER)[0], "at": OCTOBER, **changes}
    with pytest.raises(advances.UnableToCancelAdvance, match=named):
        advances.propose_cancellation(advance=AdvanceProposal.objects.get(), **arguments)
    assert not AdvanceCancellation.objects.exists()


def test_a_cancellation_takes_two_people_and_is_decided_once(world: World) -> None:
    advance(world, "book", CENT)
    (first, second), granted = finance(OCTOBER), AdvanceProposal.objects.get()
    proposed = advances.propose_cancellation(advance=granted, way="take_back", reason="r", by=first, at=OCTOBER)
    with pytest.raises(advances.UnableToCancelAdvance, match="proposed so already"):
        advances.propose_cancellation(advance=granted, way="take_back", reason="r", by=second, at=OCTOBER)
    with pytest.raises(UnableToDecide, match="somebody else has to approve it"):
        approve(proposed, by=first, at=OCTOBER)
    reject(proposed, by=second, at=OCTOBER)
    with pytest.raises(UnableToDecide, match="rejected already"):
        approve(proposed, by=second, at=OCTOBER)
    for change in ("reason = 'another'", "way = 'write_off'", "proposed_by_id = proposed_by_id + 1"):
        with (
            pytest.raises(DatabaseError, match="stands as it was proposed"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"UPDATE ledger_advancecancellation SET {change}")


def test_not_even_a_superuser_cancels_alone_or_what_was_paid(committed_database: CommittedDatabase) -> None:
    world = build_world(OCTOBER, contributors=2)
    owed = advance(world, "book", CENT)
    first, second = finance(OCTOBER)
    granted = AdvanceProposal.objects.get()
    open_, payable, other, cost = journal.open_accounts(
        [owed, world.key("contributor_payable"), world.key("contributor_payable", 1), COST]
    )
    insert = (
        "INSERT INTO ledger_advancecancellation (advance_id, way, reason, state, proposed_by_id, proposed_at)"
        f" VALUES ({granted.pk}, '{{way}}', 'r', '{{state}}', {first.pk}, now())"
    )
    entry = (
        "SELECT ledger_post('cancel_advance', '{key}', '2026-10-25', ARRAY[{accounts}], ARRAY[{units}], NULL, NULL, '',"
        " '')"
    )
    post = (
        "UPDATE ledger_advancecancellation SET state = 'approved', decided_by_id = {by}, decided_at = now(),"
        " amount = {amount}, entry_id = (SELECT max(id) FROM ledger_entry) WHERE state = 'proposed'"
    )
    asked = insert.format(way="take_back", state="proposed")
    alone = entry.format(key="a", accounts=f"{payable}, {open_}", units="-7, 7")
    by_another = post.format(by=second.pk, amount=7)
    not_so = "not proposed by one person and approved by another"
    # Another advance under the contract leaves room on the account, but not in this one.
    advance(world, "book", CENT)
    room = entry.format(key="e", accounts=f"{payable}, {open_}", units=f"-{CENT + 1}, {CENT + 1}")
    attempts = [
        ([alone], not_so),
        ([asked, room, post.format(by=second.pk, amount=CENT + 1)], not_so),
        ([asked, alone, post.format(by=first.pk, amount=7)], "approved_by_somebody_else"),
        ([asked, alone, post.format(by=second.pk, amount=8)], not_so),
        # Out of somebody else's money, or out of the programme's though it was not so proposed.
        ([asked, entry.format(key="b", accounts=f"{other}, {open_}", units="-7, 7"), by_another], "not within|limits"),
        ([asked, entry.format(key="c", accounts=f"{cost}, {open_}", units="-7, 7"), by_another], not_so),
        # More than is open.
        ([asked, entry.format(key="d", accounts=f"{payable}, {open_}", units=f"{-3 * CENT}, {3 * CENT}")], "limits"),
        ([insert.format(way="take_back", state="posted")], "cannot begin as"),
        # With the grant as its entry.
        ([asked, by_another], "names no entry that cancels"),
        (["DELETE FROM ledger_advancecancellation"], "never changed"),
    ]
    superuser = psycopg2.connect(committed_database.url)
    try:
        for statements, refusal in attempts:
            with pytest.raises(psycopg2.Error, match=refusal), superuser, superuser.cursor() as cursor:
                cursor.execute(";".join(statements))
        pay(world, CENT, OCTOBER)
        verbs.post_verb(
            verb="absorb_deficit",
            contributor_id=world.contributors[0].pk,
            amount=1,
            currency="USD",
            reference="d",
            at=OCTOBER,
        )
        payouts.record_bank_return(
            contributor_id=world.contributors[0].pk, amount=CENT, currency="USD", return_id="b", at=OCTOBER
        )
        paid = pytest.raises(psycopg2.Error, match="takes back what was paid out")
        with paid, superuser, superuser.cursor() as cursor:
            cursor.execute(";".join([asked, alone, by_another]))
    finally:
        superuser.close()


def test_a_close_and_a_cancellation_at_once_never_give_the_same_money_twice(
    committed_database: CommittedDatabase,
) -> None:
    world = build_world(OCTOBER, contributors=1)
    terms(world, "book", covers_rest=True)
    open_ = advance(world, "book", 25 * CENT)
    earn(world, 10)
    closing.close_period(period=202609, at=NOVEMBER)
    (first, second), failures = finance(NOVEMBER), []
    proposed = advances.propose_cancellation(
        advance=AdvanceProposal.objects.get(), way="take_back", reason="r", by=first, at=NOVEMBER
    )
    started = threading.Barrier(2)

    def run(act: Any) -> None:
        started.wait()
        try:
            act()
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=run, args=[act])
        for act in (
            lambda: closing.close_period(period=202610, at=NOVEMBER),
            lambda: approve(proposed, by=second, at=NOVEMBER),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Recouped in full before the cancellation came, or cancelled before, or a part of each.
    assert [str(error) for error in failures] in ([], ["Nothing of it is open: it is earned back or cancelled."])
    assert Period.objects.get(pk=202610).state == "closed"
    assert journal.owed(open_) == 0
    assert not violated()


# --- the page -----------------------------------------------------------------------------------------------------
def test_an_advance_is_cancelled_on_its_page_by_two_people(programme: Programme) -> None:
    maker, checker = programme.staff_client("finance_maker"), programme.staff_client("finance_checker")
    at = datetime.now(UTC)
    periods.open_periods(at=at)
    contract = contracts.record_contract(
        contributor=programme.contributors[0], code="essays", title="Essays", by=programme.staff["finance_maker"], at=at
    )
    asked = advances.propose_advance(
        contract=contract,
        amount=300 * 10**9,
        currency="USD",
        reason="r",
        reference="r",
        by=programme.staff["finance_maker"],
        at=at,
    )
    page = f"/console/advances/{asked.pk}/"
    assert "Cancel the open part" not in text_of(maker.get(page).content)
    approve(asked, by=programme.staff["finance_checker"], at=at)
    assert "Propose to cancel it" in text_of(maker.get(page).content)
    assert "Propose to cancel it" not in text_of(programme.staff_client("auditor").get(page).content)
    who = programme.contributors[0].pk
    reserved = payouts.reserve_payout(
        contributor_id=who, currency="USD", gross=10**9, tax=0, rail="stripe", attempt_key="p", at=at
    )
    shown = text_of(maker.get(page).content)
    assert "A payout that takes it is under way" in shown
    assert "Propose to cancel it" not in shown
    payouts.refuse_payout(reserve_entry=reserved, attempt_key="p", at=at)
    maker.post(f"{page}cancel/", {"way": "take_back", "reason": "The book will not appear"})
    found = AdvanceCancellation.objects.get()
    decide = f"/console/proposals/cancellation/{found.pk}/"
    maker.post(decide, {"decision": "approve"})
    found.refresh_from_db()
    assert found.state == "proposed"
    answer = checker.get(page).content
    assert "The book will not appear" in text_of(answer)
    assert f'href="{decide}"'.encode() in answer
    assert b'name="decision" value="approve"' in checker.get(decide).content
    assert b'name="decision" value="approve"' not in maker.get(decide).content
    checker.post(decide, {"decision": "approve"})
    found.refresh_from_db()
    assert (found.state, found.amount) == ("approved", 300 * 10**9)
    entry = text_of(checker.get(f"/console/journal/{found.entry_id}/").content)
    assert f"Proposed by {found.proposed_by}, approved by {found.decided_by}" in entry
    assert checker.post("/console/proposals/cancellation/9999/", {"decision": "approve"}).status_code == 404
