"""Every kind of difference, made to happen on Stripe's side, is found and named; and no kind is left untried."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import date

import psycopg2
import pytest

from ledger import journal
from ledger.journal import AccountKey
from payouts.models import Difference, Payout, PayoutRun, TopUp
from payouts.operations import funding
from payouts.rails.stripe import calls
from payouts.reconciliation import comparison
from stripe_sandbox.models import PLATFORM
from tests.worlds.world import World, only


def rewrite(world: World, sql: str, *params: object) -> None:
    """Change the sandbox's stored rows, behind the back of its API."""
    assert world.sandbox is not None
    address = world.sandbox.database_url
    with contextlib.closing(psycopg2.connect(address)) as database, database, database.cursor() as cursor:
        cursor.execute(sql, params)
        assert cursor.rowcount == 1


def name_of(payout: Payout) -> str:
    return str(payout.attempts.get().provider_transfer_id)


def another_amount(world: World, payout: Payout) -> None:
    rewrite(world, "UPDATE stripe_sandbox_transfer SET amount = amount + 1 WHERE reference = %s", name_of(payout))


def another_currency(world: World, payout: Payout) -> None:
    rewrite(world, "UPDATE stripe_sandbox_transfer SET currency = 'eur' WHERE reference = %s", name_of(payout))


def another_destination(world: World, payout: Payout) -> None:
    assert world.sandbox is not None
    rewrite(
        world,
        "UPDATE stripe_sandbox_transfer SET destination_id = %s WHERE reference = %s",
        world.sandbox.add_account(),
        name_of(payout),
    )


def forgotten(world: World, payout: Payout) -> None:
    rewrite(world, "DELETE FROM stripe_sandbox_transfer WHERE reference = %s", name_of(payout))


def no_movement(world: World, payout: Payout) -> None:
    rewrite(
        world,
        "UPDATE stripe_sandbox_balancetransaction SET source = 'tr_gone' WHERE source = %s AND kind = 'transfer'",
        name_of(payout),
    )


def taken_back_by_somebody(world: World, payout: Payout) -> None:
    assert world.sandbox is not None
    world.sandbox.client().v1.transfers.reversals.create(name_of(payout), {"amount": 100})


def paid_by_somebody(world: World, payout: Payout) -> None:
    assert world.sandbox is not None
    world.sandbox.client().v1.transfers.create(
        {
            "amount": 250,
            "currency": "usd",
            "destination": payout.destination,
            "transfer_group": payout.transfer_group,
            "metadata": {"run": payout.run.public_id.hex},
        }
    )


def a_fee(world: World, payout: Payout) -> None:
    rewrite(
        world,
        "UPDATE stripe_sandbox_balancetransaction SET fee = 25 WHERE source = %s AND kind = 'transfer'",
        name_of(payout),
    )


def corrected(world: World, payout: Payout) -> None:
    assert world.sandbox is not None
    world.sandbox.adjust(PLATFORM, 5)


def posted_astray(world: World, payout: Payout) -> None:
    """The one that is ours alone to make: an entry that no operation posts."""
    transit = AccountKey("payouts_in_transit", "USD", "rail:stripe")
    journal.post(
        kind="write_off",
        idem_key=f"astray:{payout.pk}",
        effective=world.at.date(),
        reference="a test",
        lines=[(AccountKey("programme_cost", "USD"), -5), (transit, 5)],
    )


OF_A_RUN: dict[Callable[[World, Payout], None], set[str]] = {
    another_amount: {"amount"},
    another_currency: {"currency"},
    another_destination: {"destination"},
    forgotten: {"missing_remote"},
    no_movement: {"missing_remote"},
    taken_back_by_somebody: {"unexpected_reversal", "ledger_balance"},
    paid_by_somebody: {"missing_local", "duplicate_group", "ledger_balance"},
    a_fee: {"fee"},
    corrected: {"ledger_balance"},
}
T = Difference.Type
# type -> (the event, every type that the day's comparison then finds)
OF_A_DAY: dict[Difference.Type, tuple[Callable[[World, Payout], None], set[str]]] = {
    T.MISSING_LOCAL: (paid_by_somebody, {"missing_local", "duplicate_group", "ledger_balance"}),
    T.MISSING_REMOTE: (forgotten, {"missing_remote"}),
    T.AMOUNT: (another_amount, {"amount"}),
    T.CURRENCY: (another_currency, {"currency"}),
    T.DESTINATION: (another_destination, {"destination"}),
    T.DUPLICATE_GROUP: (paid_by_somebody, {"missing_local", "duplicate_group", "ledger_balance"}),
    T.UNEXPECTED_REVERSAL: (taken_back_by_somebody, {"unexpected_reversal", "ledger_balance"}),
    T.FEE: (a_fee, {"fee"}),
    T.UNKNOWN_TYPE: (corrected, {"unknown_type", "ledger_balance"}),
    T.LEDGER_BALANCE: (corrected, {"unknown_type", "ledger_balance"}),
    T.IN_TRANSIT: (posted_astray, {"in_transit"}),
}


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
    assert not comparison.reconcile_run(run=run, at=paying.at).is_clean
    assert found(run) == OF_A_RUN[happened]
    run.refresh_from_db()
    assert run.state == PayoutRun.State.EXECUTING


@pytest.fixture
def paid_today(paying: World) -> tuple[PayoutRun, date]:
    """A run that was paid on a day of the sandbox's own clock, and recorded on the same day; far from midnight."""
    sandbox = paying.sandbox
    assert sandbox is not None
    sandbox.advance_to_midnight()
    sandbox.advance(seconds=3_600)
    paying.contributor(1_000)
    now = int(sandbox.settings()["now"])
    run = paying.pay(paying.executing(), seconds=now - paying.at.timestamp())
    (transfer,) = calls.find_transfers(only(run).transfer_group)
    recorded = only(run).attempts.get().finished_at
    assert recorded is not None
    assert recorded.date() == transfer.created.date()
    return run, transfer.created.date()


def new_on(day: date, world: World, happens: Callable[[], object]) -> set[str]:
    """Name the new differences of a day. The sandbox is shared, so its day holds rows of other programmes."""
    comparison.reconcile_day(currency="USD", day=day, at=world.at)
    before = set(Difference.objects.values_list("type", "subject"))
    happens()
    comparison.reconcile_day(currency="USD", day=day, at=world.at)
    after = Difference.objects.filter(state="open").values_list("type", "subject")
    return {type_ for type_, subject in after if (type_, subject) not in before}


@pytest.mark.parametrize("type_", Difference.Type)
def test_a_day_finds_every_type_of_difference(
    paying: World, paid_today: tuple[PayoutRun, date], type_: Difference.Type
) -> None:
    run, day = paid_today
    happens, expected = OF_A_DAY[type_]
    assert type_ in expected
    assert new_on(day, paying, lambda: happens(paying, only(run))) == expected
    # The same day again opens nothing twice.
    assert new_on(day, paying, lambda: None) == set()


def test_a_day_finds_a_transfer_that_moved_nothing(paying: World, paid_today: tuple[PayoutRun, date]) -> None:
    run, day = paid_today
    assert new_on(day, paying, lambda: no_movement(paying, only(run))) == {"missing_local", "missing_remote"}


def test_a_day_finds_a_top_up_that_the_bank_took_back_until_that_is_booked(
    paying: World, paid_today: tuple[PayoutRun, date]
) -> None:
    sandbox, (_, day) = paying.sandbox, paid_today
    assert sandbox is not None
    paying.fund(5_000)
    topup = TopUp.objects.latest("pk")
    name = str(topup.provider_topup_id)
    assert "missing_local" in new_on(day, paying, lambda: sandbox.reverse_topup(name))
    difference = Difference.objects.get(subject=f"reversal of {name}")
    assert (difference.expected, difference.found, difference.state) == ("0", "-5000", "open")
    funding.apply_top_up(topup=topup, made=calls.retrieve_topup(name), at=paying.at)
    comparison.reconcile_day(currency="USD", day=day, at=paying.at)
    difference.refresh_from_db()
    assert difference.state == "resolved"
    assert not Difference.objects.filter(subject=name).exists(), "Its arrival stays booked."


def test_a_day_on_which_all_is_well_finds_nothing_of_ours(paying: World, paid_today: tuple[PayoutRun, date]) -> None:
    run, day = paid_today
    comparison.reconcile_day(currency="USD", day=day, at=paying.at)
    name, group = name_of(only(run)), only(run).transfer_group
    assert not Difference.objects.filter(subject__in=[name, group, f"balance transaction of {name}"]).exists()


def test_every_type_of_difference_is_produced_by_a_run_or_a_day() -> None:
    assert set(OF_A_DAY) == set(Difference.Type)
    # A run compares its own transfers: the day finds Stripe's corrections and our misdirected postings.
    assert set().union(*OF_A_RUN.values()) == {*Difference.Type.values} - {"unknown_type", "in_transit"}
