from datetime import datetime
from typing import Any

import pytest

from ledger import journal
from ledger.journal import AccountKey, UnableToPost
from ledger.models import Entry
from ledger.money import UnableToParseAmount
from ledger.operations import payouts
from tests.worlds.manual import post_by_hand
from tests.worlds.world import CENT, World, build_world

pytestmark = pytest.mark.django_db
TRANSIT = AccountKey("payouts_in_transit", "USD", "rail:stripe")
STRIPE = AccountKey("stripe_balance", "USD")
TAX = AccountKey("tax_payable", "USD", "jurisdiction:US/withholding")


@pytest.fixture
def world(at: datetime) -> World:
    """A contributor with ten dollars and a residue of three nanos payable."""
    world = build_world(at, contributors=1)
    post_by_hand(
        [
            (AccountKey("programme_cost", "USD"), -1000 * CENT - 3),
            (world.key("contributor_payable"), 1000 * CENT + 3),
        ],
        at,
    )
    return world


def reserve(
    world: World, gross: int = 800 * CENT, tax: int = 80 * CENT, key: str = "po_1_1", rail: str = "stripe"
) -> int:
    return payouts.reserve_payout(
        contributor_id=world.contributors[0].pk,
        currency="USD",
        gross=gross,
        tax=tax,
        rail=rail,
        attempt_key=key,
        at=world.at,
    )


def test_a_reserve_moves_the_gross_out_of_the_payable_into_transit_and_tax(world: World) -> None:
    entry = reserve(world)
    assert world.balance("contributor_payable") == 200 * CENT + 3
    assert (journal.balance(TRANSIT), journal.balance(TAX)) == (720 * CENT, 80 * CENT)
    assert reserve(world) == entry


def test_a_success_leaves_transit_and_the_rail(world: World) -> None:
    entry = reserve(world)
    done = payouts.succeed_payout(
        reserve_entry=entry, attempt_key="po_1_1", currency="USD", net=720 * CENT, at=world.at
    )
    assert (journal.balance(TRANSIT), journal.balance(STRIPE)) == (0, 720 * CENT)
    again = payouts.succeed_payout(
        reserve_entry=entry, attempt_key="po_1_1", currency="USD", net=720 * CENT, at=world.at
    )
    assert again == done


def test_the_manual_rail_pays_from_the_bank(world: World) -> None:
    entry = reserve(world, rail="manual")
    payouts.succeed_payout(reserve_entry=entry, attempt_key="po_1_1", currency="USD", net=720 * CENT, at=world.at)
    assert journal.owed(AccountKey("bank", "USD")) == -720 * CENT


def test_a_refusal_gives_everything_back_tax_included(world: World) -> None:
    entry = reserve(world)
    refused = payouts.refuse_payout(reserve_entry=entry, attempt_key="po_1_1", at=world.at)
    assert world.balance("contributor_payable") == 1000 * CENT + 3
    assert (journal.balance(TRANSIT), journal.balance(TAX)) == (0, 0)
    assert payouts.refuse_payout(reserve_entry=entry, attempt_key="po_1_1", at=world.at) == refused
    assert Entry.objects.get(pk=refused).reverses_id == entry


def test_an_attempt_either_succeeds_or_is_refused(world: World) -> None:
    entry = reserve(world)
    payouts.succeed_payout(reserve_entry=entry, attempt_key="po_1_1", currency="USD", net=720 * CENT, at=world.at)
    with pytest.raises(payouts.UnableToRecordPayout, match="has succeeded"):
        payouts.refuse_payout(reserve_entry=entry, attempt_key="po_1_1", at=world.at)
    other = reserve(world, gross=100 * CENT, tax=0, key="po_1_2")
    payouts.refuse_payout(reserve_entry=other, attempt_key="po_1_2", at=world.at)
    with pytest.raises(UnableToPost, match="below its minimum"):
        payouts.succeed_payout(reserve_entry=other, attempt_key="po_1_2", currency="USD", net=100 * CENT, at=world.at)


def test_nobody_is_paid_more_than_is_payable(world: World) -> None:
    with pytest.raises(UnableToPost, match="below its minimum"):
        reserve(world, gross=1001 * CENT)
    assert world.balance("contributor_payable") == 1000 * CENT + 3


@pytest.mark.parametrize(("gross", "tax"), [(5 * CENT + 1, 0), (5 * CENT, 1)])
def test_a_payout_is_whole_minor_units(world: World, gross: int, tax: int) -> None:
    with pytest.raises(UnableToParseAmount, match="not payable"):
        reserve(world, gross=gross, tax=tax)


@pytest.mark.parametrize(
    ("gross", "tax", "rail"), [(CENT, CENT, "stripe"), (0, 0, "stripe"), (CENT, -CENT, "stripe"), (CENT, 0, "pigeon")]
)
def test_a_payout_that_makes_no_sense_is_refused(world: World, gross: int, tax: int, rail: str) -> None:
    with pytest.raises(payouts.UnableToRecordPayout):
        reserve(world, gross=gross, tax=tax, rail=rail)


def test_a_success_names_the_reserve_its_amount_and_its_currency(world: World) -> None:
    entry = reserve(world)
    wrong: list[dict[str, Any]] = [
        {"net": 721 * CENT},
        {"currency": "EUR"},
        {"attempt_key": "po_9"},
        {"reserve_entry": 1},
    ]
    for changes in wrong:
        arguments = {"reserve_entry": entry, "attempt_key": "po_1_1", "currency": "USD", "net": 720 * CENT, **changes}
        with pytest.raises(payouts.UnableToRecordPayout):
            payouts.succeed_payout(**arguments, at=world.at)


def test_a_reversed_transfer_settles_a_debt_first(world: World) -> None:
    owed = world.key("contributor_receivable")
    post_by_hand([(owed, -30 * CENT), (AccountKey("programme_cost", "USD"), 30 * CENT)], world.at)
    for _ in range(2):
        payouts.record_transfer_reversal(
            contributor_id=world.contributors[0].pk, currency="USD", amount=100 * CENT, reversal_id="trr_1", at=world.at
        )
    assert journal.balance(owed) == 0
    assert world.balance("contributor_payable") == 1070 * CENT + 3
    assert journal.owed(STRIPE) == 100 * CENT


def test_withholding_of_a_reversed_transfer_and_a_bank_return_come_back(world: World) -> None:
    reserve(world)
    who = world.contributors[0].pk
    payouts.reverse_withholding(contributor_id=who, currency="USD", amount=80 * CENT, reversal_id="t", at=world.at)
    assert journal.balance(TAX) == 0
    payouts.record_bank_return(contributor_id=who, currency="USD", amount=10 * CENT, return_id="b", at=world.at)
    assert journal.owed(AccountKey("bank", "USD")) == 10 * CENT
    assert world.balance("contributor_payable") == 290 * CENT + 3
    with pytest.raises(payouts.UnableToRecordPayout, match="cannot come back"):
        payouts.record_bank_return(contributor_id=who, currency="USD", amount=0, return_id="c", at=world.at)
