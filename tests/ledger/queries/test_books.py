from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from contributors.models import PPB
from ledger.models import Accrual, Line
from ledger.operations import payouts, plans
from ledger.queries import books, earnings, receipt, receipts
from ledger.queries.balances import Balances, accounts_of, balances_of, payable
from people.operations.proposals import approve
from tests.worlds.programme import AT, NOVEMBER, OCTOBER, Programme

pytestmark = pytest.mark.django_db
DOLLAR = 10**9


def own_credits(programme: Programme, place: int) -> dict[str, int]:
    """generation -> the credits of its documents to a contributor, read straight from the tables."""
    account = accounts_of(programme.contributors[place].pk, ("contributor_accrued",))[0].pk
    return {str(d.generation_id): d.credits[account] for d in Accrual.objects.all() if account in d.credits}


# --- balances -----------------------------------------------------------------------------------------------------
def test_a_contributor_without_any_entry_has_zeros_in_its_own_currency(programme: Programme) -> None:
    assert balances_of(programme.contributors[0].pk) == [Balances("USD")]


def test_what_is_accrued_is_pending_until_its_month_is_closed(accrued: Programme) -> None:
    earned = sum(own_credits(accrued, 0).values())
    (balances,) = balances_of(accrued.contributors[0].pk)
    assert (balances.pending, balances.payable, balances.earned) == (earned, 0, earned)
    accrued.close()
    (closed,) = balances_of(accrued.contributors[0].pk)
    assert closed.pending == 0
    assert closed.payable == closed.earned > earned


def test_the_six_figures_of_a_balance_add_up_to_what_was_earned_whatever_happens(accrued: Programme) -> None:
    accrued.generate(200)
    accrued.attribute(accrued.generations[30:], scores=[1.0, 0.5, 0.2])
    accrued.close()
    contributor = accrued.contributors[0].pk
    (before,) = balances_of(contributor)
    accrued.pay(0, DOLLAR // 10, tax=DOLLAR // 50)
    accrued.pay(0, DOLLAR // 5, ends="transit")
    accrued.pay(0, DOLLAR // 2, ends="refused")
    (after,) = balances_of(contributor)
    assert after.paid == DOLLAR // 10 - DOLLAR // 50
    assert after.withheld == DOLLAR // 50
    assert after.in_transit == DOLLAR // 5
    assert after.payable == before.payable - DOLLAR // 10 - DOLLAR // 5
    assert after.earned == before.earned


def test_a_reversed_transfer_is_paid_no_longer(accrued: Programme) -> None:
    accrued.attribute(accrued.generate(100), scores=[1.0, 0.5, 0.2])
    accrued.close()
    contributor = accrued.contributors[0].pk
    (before,) = balances_of(contributor)
    accrued.pay(0, DOLLAR // 10)
    payouts.record_transfer_reversal(
        contributor_id=contributor, currency="USD", amount=DOLLAR // 10, reversal_id="trr_1", at=AT
    )
    assert balances_of(contributor) == [before]


def test_money_that_has_not_matured_is_pending_and_no_payout_may_take_it(accrued: Programme) -> None:
    accrued.close()
    contributor = accrued.contributors[0].pk
    (balances,) = balances_of(contributor, matured_before=AT.replace(month=10, day=1))
    assert balances.payable == 0 == payable(contributor, "USD", AT.replace(month=10, day=1))
    assert balances.pending == balances.earned
    assert payable(contributor, "USD", AT) == balances.earned


# --- receipts -----------------------------------------------------------------------------------------------------
def test_the_list_shows_every_credit_once_newest_generation_first(accrued: Programme) -> None:
    for place in range(3):
        page = receipts.receipts_of(accrued.contributors[place].pk, limit=100)
        assert {str(row.generation_id): row.amount for row in page.rows} == own_credits(accrued, place)
        assert page.next_after == ""
    # Posted later, generated between the others.
    accrued.attribute(accrued.generate(5, every=timedelta(hours=7)))
    accrued.accrue()
    rows = receipts.receipts_of(accrued.contributors[0].pk, limit=100).rows
    moments = [row.occurred_at for row in rows]
    assert moments == sorted(moments, reverse=True)
    assert [row.entry_id for row in rows] != sorted((row.entry_id for row in rows), reverse=True)


@pytest.mark.parametrize("walks", [False, True])
def test_pages_follow_each_other_without_a_gap_or_a_repetition(
    accrued: Programme, monkeypatch: pytest.MonkeyPatch, walks: bool
) -> None:
    for n in (3, 2, 6):
        # Every third generation has the moment of another one.
        accrued.attribute(accrued.generate(n, every=timedelta(hours=9)), scores=[1.0, 0.6, 0.2])
        accrued.accrue()
    contributor = accrued.contributors[0].pk
    whole = receipts.receipts_of(contributor, limit=200).rows
    if walks:
        monkeypatch.setattr("ledger.queries.receipts.BATCHES_MAX", 1)
        monkeypatch.setattr("ledger.queries.receipts.GENERATIONS_MAX", 5)
    for limit in (1, 4, 7, 29):
        found, after = [], ""
        while True:
            page = receipts.receipts_of(contributor, limit=limit, after=after)
            found += page.rows
            after = page.next_after
            if not after:
                break
        assert found == whole


def test_a_contributor_who_is_rarely_credited_is_searched_on_part_by_part(
    programme: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(7):
        programme.attribute(programme.generate(1), scores=[1.0, 0.0, 0.0])
        programme.attribute(programme.generate(1, version=1), scores=[1.0, 0.0, 0.0])
        programme.accrue()
    monkeypatch.setattr("ledger.queries.receipts.BATCHES_MAX", 3)
    monkeypatch.setattr("ledger.queries.receipts.GENERATIONS_MAX", 6)
    contributor, found, after, pages = programme.contributors[0].pk, [], "", 0
    while pages == 0 or after:
        page = receipts.receipts_of(contributor, model=programme.versions[1].public_id, after=after)
        found += page.rows
        after, pages = page.next_after, pages + 1
    assert len(found) == 7
    assert pages == 3


def test_the_filters_narrow_by_month_service_model_and_work(accrued: Programme) -> None:
    accrued.attribute(accrued.generate(4, version=1), scores=[0.0, 0.0, 1.0])
    accrued.accrue()
    contributor = accrued.contributors[2].pk
    everything = receipts.receipts_of(contributor, limit=100).rows
    by_service = receipts.receipts_of(contributor, service=accrued.services[1].public_id, limit=100).rows
    assert len(by_service) == 4
    assert {row.service for row in by_service} == {"Orator Labs"}
    assert receipts.receipts_of(contributor, model=accrued.versions[1].public_id, limit=100).rows == by_service
    assert receipts.receipts_of(contributor, month=OCTOBER, limit=100).rows == everything
    assert receipts.receipts_of(contributor, month=NOVEMBER).rows == []
    assert receipts.receipts_of(contributor, work=accrued.works_of(2)[0].pk, limit=100).rows == everything
    assert receipts.receipts_of(contributor, work=accrued.works_of(0)[0].pk).rows == []


def test_a_cursor_that_is_none_begins_at_the_beginning(accrued: Programme) -> None:
    first = receipts.receipts_of(accrued.contributors[0].pk).rows
    for after in ("nonsense", "1.2.3", "9" * 30 + "." + "0" * 32 + ".1", "-1.0.0", "1"):
        assert receipts.receipts_of(accrued.contributors[0].pk, after=after).rows == first


def test_a_restatement_is_shown_as_taken_back_and_given_anew(accrued: Programme) -> None:
    (generation,) = accrued.generate(1)
    accrued.attribute([generation], scores=[1.0, 1.0, 0.0])
    accrued.accrue()
    accrued.attribute([generation], scores=[1.0, 3.0, 0.0], revision=2)
    accrued.accrue()
    rows = [
        r for r in receipts.receipts_of(accrued.contributors[0].pk, limit=100).rows if r.generation_id == generation.pk
    ]
    assert sorted(row.revision for row in rows) == [-1, 1, 2]
    assert sum(row.amount for row in rows) == next(row.amount for row in rows if row.revision == 2)


# --- one receipt --------------------------------------------------------------------------------------------------
def test_the_published_rule_gives_what_the_journal_has_for_every_generation(accrued: Programme) -> None:
    for generation in accrued.generations[:12]:
        for place in range(3):
            found = receipt.receipt_for_contributor(generation.pk, accrued.contributors[place].pk)
            assert found is not None
            assert found.credited == found.recomputed == own_credits(accrued, place).get(str(generation.pk), 0)
            assert sum(work.amount for work in found.works) in {found.credited, 0}


def test_the_steps_of_a_division_sum_to_the_gross(accrued: Programme) -> None:
    found = receipt.receipt_for_contributor(accrued.generations[0].pk, accrued.contributors[0].pk)
    assert found is not None
    division = found.division
    assert division.take + sum(division.units) + division.to_floor_pool == division.gross
    assert sum(division.units) + division.unattributed == division.direct


def test_a_split_sheet_divides_a_holder_s_credit(programme: Programme) -> None:
    from contributors.operations.people import record_split_sheet
    from tests.worlds.programme import REGISTERED

    lincoln, grant, _ = programme.contributors
    record_split_sheet(
        holder=programme.holders[0],
        parts={lincoln: PPB // 3, grant: PPB - PPB // 3},
        effective_from=REGISTERED.replace(day=2),
        at=REGISTERED,
    )
    (generation,) = programme.generate(1)
    programme.attribute([generation], scores=[1.0, 0.0, 0.0])
    programme.accrue()
    found = [receipt.receipt_for_contributor(generation.pk, c.pk) for c in (lincoln, grant)]
    assert [f.credited for f in found if f] == [f.recomputed for f in found if f]
    assert sum(f.credited for f in found if f) == found[0].division.units[0]  # type: ignore[union-attr]


def test_a_plan_that_pays_part_by_general_shares_is_recomputed_too(programme: Programme) -> None:
    plan = plans.propose_plan(
        by=programme.staff["finance_maker"],
        currency="USD",
        effective_from=AT,
        at=AT,
        terms={
            "basis": "price",
            "price": 70_000_001,
            "take_ppb": PPB // 7,
            "floor_ppb": PPB // 9,
            "general_ppb": PPB // 3,
        },
    )
    approve(plan, by=programme.staff["finance_checker"], at=AT)
    made = programme.generate(6, first=AT, every=AT - AT)
    programme.attribute(made)
    programme.accrue()
    for generation in made:
        found = receipt.receipt_for_contributor(generation.pk, programme.contributors[1].pk)
        assert found is not None
        assert found.credited == found.recomputed > 0


def test_a_generation_that_weighed_nothing_of_a_contributor_s_is_no_receipt_of_it(accrued: Programme) -> None:
    from contributors.operations.people import register_contributor

    stranger = register_contributor(
        user=accrued.members[0], kind="person", legal_name="Stranger", display_name="Stranger", country="DE", at=AT
    )
    assert receipt.receipt_for_contributor(accrued.generations[0].pk, stranger.pk) is None


# --- earnings -----------------------------------------------------------------------------------------------------
def test_earnings_by_work_model_and_service_each_sum_to_the_credits(accrued: Programme) -> None:
    accrued.attribute(accrued.generate(9, version=1))
    accrued.accrue()
    for place in range(3):
        contributor = accrued.contributors[place].pk
        credited = sum(own_credits(accrued, place).values())
        for found in (
            earnings.earnings_by_work(contributor, OCTOBER),
            earnings.earnings_by_model(contributor, OCTOBER),
            earnings.earnings_by_service(contributor, OCTOBER),
        ):
            assert sum(row.amount for row in found) == credited
        (month,) = earnings.earnings_by_month(contributor)
        assert (month.period, month.direct, month.floor) == ("2026-10", credited, 0)


def test_the_floor_pool_is_told_apart_by_month(accrued: Programme) -> None:
    accrued.close()
    for place in range(3):
        contributor = accrued.contributors[place].pk
        (month,) = earnings.earnings_by_month(contributor)
        assert month.floor > 0
        assert month.total == balances_of(contributor)[0].earned


# --- books --------------------------------------------------------------------------------------------------------
def test_the_trial_balance_sums_to_zero_now_and_at_every_entry(accrued: Programme) -> None:
    accrued.close()
    accrued.pay(0, DOLLAR // 100)
    now = books.trial_balance()
    assert now.difference("USD") == 0
    for number in range(1, now.as_of + 1):
        then = books.trial_balance(number)
        assert then.difference("USD") == 0
        assert then.as_of == number
    assert books.trial_balance(now.as_of).rows == now.rows


def test_an_empty_ledger_has_an_empty_trial_balance(programme: Programme) -> None:
    found = books.trial_balance()
    assert (found.as_of, found.rows, found.hash) == (0, {}, b"")


def test_entries_are_found_by_kind_period_and_account(accrued: Programme) -> None:
    accrued.close()
    found, more = books.entries(limit=100)
    assert more is None
    assert [entry.pk for entry in found] == sorted((entry.pk for entry in found), reverse=True)
    assert {entry.kind for entry in books.entries(kind="accrue")[0]} == {"accrue"}
    assert books.entries(period=NOVEMBER)[0] == []
    account = accounts_of(accrued.contributors[0].pk)[0].pk
    on_account = {entry.pk for entry in books.entries(account=account)[0]}
    assert on_account == set(Line.objects.filter(account_id=account).values_list("entry_id", flat=True))


def test_entries_are_paged_by_number(accrued: Programme) -> None:
    accrued.close()
    whole = [entry.pk for entry in books.entries(limit=100)[0]]
    found: list[int] = []
    before: int | None = None
    while True:
        page, before = books.entries(limit=2, before=before)
        found += [entry.pk for entry in page]
        if before is None:
            break
    assert found == whole


def test_an_entry_in_full_balances_chains_and_pages_through_its_documents(
    accrued: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.queries.books.DOCUMENTS_PAGE", 11)
    seen: list[uuid.UUID] = []
    after: uuid.UUID | None = None
    while True:
        found = books.entry_in_full(1, after_document=after)
        assert found is not None
        seen += [document.generation_id for document in found.documents]
        if (after := found.next_document) is None:
            break
    assert len(seen) == len(set(seen)) == found.entry.n_docs == 30
    assert all(debits == credits for _, debits, credits in found.sums)
    assert found.chain_holds
    assert books.entry_in_full(99) is None


def test_a_page_of_documents_never_parts_a_restatement_from_what_it_takes_back(
    accrued: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    accrued.attribute(accrued.generations[:7], scores=[0.5, 1.0, 0.0], revision=2)
    accrued.accrue()
    monkeypatch.setattr("ledger.queries.books.DOCUMENTS_PAGE", 5)
    seen: list[tuple[uuid.UUID, int]] = []
    after: uuid.UUID | None = None
    while True:
        found = books.entry_in_full(2, after_document=after)
        assert found is not None
        assert len(found.documents) % 2 == 0
        seen += [(document.generation_id, document.revision) for document in found.documents]
        if (after := found.next_document) is None:
            break
    assert len(seen) == len(set(seen)) == found.entry.n_docs == 14


def test_what_waits_for_its_accrual_is_counted_by_what_it_waits_for(accrued: Programme) -> None:
    from ledger.models import Period

    accrued.generate(3)
    accrued.attribute(accrued.generate(2))
    counted = books.not_accrued(Period.objects.get(pk=OCTOBER))
    assert (counted.received, counted.attributed, counted.refused, counted.total) == (3, 2, 0, 5)


@pytest.mark.parametrize(
    ("code", "number"),
    [("2026-10", 202610), ("2026-13", None), ("2026-00", None), ("202610", None), ("２０２６-10", None), ("", None)],
)
def test_a_period_is_written_as_year_and_month(code: str, number: int | None) -> None:
    assert books.period_number(code) == number
