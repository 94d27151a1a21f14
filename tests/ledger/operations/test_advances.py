"""Advances: two pairs of eyes on every connection; payable at once; pages name the request and the approver."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg2
import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client

from ledger import journal
from ledger.journal import AccountKey
from ledger.models import AdvanceProposal, Contract, Entry
from ledger.operations import advances, contracts
from ledger.queries.invariants import check_all
from people.actor import UnableToAct
from people.operations.proposals import UnableToDecide, approve, withdraw
from people.operations.users import register_user
from tests.databases import CommittedDatabase
from tests.worlds.contracts import advance, contract
from tests.worlds.manual import finance
from tests.worlds.pages import sure, text_of
from tests.worlds.programme import Programme
from tests.worlds.world import CENT, World, build_world


@pytest.fixture
def world(db: None, at: Any) -> World:
    return build_world(at, contributors=1)


def propose(world: World, **changes: Any) -> AdvanceProposal:
    found = Contract.objects.first() or contract(world, "book")
    arguments: dict[str, Any] = {
        "contract": found,
        "amount": 300 * CENT,
        "currency": "USD",
        "reason": "signing",
        "reference": "clause 4",
        "by": finance(world.at)[0],
        "at": world.at,
        **changes,
    }
    return advances.propose_advance(**arguments)


def test_an_advance_is_proposed_by_one_and_granted_by_another(world: World) -> None:
    first, second = finance(world.at)
    asked = propose(world)
    assert not Entry.objects.exists()
    with pytest.raises(UnableToDecide, match="somebody else has to approve it"):
        approve(asked, by=first, at=world.at)
    granted = approve(asked, by=second, at=world.at)
    assert granted.entry is not None
    assert (granted.entry.kind, granted.entry.reference) == ("grant_advance", "clause 4: signing")
    owner = f"contributor:{world.contributors[0].pk}"
    assert journal.owed(AccountKey("advance", "USD", owner, "book")) == 300 * CENT
    assert world.balance("contributor_payable") == 300 * CENT
    with pytest.raises(UnableToDecide, match="approved already"):
        approve(asked, by=second, at=world.at)
    assert not [r.rows for r in check_all() if r.rows]


def test_an_equal_advance_is_proposed_once_at_a_time(world: World) -> None:
    _first, second = finance(world.at)
    asked = propose(world)
    with pytest.raises(advances.UnableToProposeAdvance, match="proposed already"):
        propose(world, reason="the form was sent twice")
    propose(world, reference="clause 5")
    with pytest.raises(DatabaseError, match="an_equal_advance_is_proposed_once"), transaction.atomic():
        AdvanceProposal.objects.bulk_create([AdvanceProposal(**_terms(asked))])
    approve(asked, by=second, at=world.at)
    # A second, intended advance is possible: the first one is decided.
    assert propose(world).pk != asked.pk


def _terms(asked: AdvanceProposal) -> dict[str, Any]:
    names = ("contract_id", "currency", "amount", "reason", "reference", "proposed_by_id", "proposed_at")
    return {name: getattr(asked, name) for name in names}


def test_an_advance_that_its_proposer_withdrew_is_never_approved(world: World) -> None:
    first, second = finance(world.at)
    asked = withdraw(propose(world), by=first, at=world.at)
    with pytest.raises(UnableToDecide, match="withdrawn already"):
        approve(asked, by=second, at=world.at)
    assert not Entry.objects.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"amount": 0}, "above zero"),
        ({"amount": -CENT}, "above zero"),
        ({"amount": 2**63}, "larger than the ledger can hold"),
        ({"amount": CENT + 1}, "whole multiples of USD 0.01"),
        ({"currency": "XXX"}, "no currency 'XXX'"),
        ({"reason": " "}, "why the advance is paid"),
        ({"reason": "x" * 301}, "why the advance is paid"),
        ({"reference": ""}, "Name the evidence"),
    ],
)
def test_an_advance_that_cannot_be_is_refused_and_no_row_is_written(
    world: World, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(advances.UnableToProposeAdvance, match=named):
        propose(world, **changes)
    assert not AdvanceProposal.objects.exists()


def test_only_finance_proposes_and_only_a_checker_grants(world: World) -> None:
    with pytest.raises(UnableToAct, match="takes the role finance_maker or finance_checker"):
        propose(world, by=world.users[0])
    asked = propose(world)
    maker = register_user(email="m@example.org", password="x" * 12, name="M", at=world.at, roles=["finance_maker"])
    with pytest.raises(UnableToDecide, match="finance_checker"):
        approve(asked, by=maker, at=world.at)


def test_an_advance_is_not_changed_after_it_was_proposed(world: World) -> None:
    propose(world)
    for change in (
        "amount = amount + 1",
        "reason = 'another'",
        "proposed_by_id = proposed_by_id + 1",
        "currency = 'EUR'",
    ):
        with (
            pytest.raises(DatabaseError, match="stands as it was proposed"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"UPDATE ledger_advanceproposal SET {change}")


def test_not_even_a_superuser_grants_an_advance_alone(committed_database: CommittedDatabase, at: Any) -> None:
    world = build_world(at, contributors=2)
    owed = advance(world, "book", CENT)
    first, second = finance(at)
    found = Contract.objects.get(code="book")
    open_, payable = journal.open_accounts([owed, world.key("contributor_payable")])
    tour, other = journal.open_accounts([replace(owed, contract="tour"), world.key("contributor_payable", 1)])
    entry = (
        "SELECT ledger_post('grant_advance', '{key}', '2026-11-20', ARRAY[{accounts}], ARRAY[{units}], NULL, NULL, '',"
        " '')"
    )
    insert = (
        "INSERT INTO ledger_advanceproposal (contract_id, currency, amount, reason, reference, state, proposed_by_id,"
        f" proposed_at) VALUES ({found.pk}, '{{currency}}', 7, 'r', 'r', '{{state}}', {first.pk}, now())"
    )
    grant = (
        "UPDATE ledger_advanceproposal SET state = 'approved', decided_by_id = {by}, decided_at = now(),"
        " entry_id = (SELECT max(id) FROM ledger_entry) WHERE state = 'proposed'"
    )
    asked = insert.format(currency="USD", state="proposed")
    alone = entry.format(key="a", accounts=f"{open_}, {payable}", units="-7, 7")
    by_another = grant.format(by=second.pk)
    not_so = "not proposed by one person and approved by another"
    attempts = [
        ([alone], not_so),
        ([asked, alone, grant.format(by=first.pk)], "a_advanceproposal_is_approved_by_somebody_else"),
        # More than was asked, to somebody else, under another contract, in another currency.
        ([asked, entry.format(key="b", accounts=f"{open_}, {payable}", units="-8, 8"), by_another], not_so),
        ([asked, entry.format(key="c", accounts=f"{open_}, {other}", units="-7, 7"), by_another], not_so),
        ([asked, entry.format(key="d", accounts=f"{tour}, {payable}", units="-7, 7"), by_another], not_so),
        ([insert.format(currency="EUR", state="proposed"), alone, by_another], not_so),
        # A granted advance that names another's entry.
        ([asked, grant.format(by=second.pk)], "unique constraint"),
        ([insert.format(currency="USD", state="approved")], "cannot begin as"),
        (["UPDATE ledger_advanceproposal SET amount = 9 WHERE state = 'approved'"], "stands as it was proposed"),
        (["DELETE FROM ledger_advanceproposal"], "never changed"),
        (["TRUNCATE ledger_advanceproposal CASCADE"], "never changed"),
    ]
    superuser = psycopg2.connect(committed_database.url)
    try:
        for statements, refusal in attempts:
            with pytest.raises(psycopg2.Error, match=refusal), superuser, superuser.cursor() as cursor:
                # One after the other in one transaction; a deferred check speaks at its end.
                cursor.execute(";".join(statements))
        # Two people make it good.
        with superuser, superuser.cursor() as cursor:
            for statement in (asked, alone, by_another):
                cursor.execute(statement)
    finally:
        superuser.close()
    assert Entry.objects.filter(kind="grant_advance").count() == 2


# --- pages --------------------------------------------------------------------------------------------------------
FORM = {"amount": "3000.00", "currency": "USD", "reason": "Signing of the agreement", "reference": "Clause 4"}


@pytest.fixture
def book(programme: Programme) -> Contract:
    assert programme.plan is not None
    return contracts.record_contract(
        contributor=programme.contributors[0],
        code="essays",
        title="Collected essays",
        by=programme.staff["finance_maker"],
        at=programme.plan.proposed_at,
    )


def test_an_advance_goes_from_its_contract_s_page_through_two_people_to_the_journal(
    programme: Programme, book: Contract
) -> None:
    maker, checker = programme.staff_client("finance_maker"), programme.staff_client("finance_checker")
    assert "Propose an advance" in text_of(maker.get(f"/console/contracts/{book.pk}/").content)
    answer = sure(maker, f"/console/contracts/{book.pk}/advance/", FORM)
    asked = AdvanceProposal.objects.get()
    assert answer["Location"] == f"/console/advances/{asked.pk}/"
    page = text_of(maker.get(answer["Location"]).content)
    assert "You proposed this advance, so somebody else has to approve it" in page
    assert 'value="approve"' not in maker.get(answer["Location"]).content.decode()
    assert "The contract has no terms in force: from all of the contributor's earnings" in page
    decide = f"/console/proposals/advance/{asked.pk}/"
    maker.post(decide, {"decision": "approve"})
    asked.refresh_from_db()
    assert asked.state == "proposed"
    assert 'value="approve"' in checker.get(answer["Location"]).content.decode()
    checker.post(decide, {"decision": "approve"})
    asked.refresh_from_db()
    assert (asked.state, asked.decided_by, asked.amount) == (
        "approved",
        programme.staff["finance_checker"],
        3000 * 10**9,
    )
    entry = text_of(checker.get(f"/console/journal/{asked.entry_id}/").content)
    assert f"Proposed by {asked.proposed_by}, approved by {asked.decided_by}" in entry
    for address in ("/console/advances/", f"/console/contracts/{book.pk}/"):
        shown = text_of(checker.get(address).content)
        assert "Approved" in shown
        assert "3,000.00" in shown


def test_a_rejected_advance_stays_on_record(programme: Programme, book: Contract) -> None:
    maker, checker = programme.staff_client("finance_maker"), programme.staff_client("finance_checker")
    sure(maker, f"/console/contracts/{book.pk}/advance/", FORM)
    asked = AdvanceProposal.objects.get()
    decide = f"/console/proposals/advance/{asked.pk}/"
    checker.post(decide, {"decision": "reject", "reason": "The clause is another."})
    assert "Rejected" in text_of(maker.get("/console/advances/").content)
    assert "The clause is another." in text_of(maker.get(f"/console/advances/{asked.pk}/").content)
    assert not Entry.objects.filter(kind="grant_advance").exists()


def test_approving_needs_the_second_factor_used_just_now(programme: Programme, book: Contract) -> None:
    sure(programme.staff_client("finance_maker"), f"/console/contracts/{book.pk}/advance/", FORM)
    asked = AdvanceProposal.objects.get()
    stale = Client(headers={"Host": "127.0.0.1"})
    stale.force_login(programme.staff["finance_checker"], backend="allauth.account.auth_backends.AuthenticationBackend")
    answer = stale.post(f"/console/proposals/advance/{asked.pk}/", {"decision": "approve"})
    assert answer["Location"].startswith("/accounts/2fa/reauthenticate/")
    asked.refresh_from_db()
    assert asked.state == "proposed"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"amount": "much"}, "is no number, such as 1250.50"),
        ({"amount": "0"}, "above zero"),
        ({"amount": "0.001"}, "whole multiples of USD 0.01"),
        ({"amount": ""}, "This field is required"),
        ({"reason": ""}, "This field is required"),
        ({"reference": "x" * 201}, "at most 200 characters"),
        ({"currency": "XXX"}, "not one of the available choices"),
    ],
)
def test_a_wrong_advance_is_refused_on_its_page(
    programme: Programme, book: Contract, wrong: dict[str, str], words: str
) -> None:
    answer = sure(programme.staff_client("finance_maker"), f"/console/contracts/{book.pk}/advance/", FORM | wrong)
    assert answer.status_code == 422
    assert words in text_of(answer.content)
    assert not AdvanceProposal.objects.exists()


def test_readers_read_advances_and_neither_propose_nor_decide(programme: Programme, book: Contract) -> None:
    sure(programme.staff_client("finance_maker"), f"/console/contracts/{book.pk}/advance/", FORM)
    asked = AdvanceProposal.objects.get()
    auditor = programme.staff_client("auditor")
    for address in ("/console/advances/", f"/console/advances/{asked.pk}/"):
        assert auditor.get(address).status_code == 200
        assert programme.client(0).get(address).status_code == 403
    assert "Decide" not in text_of(auditor.get(f"/console/advances/{asked.pk}/").content)
    assert auditor.get(f"/console/contracts/{book.pk}/advance/").status_code == 403
    assert auditor.post(f"/console/proposals/advance/{asked.pk}/", {"decision": "approve"}).status_code == 403
    assert auditor.get("/console/advances/9999/").status_code == 404
    assert programme.staff_client("finance_maker").get("/console/contracts/9999/advance/").status_code == 404
