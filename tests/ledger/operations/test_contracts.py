from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from contributors.models import PPB, Dataset, Work
from contributors.operations.people import register_holder
from contributors.operations.splits import propose_split_sheet
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import Contract, ContractTerms, Entry, Period, ReserveInstalment
from ledger.operations import closing, contracts, payouts, reserves, verbs
from ledger.queries.invariants import check_all
from ledger.queries.previews import preview_terms
from people.operations.proposals import UnableToDecide, approve
from tests.worlds.contracts import HALVES, advance, contract, terms
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import CENT, PRICE, World, build_world

pytestmark = pytest.mark.django_db
# A generation's earnings for one holder that taught it alone: the direct part and the base part.
WHOLE = PRICE * 4 // 5
DIRECT = WHOLE * 4 // 5 // 2
FLOOR = WHOLE - DIRECT
DECEMBER = datetime(2026, 12, 2, tzinfo=UTC)


@pytest.fixture
def world(at: datetime) -> World:
    return build_world(OCTOBER, contributors=2)


def earn(world: World, n: int = 1, *, place: int = 0) -> None:
    shares = [0, 0]
    shares[place] = PPB
    world.attribute(world.generate(n), shares=shares, general=shares)


def close_october() -> None:
    for month in (202609, 202610):
        closing.close_period(period=month, at=NOVEMBER)


def held(world: World, code: str) -> int:
    return journal.balance(AccountKey("reserve_held", "USD", f"contributor:{world.contributors[0].pk}", code))


def the_books_hold() -> None:
    assert {r.name: r.rows for r in check_all() if r.rows} == {}


# --- proposed, adopted, fixed -------------------------------------------------------------------------------------
def test_terms_are_approved_by_somebody_else_and_then_stand(world: World) -> None:
    proposed = contracts.propose_terms(
        contract=contract(world, "book"),
        effective_from=date(2026, 10, 1),
        by=world.staff[0],
        at=world.at,
        terms={"covers_rest": True, "guarantee": CENT, "guarantee_currency": "USD"},
    )
    with pytest.raises(UnableToDecide, match="somebody else"):
        approve(proposed, by=world.staff[0], at=world.at)
    adopted = approve(proposed, by=world.staff[1], at=world.at)
    with pytest.raises(UnableToDecide, match="approved already"):
        approve(adopted, by=world.staff[1], at=world.at)
    for change in ("guarantee = guarantee * 2", "effective_from = '2026-11-01'", "state = 'proposed'"):
        with (
            pytest.raises(DatabaseError, match=r"propose another|cannot go from"),
            transaction.atomic(),
            connection.cursor() as c,
        ):
            c.execute(f"UPDATE ledger_contractterms SET {change}")
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        ContractTerms.objects.all().delete()


def test_the_database_too_refuses_that_a_proposer_adopts(world: World) -> None:
    proposed = contracts.propose_terms(
        contract=contract(world, "book"), effective_from=date(2026, 10, 1), by=world.staff[0], at=world.at, terms={}
    )
    with pytest.raises(DatabaseError, match="a_contractterms_is_approved_by_somebody_else"), transaction.atomic():
        ContractTerms.objects.filter(pk=proposed.pk).update(
            state="approved", decided_by=world.staff[0], decided_at=world.at
        )


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"guarantee": 5}, "A guarantee is an amount in a currency"),
        ({"guarantee": 5, "guarantee_currency": "XXX", "covers_rest": True}, "keeps no currency 'XXX'"),
        ({"guarantee": 5, "guarantee_currency": "USD"}, "A guarantee is for something covered"),
        (
            {"guarantee": 5, "guarantee_currency": "USD", "covers_rest": True, "guarantee_payer": "service"},
            "A guarantee names who pays it",
        ),
        ({"reserve_ppb": PPB + 1, **HALVES}, "A reserve has a release schedule"),
        ({"reserve_ppb": 5}, "A reserve has a release schedule"),
        ({"reserve_ppb": 5, "release_months": [3, 6], "release_ppb": [PPB // 2, PPB // 2 - 1]}, "sum to 1,000,000,000"),
        ({"reserve_ppb": 5, "release_months": [6, 3], "release_ppb": [PPB // 2, PPB // 2]}, "ascending"),
        ({"reserve_ppb": 5, "release_months": [0], "release_ppb": [PPB]}, "1 to 120 months"),
        ({"cross_recoup": True}, "Cross recoupment needs a group"),
        ({"holder_ids": [-1]}, "has no part in holder -1"),
        ({"colour": "red"}, "no colour"),
    ],
)
def test_terms_that_contradict_themselves_are_refused_with_the_reason(
    world: World, wrong: dict[str, Any], named: str
) -> None:
    book = contract(world, "book")
    with pytest.raises(contracts.UnableToProposeTerms, match=named):
        contracts.propose_terms(
            contract=book, effective_from=date(2026, 10, 1), by=world.staff[0], at=world.at, terms=wrong
        )
    with pytest.raises(contracts.UnableToProposeTerms, match="begin with a month"):
        contracts.propose_terms(
            contract=book, effective_from=date(2026, 10, 2), by=world.staff[0], at=world.at, terms={}
        )
    assert not ContractTerms.objects.exists()


def test_a_contract_has_a_code_of_its_own_that_can_name_an_account(world: World) -> None:
    contract(world, "book")
    with pytest.raises(contracts.UnableToRecordContract, match="already has a contract"):
        contract(world, "Book ")
    with pytest.raises(contracts.UnableToRecordContract, match="A contract code can name an account"):
        contract(world, "my book")
    assert Contract.objects.count() == 1


def test_two_contracts_never_cover_the_same(world: World) -> None:
    holder = world.holders[0].pk
    terms(world, "first", holder_ids=[holder])
    terms(world, "all", covers_rest=True)
    with pytest.raises(UnableToDecide, match="Contract first covers"):
        terms(world, "second", holder_ids=[holder])
    with pytest.raises(UnableToDecide, match="Contract all covers"):
        terms(world, "rest", covers_rest=True)
    # The first gives the holder up from November on.
    terms(world, "first", begins=date(2026, 11, 1))
    approve(
        contracts.propose_terms(
            contract=Contract.objects.get(code="second"),
            effective_from=date(2026, 11, 1),
            by=world.staff[0],
            at=world.at,
            terms={"holder_ids": [holder]},
        ),
        by=world.staff[1],
        at=world.at,
    )


def test_old_months_keep_their_terms(world: World) -> None:
    terms(world, "book", begins=date(2026, 10, 1), covers_rest=True)
    with pytest.raises(UnableToDecide, match="later version"):
        terms(world, "book", begins=date(2026, 9, 1), covers_rest=True)
    close_october()
    with pytest.raises(UnableToDecide, match="not open"):
        terms(world, "other", begins=date(2026, 10, 1))
    with pytest.raises(UnableToDecide, match="not open"):
        terms(world, "other", begins=date(2025, 10, 1))


def test_what_is_accrued_does_not_move_to_another_contract(world: World) -> None:
    earn(world)
    world.accrue_all()
    with pytest.raises(UnableToDecide, match="begin with a later month"):
        terms(world, "book", holder_ids=[world.holders[0].pk])
    terms(world, "book", begins=date(2026, 11, 1), holder_ids=[world.holders[0].pk])


# --- accrual ------------------------------------------------------------------------------------------------------
def test_what_a_contract_covers_is_accrued_under_it(world: World) -> None:
    duo = register_holder(
        contributor=world.contributors[0],
        label="Duo",
        parts={world.contributors[0]: PPB // 2, world.contributors[1]: PPB // 2},
        effective_from=world.at.replace(month=9),
        at=world.at.replace(month=9),
    )
    terms(world, "duo", holder_ids=[duo.pk])
    world.attribute(world.generate(1), holders=[world.holders[0], duo], shares=[PPB // 2, PPB // 2], general=[PPB, 0])
    world.accrue_all()
    owner = f"contributor:{world.contributors[0].pk}"
    own, under = (journal.balance(AccountKey("contributor_accrued", "USD", owner, code)) for code in ("", "duo"))
    assert (own, under, world.balance("contributor_accrued", 1)) == (DIRECT // 2, DIRECT // 4, DIRECT // 4)
    close_october()
    assert world.balance("contributor_payable") == DIRECT // 2 + DIRECT // 4 + FLOOR
    the_books_hold()


def test_a_restatement_comes_back_to_the_contract_it_was_accrued_under(world: World) -> None:
    terms(world, "solo", holder_ids=[world.holders[0].pk])
    made = world.generate(1)
    world.attribute(made, shares=[PPB, 0], general=[0, PPB])
    world.accrue_all()
    close_october()
    world.at = NOVEMBER
    world.attribute(made, shares=[0, PPB], general=[0, PPB], revision=2)
    world.accrue_all()
    account = AccountKey("contributor_accrued", "USD", f"contributor:{world.contributors[0].pk}", "solo")
    assert journal.balance(account) == -DIRECT
    closing.close_period(period=202611, at=DECEMBER)
    assert (journal.balance(account), world.balance("contributor_payable")) == (0, 0)
    the_books_hold()


# --- the close ----------------------------------------------------------------------------------------------------
def test_a_guarantee_makes_up_what_a_month_lacks(world: World) -> None:
    terms(world, "book", covers_rest=True, guarantee=100 * CENT, guarantee_currency="USD")
    terms(world, "idle", place=1, covers_rest=True, guarantee=7 * CENT, guarantee_currency="USD")
    earn(world)
    close_october()
    assert world.balance("contributor_payable") == 100 * CENT
    assert world.balance("contributor_payable", 1) == 7 * CENT
    assert journal.owed(AccountKey("programme_cost", "USD")) == 100 * CENT - WHOLE + 7 * CENT
    assert Entry.objects.get(kind="close_guarantee").idem_key == "close:202610:close_guarantee:0"
    the_books_hold()


def test_a_service_that_pays_the_guarantee_is_billed_for_it(world: World) -> None:
    terms(
        world,
        "book",
        covers_rest=True,
        guarantee=100 * CENT,
        guarantee_currency="USD",
        guarantee_payer="service",
        guarantee_service=world.service,
    )
    earn(world)
    close_october()
    unbilled = AccountKey("service_unbilled", "USD", f"service:{world.service.pk}")
    assert journal.owed(unbilled) == PRICE + 100 * CENT - WHOLE
    the_books_hold()


def test_a_guarantee_that_is_reached_costs_nothing(world: World) -> None:
    terms(world, "book", covers_rest=True, guarantee=WHOLE, guarantee_currency="USD")
    earn(world)
    close_october()
    assert not Entry.objects.filter(kind="close_guarantee").exists()


def test_a_correction_of_an_earlier_month_is_not_made_up_by_the_guarantee(world: World) -> None:
    made = world.generate(1)
    world.attribute(made, shares=[PPB, 0], general=[0, PPB])
    world.accrue_all()
    close_october()
    terms(world, "book", begins=date(2026, 11, 1), covers_rest=True, guarantee=5 * CENT, guarantee_currency="USD")
    world.at = NOVEMBER
    world.attribute(made, shares=[0, PPB], general=[0, PPB], revision=2)
    world.accrue_all()
    closing.close_period(period=202611, at=DECEMBER)
    assert journal.owed(AccountKey("programme_cost", "USD")) == 5 * CENT
    assert world.balance("contributor_payable") == 5 * CENT
    the_books_hold()


def test_advances_are_recouped_by_order_and_across_a_group_only_where_terms_say_so(world: World) -> None:
    holder = world.holders[0].pk
    own = advance(world, "own", 10 * CENT)
    friend, stranger = advance(world, "friend", 3 * CENT), advance(world, "stranger", 3 * CENT)
    closed_to_others = advance(world, "closed", 3 * CENT)
    terms(world, "own", holder_ids=[holder], recoup_group="trilogy", recoup_order=20)
    terms(world, "friend", recoup_group="trilogy", cross_recoup=True, recoup_order=10)
    terms(world, "closed", recoup_group="trilogy", cross_recoup=False, recoup_order=1)
    terms(world, "stranger", recoup_group="other", cross_recoup=True, recoup_order=1)
    for _ in range(3):
        earn(world)
    world.accrue_all()
    earned = journal.balance(AccountKey("contributor_accrued", "USD", own.owner, "own"))
    assert earned == 3 * DIRECT
    close_october()
    left = [journal.owed(key) for key in (own, friend, stranger, closed_to_others)]
    # 4.8 cents of direct earnings under “own”: 3 to the friend first, 1.8 to its own. The base pool is under none.
    assert left == [10 * CENT - (earned - 3 * CENT), 0, 3 * CENT, 3 * CENT]
    the_books_hold()


def test_a_reserve_is_held_at_the_close_and_released_in_its_months(world: World) -> None:
    thirds: dict[str, Any] = {"release_months": [1, 2, 3], "release_ppb": [333_333_333, 333_333_333, 333_333_334]}
    terms(world, "book", covers_rest=True, reserve_ppb=PPB // 10, **thirds)
    earn(world, 3)
    close_october()
    reserve = 3 * WHOLE // 10
    assert (held(world, "book"), world.balance("contributor_payable")) == (reserve, 3 * WHOLE - reserve)
    written = ReserveInstalment.objects.order_by("due_on")
    assert [row.due_on for row in written] == [date(2026, 12, 1), date(2027, 1, 1), date(2027, 2, 1)]
    assert sum(row.amount for row in written) == reserve
    assert reserves.release_reserves(at=datetime(2026, 11, 30, 23, 59, tzinfo=UTC)) == 0
    assert [reserves.release_reserves(at=DECEMBER) for _ in range(2)] == [1, 0]
    assert held(world, "book") == reserve - written[0].amount
    # A close releases due reserves as well.
    closing.close_period(period=202611, at=datetime(2027, 2, 3, tzinfo=UTC))
    assert (held(world, "book"), world.balance("contributor_payable")) == (0, 3 * WHOLE)
    assert Entry.objects.filter(kind="release_reserve").count() == 2
    the_books_hold()


def test_a_released_instalment_is_never_released_again(world: World) -> None:
    terms(world, "book", covers_rest=True, reserve_ppb=PPB // 10, **HALVES)
    earn(world)
    close_october()
    reserves.release_reserves(at=datetime(2027, 2, 3, tzinfo=UTC))
    with pytest.raises(DatabaseError, match="released once"), transaction.atomic():
        ReserveInstalment.objects.filter(released_entry=None).update(amount=1)
    with pytest.raises(DatabaseError, match="released once"), transaction.atomic():
        ReserveInstalment.objects.exclude(released_entry=None).update(released_entry=None)


def test_the_five_steps_come_in_order_and_each_takes_what_the_one_before_left(world: World) -> None:
    who = world.contributors[0].pk
    terms(
        world, "book", covers_rest=True, guarantee=100 * CENT, guarantee_currency="USD", reserve_ppb=PPB // 2, **HALVES
    )
    verbs.post_verb(
        verb="absorb_deficit", contributor_id=who, amount=20 * CENT, currency="USD", reference="d", at=world.at
    )
    book = advance(world, "book", 30 * CENT)
    paid = world.balance("contributor_payable")
    earn(world)
    close_october()
    kinds = list(Entry.objects.filter(kind__startswith="close_").order_by("id").values_list("kind", "total"))
    assert kinds == [
        ("close_guarantee", 100 * CENT - WHOLE),
        ("close_recover", 20 * CENT),
        ("close_recoup", 30 * CENT),
        ("close_reserve", 25 * CENT),
        ("close_payable", 25 * CENT),
    ]
    assert (journal.owed(book), held(world, "book")) == (0, 25 * CENT)
    assert world.balance("contributor_payable") - paid == 25 * CENT
    the_books_hold()


def test_a_debt_under_one_contract_is_met_by_what_another_brought_in_the_same_close(world: World) -> None:
    terms(world, "solo", holder_ids=[world.holders[0].pk])
    made = world.generate(1)
    world.attribute(made, shares=[PPB, 0], general=[0, PPB])
    world.accrue_all()
    close_october()
    payable = world.balance("contributor_payable")
    payouts.reserve_payout(
        contributor_id=world.contributors[0].pk,
        currency="USD",
        gross=CENT,
        tax=0,
        rail="stripe",
        attempt_key="po",
        at=NOVEMBER,
    )
    world.at = NOVEMBER
    world.attribute(made, shares=[0, PPB], general=[0, PPB], revision=2)
    world.attribute(world.generate(3), shares=[0, PPB], general=[PPB, 0])
    world.accrue_all()
    closing.close_period(period=202611, at=DECEMBER)
    assert world.balance("contributor_receivable") == 0
    assert world.balance("contributor_payable") == payable - CENT - DIRECT + 3 * FLOOR
    the_books_hold()


# --- the preview --------------------------------------------------------------------------------------------------
def test_a_preview_of_the_terms_in_force_is_what_the_close_did(world: World) -> None:
    same: dict[str, Any] = {
        "covers_rest": True,
        "guarantee": 100 * CENT,
        "guarantee_currency": "USD",
        "reserve_ppb": PPB // 4,
        **HALVES,
    }
    terms(world, "book", **same)
    advance(world, "book", 30 * CENT)
    earn(world)
    open_month = preview_terms(ContractTerms.objects.get(), Period.objects.get(pk=202610))
    world.accrue_all()
    close_october()
    proposed = contracts.propose_terms(
        contract=Contract.objects.get(), effective_from=date(2026, 12, 1), by=world.staff[0], at=world.at, terms=same
    )
    made = preview_terms(proposed, Period.objects.get(pk=202610))
    assert not open_month.closed
    assert made.closed
    assert {(row.before, row.after) for row in made.steps} == {
        (total, total) for total in (100 * CENT - WHOLE, 0, 30 * CENT, 70 * CENT // 4, 70 * CENT * 3 // 4)
    }
    assert all(row.change == 0 for row in made.gains)


def test_a_preview_tells_who_gains_and_who_loses_and_writes_nothing(world: World) -> None:
    earn(world)
    close_october()
    entries = Entry.objects.count()
    proposed = contracts.propose_terms(
        contract=contract(world, "book"), effective_from=date(2026, 12, 1), by=world.staff[0], at=world.at,
        terms={"covers_rest": True, "guarantee": 10 * CENT, "guarantee_currency": "USD",
               "reserve_ppb": PPB // 5, **HALVES},
    )  # fmt: skip
    made = preview_terms(proposed, Period.objects.get(pk=202610))
    gains = {row.label.split(",")[1].strip(): row.change for row in made.gains}
    assert gains == {
        "payable at once": 8 * CENT - WHOLE,
        "from the reserve later": 2 * CENT,
        "cost of the guarantee": WHOLE - 10 * CENT,
    }
    assert sum(gains.values()) == 0
    assert Entry.objects.count() == entries


def test_a_work_that_leaves_its_holder_by_a_split_sheet_stays_under_the_contract(world: World) -> None:
    ada = world.contributors[0]
    book = advance(world, "book", 30 * CENT)
    holder = ada.holders.get(is_default=True)
    terms(world, "book", holder_ids=[holder.pk])
    dataset = Dataset.objects.create(contributor=ada, name="Novels", licence="own", created_at=world.at)
    work = Work.objects.create(
        dataset=dataset,
        holder=holder,
        title="A novel",
        modality="text",
        sha256=bytes(32),
        size_bytes=1,
        created_at=world.at,
    )
    # Alone on its sheet, a contributor agrees with itself.
    sheet = propose_split_sheet(
        contributor=ada, work=work, parts={ada: PPB}, effective_from=world.at, by=world.users[0], at=world.at
    )
    assert sheet.state == "agreed"
    work.refresh_from_db()
    assert work.holder != holder
    world.attribute(world.generate(), holders=[work.holder], shares=[PPB], general=[0], weight_ppb=PPB)
    world.accrue_all()
    earned = journal.balance(AccountKey("contributor_accrued", "USD", book.owner, "book"))
    assert earned == WHOLE * 4 // 5
    close_october()
    assert journal.owed(book) == 30 * CENT - earned
    the_books_hold()
