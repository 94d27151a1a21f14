"""Every kind of difference, made to happen on Stripe's side, is found and named; and no kind is left untried."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psycopg2
import pytest

from payouts import gateway, reconciliation
from payouts.models import Difference, Payout, PayoutRun
from payouts.sandbox.models import PLATFORM
from tests.payouts.world import World, only


def rewrite(world: World, sql: str, *params: object) -> None:
    """Change what Stripe remembers, behind the back of its API."""
    assert world.sandbox is not None
    address = world.sandbox.database_url
    with contextlib.closing(psycopg2.connect(address)) as database, database, database.cursor() as cursor:
        cursor.execute(sql, params)
        assert cursor.rowcount == 1


def name_of(payout: Payout) -> str:
    return str(payout.attempts.get().provider_transfer_id)


def another_amount(world: World, payout: Payout) -> None:
    rewrite(world, "UPDATE sandbox_transfer SET amount = amount + 1 WHERE reference = %s", name_of(payout))


def another_currency(world: World, payout: Payout) -> None:
    rewrite(world, "UPDATE sandbox_transfer SET currency = 'eur' WHERE reference = %s", name_of(payout))


def another_destination(world: World, payout: Payout) -> None:
    assert world.sandbox is not None
    rewrite(world, "UPDATE sandbox_transfer SET destination_id = %s WHERE reference = %s",
            world.sandbox.add_account(), name_of(payout))  # fmt: skip


def forgotten(world: World, payout: Payout) -> None:
    rewrite(world, "DELETE FROM sandbox_transfer WHERE reference = %s", name_of(payout))


def no_movement(world: World, payout: Payout) -> None:
    rewrite(world, "UPDATE sandbox_balancetransaction SET source = 'tr_gone' WHERE source = %s AND kind = 'transfer'",
            name_of(payout))  # fmt: skip


def taken_back_by_somebody(world: World, payout: Payout) -> None:
    assert world.sandbox is not None
    world.sandbox.client().v1.transfers.reversals.create(name_of(payout), {"amount": 100})


def paid_by_somebody(world: World, payout: Payout) -> None:
    assert world.sandbox is not None
    world.sandbox.client().v1.transfers.create(
        {"amount": 250, "currency": "usd", "destination": payout.destination, "transfer_group": payout.transfer_group,
         "metadata": {"run": payout.run.public_id.hex}}
    )  # fmt: skip


def a_fee(world: World, payout: Payout) -> None:
    rewrite(world, "UPDATE sandbox_balancetransaction SET fee = 25 WHERE source = %s AND kind = 'transfer'",
            name_of(payout))  # fmt: skip


def corrected(world: World, payout: Payout) -> None:
    assert world.sandbox is not None
    world.sandbox.adjust(PLATFORM, 5)


OF_A_RUN: dict[Callable[[World, Payout], None], set[str]] = {
    another_amount: {"amount"}, another_currency: {"currency"}, another_destination: {"destination"},
    forgotten: {"missing_remote"}, no_movement: {"missing_remote"},
    taken_back_by_somebody: {"unexpected_reversal", "ledger_balance"},
    paid_by_somebody: {"missing_local", "duplicate_group", "ledger_balance"}, a_fee: {"fee"},
    corrected: {"ledger_balance"},
}  # fmt: skip
OF_A_DAY: dict[Callable[[World, Payout], None], set[str]] = {
    another_amount: set(), a_fee: {"fee"},
    corrected: {"unknown_type", "ledger_balance"}, taken_back_by_somebody: {"unexpected_reversal", "ledger_balance"},
    paid_by_somebody: {"missing_local", "ledger_balance"},
}  # fmt: skip


@pytest.fixture
def run(paying: World) -> PayoutRun:
    paying.contributor(1_000)
    return paying.pay(paying.executing())


def found(run: PayoutRun | None = None) -> set[str]:
    open_ones = Difference.objects.filter(state="open")
    return set((open_ones.filter(run=run) if run else open_ones).values_list("type", flat=True))


@pytest.mark.parametrize("happened", OF_A_RUN, ids=lambda act: act.__name__)
def test_a_run_is_compared_with_what_stripe_says(
    paying: World, run: PayoutRun, happened: Callable[[World, Payout], None]
) -> None:
    happened(paying, only(run))
    assert not reconciliation.reconcile_run(run=run, at=paying.at).is_clean
    assert found(run) == OF_A_RUN[happened]
    run.refresh_from_db()
    assert run.state == PayoutRun.State.EXECUTING


@pytest.mark.parametrize("happened", OF_A_DAY, ids=lambda act: act.__name__)
def test_a_day_is_compared_with_what_stripe_says(
    paying: World, run: PayoutRun, happened: Callable[[World, Payout], None]
) -> None:
    """The sandbox is shared, so its day holds what other programmes did; only what is new counts."""
    (transfer,) = gateway.find_transfers(only(run).transfer_group)
    day = transfer.created.date()
    reconciliation.reconcile_day(currency="USD", day=day, at=paying.at)
    before = set(Difference.objects.values_list("type", "subject"))
    happened(paying, only(run))
    reconciliation.reconcile_day(currency="USD", day=day, at=paying.at)
    new = {type_ for type_, subject in Difference.objects.values_list("type", "subject")
           if (type_, subject) not in before}  # fmt: skip
    assert new == OF_A_DAY[happened]


def test_every_type_of_difference_is_produced_here_or_needs_our_own_ledger_to_be_wrong() -> None:
    produced = set().union(*OF_A_RUN.values(), *OF_A_DAY.values())
    # The transit account is compared with our own rows: tests/payouts/test_reconciliation.py posts astray.
    assert produced | {"in_transit"} == set(Difference.Type.values)
