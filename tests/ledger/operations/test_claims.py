from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from contributors.models import PPB
from ledger import journal
from ledger.journal import AccountKey, UnableToPost
from ledger.models import Entry
from ledger.operations import closing, exchange, programme, verbs
from ledger.queries.invariants import check_all
from tests.worlds.contracts import advance
from tests.worlds.manual import post_by_hand
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import CENT, World, build_world

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(at: datetime) -> Iterator[World]:
    """Two contributors, the first with ten dollars payable; afterwards the books must hold."""
    world = build_world(at, contributors=2)
    credit(world, "contributor_payable", 1000 * CENT)
    yield world
    assert not [r.name for r in check_all() if r.rows]


def credit(world: World, kind: str, amount: int) -> None:
    post_by_hand([(AccountKey("programme_cost", "USD"), -amount), (world.key(kind), amount)], world.at)


def test_a_dispute_holds_the_amount_until_it_is_decided(world: World) -> None:
    first, second = (c.pk for c in world.contributors)
    for _ in range(2):
        verbs.post_verb(
            verb="open_dispute",
            reference="7",
            contributor_id=first,
            currency="USD",
            amount=300 * CENT,
            payable=True,
            at=world.at,
        )
    assert world.balance("contributor_payable") == 700 * CENT
    with pytest.raises(verbs.UnableToPostVerb, match="the dispute holds"):
        verbs.post_verb(verb="decide_dispute", reference="7", currency="USD", awards={second: 299 * CENT}, at=world.at)
    for _ in range(2):
        verbs.post_verb(
            verb="decide_dispute", reference="7", currency="USD", awards={first: CENT, second: 299 * CENT}, at=world.at
        )
    assert [world.balance("contributor_payable", i) for i in range(2)] == [701 * CENT, 299 * CENT]
    with pytest.raises(UnableToPost, match="below its minimum"):
        verbs.post_verb(
            verb="open_dispute",
            reference="8",
            contributor_id=second,
            currency="USD",
            amount=300 * CENT,
            payable=True,
            at=world.at,
        )


def test_money_of_an_unmatched_work_goes_to_the_owner_who_is_found(world: World) -> None:
    work = AccountKey("suspense_unmatched", "USD", "work:5")
    post_by_hand([(AccountKey("programme_cost", "USD"), -50), (work, 50)], world.at)
    arguments = {"work_id": 5, "contributor_id": world.contributors[1].pk, "currency": "USD", "at": world.at}
    for _ in range(2):
        verbs.post_verb(verb="find_owner", reference="claim 1", **arguments)  # type: ignore[arg-type]
    assert (journal.balance(work), world.balance("contributor_accrued", 1)) == (0, 50)
    with pytest.raises(verbs.UnableToPostVerb, match="nothing on"):
        verbs.post_verb(verb="find_owner", reference="claim 2", **arguments)  # type: ignore[arg-type]


def test_a_deficit_is_owed_and_may_be_written_off(world: World) -> None:
    who = world.contributors[1].pk
    verbs.post_verb(
        verb="absorb_deficit", contributor_id=who, amount=20 * CENT, currency="USD", reference="d1", at=world.at
    )
    assert journal.owed(world.key("contributor_receivable", 1)) == 20 * CENT
    verbs.post_verb(verb="write_off_contributor", contributor_id=who, currency="USD", reference="w1", at=world.at)
    assert journal.owed(world.key("contributor_receivable", 1)) == 0


def test_a_services_unpaid_invoice_may_be_written_off(world: World) -> None:
    world.attribute(world.generate(2))
    world.accrue_all()
    verbs.post_verb(verb="invoice_service", service=world.service, currency="USD", reference="I", at=world.at)
    verbs.post_verb(verb="write_off_service", service=world.service, currency="USD", reference="w", at=world.at)
    assert journal.owed(AccountKey("service_receivable", "USD", f"service:{world.service.pk}")) == 0


def test_dormant_money_stays_the_contributors_until_it_is_reclaimed_or_escheated(world: World) -> None:
    arguments = {"contributor_id": world.contributors[0].pk, "currency": "USD", "at": world.at}
    verbs.post_verb(verb="mark_dormant", reference="2026", **arguments)  # type: ignore[arg-type]
    assert (world.balance("contributor_payable"), world.balance("unclaimed")) == (0, 1000 * CENT)
    verbs.post_verb(verb="reclaim", reference="2026", **arguments)  # type: ignore[arg-type]
    assert (world.balance("contributor_payable"), world.balance("unclaimed")) == (1000 * CENT, 0)
    verbs.post_verb(verb="mark_dormant", reference="2027", **arguments)  # type: ignore[arg-type]
    verbs.post_verb(verb="escheat", reference="2027", **arguments)  # type: ignore[arg-type]
    assert (world.balance("unclaimed"), journal.owed(AccountKey("bank", "USD"))) == (0, -1000 * CENT)


def test_unidentified_cash_is_matched_and_tax_remitted(world: World) -> None:
    world.attribute(world.generate(2))
    world.accrue_all()
    verbs.post_verb(
        verb="invoice_service",
        service=world.service,
        currency="USD",
        reference="I",
        at=world.at,
        tax=CENT,
        jurisdiction="DE",
    )
    verbs.post_verb(verb="receive_unidentified", amount=11 * CENT, currency="USD", reference="wire", at=world.at)
    verbs.post_verb(
        verb="match_cash", service=world.service, amount=11 * CENT, currency="USD", reference="wire", at=world.at
    )
    verbs.post_verb(
        verb="remit_tax", jurisdiction="DE", tax_kind="sales", amount=CENT, currency="USD", reference="Q4", at=world.at
    )
    assert journal.owed(AccountKey("service_receivable", "USD", f"service:{world.service.pk}")) == 0
    assert journal.balance(AccountKey("suspense_cash", "USD")) == 0
    assert journal.balance(AccountKey("tax_payable", "USD", "jurisdiction:DE/sales")) == 0


# --- exchange -----------------------------------------------------------------------------------------------------
def test_a_debt_changes_its_currency_and_each_currency_balances_alone(world: World) -> None:
    for _ in range(2):
        entry = verbs.post_verb(
            verb="exchange_debt",
            contributor_id=world.contributors[0].pk,
            amount=1000 * CENT,
            currency="USD",
            into="JPY",
            rate="151.37",
            source="ECB 2026-11-20",
            reference="fx1",
            at=world.at,
        )
    assert world.balance("contributor_payable") == 0
    assert world.balance("contributor_payable", currency="JPY") == 1513_7000000
    assert Entry.objects.get(pk=entry.entry_id).rule_version == "151.37 JPY/USD ECB 2026-11-20"
    assert not [r.rows for r in check_all(["I18", "I1"]) if r.rows]


def test_cash_changes_its_currency(world: World) -> None:
    programme.top_up_stripe(amount=100 * CENT, currency="USD", reference="t", at=world.at)
    verbs.post_verb(
        verb="exchange_cash",
        amount=100 * CENT,
        currency="USD",
        into="EUR",
        rate="0.9",
        source="Stripe",
        reference="f",
        at=world.at,
    )
    assert [journal.owed(AccountKey("stripe_balance", code)) for code in ("USD", "EUR")] == [0, 90 * CENT]


@pytest.mark.parametrize(("into", "rate"), [("EUR", "0"), ("EUR", "-1"), ("EUR", "x"), ("USD", "1"), ("EUR", "1e-30")])
def test_an_exchange_that_is_none_is_refused(world: World, into: str, rate: str) -> None:
    with pytest.raises(exchange.UnableToExchange):
        verbs.post_verb(
            verb="exchange_cash", amount=5, currency="USD", into=into, rate=rate, source="s", reference="r", at=world.at
        )


# --- advances -----------------------------------------------------------------------------------------------------
def test_an_advance_is_paid_at_once_and_recouped_from_later_earnings_oldest_first(at: datetime) -> None:
    world = build_world(OCTOBER, contributors=1)
    accounts = [advance(world, code, amount) for code, amount in [("book-1", 3 * CENT), ("book-2", 5 * CENT)]]
    assert world.balance("contributor_payable") == 8 * CENT
    world.attribute(world.generate(1), shares=[PPB], general=[PPB])
    closing.close_period(period=202609, at=NOVEMBER)
    closing.close_period(period=202610, at=NOVEMBER)
    assert [journal.owed(account) for account in accounts] == [0, 4 * CENT]
    assert world.balance("contributor_payable") == 8 * CENT
    world.at = NOVEMBER
    world.attribute(world.generate(3), shares=[PPB], general=[PPB])
    closing.close_period(period=202611, at=datetime(2026, 12, 2, tzinfo=UTC))
    assert [journal.owed(account) for account in accounts] == [0, 0]
    assert world.balance("contributor_payable") == 8 * CENT + 12 * CENT - 4 * CENT
    assert not [r.name for r in check_all() if r.rows]
