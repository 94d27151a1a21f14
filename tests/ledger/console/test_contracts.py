"""Contracts and entries by hand on their pages: proposed by one, previewed, approved by another."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from contributors.models import PPB
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import Contract, ContractTerms, Entry, ManualEntry
from ledger.operations import manual
from ledger.queries.parties import months_after
from tests.worlds.pages import sure, text_of
from tests.worlds.programme import Programme

pytestmark = pytest.mark.django_db


def next_month() -> str:
    return months_after(now().date().replace(day=1), 1).isoformat()


def terms_form(**changes: Any) -> dict[str, Any]:
    return {
        "effective_from": next_month(), "covers": "rest", "guarantee": "250.00", "guarantee_currency": "USD",
        "guarantee_payer": "programme", "recoup_order": "10", "recoup_group": "", "reserve": "12.5",
        "schedule": "6: 50, 12: 50", "note": "", **changes,
    }  # fmt: skip


def lines_form(*lines: tuple[str, str, str, str]) -> dict[str, str]:
    form = {
        "reason": "the bank took a fee twice",
        "reference": "letter 7",
        "currency": "USD",
        "line-TOTAL_FORMS": "4",
        "line-INITIAL_FORMS": "0",
        "line-MIN_NUM_FORMS": "0",
        "line-MAX_NUM_FORMS": "1000",
    }
    for n in range(4):
        kind, owner, side, amount = lines[n] if n < len(lines) else ("", "", "debit", "")
        form |= {f"line-{n}-kind": kind, f"line-{n}-owner": owner, f"line-{n}-side": side, f"line-{n}-amount": amount}
    return form


@pytest.fixture
def maker(accrued: Programme) -> Client:
    return accrued.staff_client("finance_maker")


@pytest.fixture
def checker(accrued: Programme) -> Client:
    return accrued.staff_client("finance_checker")


@pytest.fixture
def contract(accrued: Programme, maker: Client) -> Contract:
    answer = maker.post(
        "/console/contracts/new/",
        {"contributor": accrued.contributors[0].display_name, "title": "Collected essays", "code": "essays"},
    )
    assert answer.status_code == 302
    return Contract.objects.get()


def test_terms_are_proposed_previewed_and_approved_by_somebody_else(
    accrued: Programme, contract: Contract, maker: Client, checker: Client
) -> None:
    accrued.close()
    answer = sure(maker, f"/console/contracts/{contract.pk}/propose/", terms_form())
    assert answer.status_code == 302
    made = ContractTerms.objects.get()
    assert (made.guarantee, made.reserve_ppb, made.release_ppb) == (250 * 10**9, PPB // 8, [PPB // 2, PPB // 2])
    page = text_of(maker.get(answer["Location"]).content)
    assert "Its effect in 2026-10" in page
    assert "Gains and losses" in page
    assert "Each month brings at least USD 250.00" in page
    assert "somebody else has to approve it" in page
    address = f"/console/proposals/terms/{made.pk}/"
    assert f'action="{address}"' in checker.get(answer["Location"]).content.decode()
    assert maker.post(address, {"decision": "approve"}).status_code == 409
    made.refresh_from_db()
    assert made.state == "proposed"
    checker.post(address, {"decision": "approve"})
    made.refresh_from_db()
    assert (made.state, made.decided_by) == ("approved", accrued.staff["finance_checker"])
    assert "To come" in text_of(accrued.client(0).get("/portal/contracts/").content)
    assert "No contract of your own" in text_of(accrued.client(1).get("/portal/contracts/").content)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"covers": "holders"}, "Tick at least one holder"),
        ({"guarantee": "ten"}, "is no number, such as 1250.50"),
        ({"guarantee": "0.0000000001"}, "is kept with 9"),
        ({"schedule": "soon"}, "is not months and per cent"),
        ({"schedule": "6: 1e999999"}, "is not months and per cent"),
        ({"schedule": "6: 50"}, "sum to 1,000,000,000"),
        ({"schedule": ""}, "A reserve has a release schedule"),
        ({"reserve": "101"}, "less than or equal to 100"),
        ({"effective_from": "2026-10-02"}, "not one of the available choices"),
        ({"cross_recoup": "on"}, "Cross recoupment needs a group"),
    ],
)
def test_terms_that_make_no_sense_are_refused_with_the_reason_on_the_page(
    contract: Contract, maker: Client, wrong: dict[str, str], named: str
) -> None:
    answer = sure(maker, f"/console/contracts/{contract.pk}/propose/", terms_form(**wrong))
    assert answer.status_code == 422
    assert named in text_of(answer.content)
    assert not ContractTerms.objects.exists()


def test_a_contract_of_somebody_who_is_not_there_is_refused(accrued: Programme, maker: Client) -> None:
    for name, title, code, named in [
        ("Nobody", "T", "t", "There is no contributor"),
        (accrued.contributors[0].display_name, "T", "a code", "slug"),
        ("9" * 30, "T", "t", "There is no contributor"),
    ]:
        answer = maker.post("/console/contracts/new/", {"contributor": name, "title": title, "code": code})
        assert named in text_of(answer.content)
    assert not Contract.objects.exists()


def test_who_may_do_what_with_contracts_and_entries_by_hand(accrued: Programme, contract: Contract) -> None:
    pages = ["/console/contracts/", f"/console/contracts/{contract.pk}/", "/console/manual-entries/"]
    forms = [
        "/console/contracts/new/",
        f"/console/contracts/{contract.pk}/propose/",
        "/console/manual-entries/new/",
    ]
    for role, read, write in [
        ("auditor", 200, 403),
        ("compliance", 403, 403),
        ("finance_maker", 200, 200),
        ("finance_checker", 200, 200),
    ]:
        client = accrued.staff_client(role)
        assert {client.get(page).status_code for page in pages} == {read}, role
        assert {client.get(form).status_code for form in forms} == {write}, role
    for address in (
        "/console/contracts/99/",
        f"/console/contracts/{contract.pk}/9/",
        "/console/proposals/manual_entry/99/",
    ):
        assert accrued.staff_client("auditor").get(address).status_code == 404


def test_an_entry_by_hand_is_proposed_and_approved_on_its_pages(
    accrued: Programme, maker: Client, checker: Client
) -> None:
    name = accrued.contributors[0].display_name
    answer = sure(
        maker,
        "/console/manual-entries/new/",
        lines_form(("programme_cost", "", "debit", "12.50"), ("contributor_payable", name, "credit", "12.50")),
    )
    assert answer.status_code == 302
    page = text_of(maker.get(answer["Location"]).content)
    assert "somebody else has to approve it" in page
    assert name in page
    address = answer["Location"]
    maker.post(address, {"decision": "approve"})
    assert ManualEntry.objects.get().state == "proposed"
    checker.post(address, {"decision": "approve"})
    made = ManualEntry.objects.get()
    assert made.entry is not None
    key = AccountKey("contributor_payable", "USD", f"contributor:{accrued.contributors[0].pk}")
    assert journal.balance(key) == 12_500_000_000
    entry = text_of(checker.get(f"/console/journal/{made.entry_id}/").content)
    assert "Proposed by finance_maker, approved by finance_checker" in entry
    assert "Approved" in text_of(checker.get("/console/manual-entries/").content)


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([("bank", "", "debit", "5"), ("fees", "", "credit", "4")], "Debits and credits differ"),
        ([("bank", "", "debit", "5")], "2 to 50,000 lines"),
        ([("bank", "", "debit", "x"), ("fees", "", "credit", "4")], "is no number, such as 1250.50"),
        ([("bank", "", "debit", "-5"), ("fees", "", "credit", "-5")], "above zero"),
        ([("bank", "me", "debit", "5"), ("fees", "", "credit", "5")], "the programme's own"),
        ([("bank", "", "debit", "5"), ("contributor_payable", "", "credit", "5")], "Name its owner"),
        ([("bank", "", "debit", "5"), ("contributor_payable", "Nobody", "credit", "5")], "There is no contributor"),
        ([("bank", "", "debit", ""), ("fees", "", "credit", "5")], "an account and an amount"),
        ([("contributor_accrued", "1", "debit", "5"), ("fees", "", "credit", "5")], "not one of the available choices"),
    ],
)
def test_lines_that_make_no_entry_are_refused_on_the_page(
    maker: Client, lines: list[tuple[str, str, str, str]], named: str
) -> None:
    answer = sure(maker, "/console/manual-entries/new/", lines_form(*lines))
    assert answer.status_code == 422
    assert named in text_of(answer.content)
    assert not ManualEntry.objects.exists()


def test_posting_by_hand_takes_a_fresh_second_factor(accrued: Programme, checker: Client) -> None:
    made = manual.propose_manual_entry(
        lines=[(AccountKey("bank", "USD"), -5), (AccountKey("fees", "USD"), 5)],
        reason="r",
        reference="r",
        by=accrued.staff["finance_maker"],
        at=now(),
    )
    session = checker.session
    session["account_authentication_methods"] = [
        {**session["account_authentication_methods"][0], "at": now().timestamp() - 301}
    ]
    session.save()
    before = Entry.objects.count()
    answer = checker.post(f"/console/proposals/manual_entry/{made.pk}/", {"decision": "approve"})
    assert answer["Location"].startswith("/accounts/2fa/reauthenticate/")
    assert Entry.objects.count() == before


ODD_SCHEDULES = [
    "6: 1e2", "6: 1_00", "6: NaN", "6: \u0661\u0660\u0660", "6_0: 100", "\u0666: 100", "6: -100", "6: 33,3",
    "6: 0.00000001, 12: 99.99999999", "6: 1/2", "6:", ": 100", "six: 100",
]  # fmt: skip


@pytest.mark.parametrize("typed", ODD_SCHEDULES, ids=ascii)
def test_a_release_schedule_has_plain_numbers(contract: Contract, maker: Client, typed: str) -> None:
    answer = maker.post(f"/console/contracts/{contract.pk}/propose/", terms_form(schedule=typed))
    assert answer.status_code == 422
    assert "is not months and per cent, such as 6: 50." in text_of(answer.content)
    assert not ContractTerms.objects.exists()


def test_new_terms_begin_with_the_last_ones_in_a_spelling_that_is_read(
    contract: Contract, maker: Client, checker: Client
) -> None:
    page = f"/console/contracts/{contract.pk}/propose/"
    assert sure(maker, page, terms_form(guarantee="1.1250", schedule="6: 33.125 %, 12: 66.875%", reserve="12,125"))
    row = ContractTerms.objects.get()
    assert (row.guarantee, row.reserve_ppb, row.release_ppb) == (1_125_000_000, 121_250_000, [331_250_000, 668_750_000])
    checker.post(f"/console/proposals/terms/{row.pk}/", {"decision": "approve"})
    begun = maker.get(page).context["form"].initial
    again = {**terms_form(), **{name: begun[name] for name in ("guarantee", "reserve", "schedule")}}
    assert sure(maker, page, again).status_code == 302
    second = ContractTerms.objects.latest("version")
    assert (second.guarantee, second.reserve_ppb, second.release_ppb) == (
        row.guarantee,
        row.reserve_ppb,
        row.release_ppb,
    )
