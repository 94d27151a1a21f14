from datetime import datetime

import pytest

from ledger import journal
from ledger.journal import AccountKey, UnableToPost
from ledger.models import Entry
from ledger.operations import programme, verbs
from tests.worlds.world import CENT, PRICE, World, build_world

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(at: datetime) -> World:
    world = build_world(at)
    world.attribute(world.generate(3))
    world.accrue_all()
    return world


def owed(world: World, kind: str) -> int:
    return journal.owed(AccountKey(kind, "USD", f"service:{world.service.pk}"))


def test_an_invoice_bills_whole_cents_and_leaves_the_residue(at: datetime) -> None:
    world = build_world(at, plan=False)
    world.adopt(price=PRICE + 3)
    world.attribute(world.generate(3))
    world.accrue_all()
    verbs.post_verb(verb="invoice_service", service=world.service, currency="USD", reference="INV-1", at=at)
    assert (owed(world, "service_receivable"), owed(world, "service_unbilled")) == (3 * PRICE, 9)
    with pytest.raises(verbs.UnableToPostVerb, match="less than a minor unit"):
        verbs.post_verb(verb="invoice_service", service=world.service, currency="USD", reference="INV-2", at=at)


def test_an_invoice_may_carry_tax(world: World) -> None:
    arguments = {"service": world.service, "currency": "USD", "at": world.at}
    with pytest.raises(verbs.UnableToPostVerb, match="owed to a jurisdiction"):
        verbs.post_verb(verb="invoice_service", reference="INV-1", tax=CENT, **arguments)  # type: ignore[arg-type]
    for _ in range(2):
        verbs.post_verb(verb="invoice_service", reference="INV-1", tax=3 * CENT, jurisdiction="DE", **arguments)  # type: ignore[arg-type]
    assert owed(world, "service_receivable") == 3 * PRICE + 3 * CENT
    assert journal.balance(AccountKey("tax_payable", "USD", "jurisdiction:DE/sales")) == 3 * CENT
    assert Entry.objects.filter(kind="invoice_service").count() == 1


def test_a_deposit_is_applied_as_far_as_it_goes_and_the_rest_is_collected(world: World) -> None:
    at, service = world.at, world.service
    for _ in range(2):
        verbs.post_verb(
            verb="prefund_service", service=service, amount=2 * PRICE, currency="USD", reference="wire 1", at=at
        )
    verbs.post_verb(verb="invoice_service", service=service, currency="USD", reference="INV-1", at=at)
    verbs.post_verb(verb="apply_deposit", service=service, currency="USD", reference="INV-1", at=at)
    assert (owed(world, "service_deposit"), owed(world, "service_receivable")) == (0, PRICE)
    with pytest.raises(verbs.UnableToPostVerb, match="no deposit"):
        verbs.post_verb(verb="apply_deposit", service=service, currency="USD", reference="INV-2", at=at)
    with pytest.raises(verbs.UnableToPostVerb, match="less than the received sum"):
        verbs.post_verb(verb="collect", service=service, amount=PRICE + CENT, currency="USD", reference="wire 2", at=at)
    for _ in range(2):
        verbs.post_verb(verb="collect", service=service, amount=PRICE, currency="USD", reference="wire 3", at=at)
    assert owed(world, "service_receivable") == 0
    assert journal.owed(AccountKey("bank", "USD")) == 3 * PRICE


def test_the_programmes_own_money_moves_between_bank_and_stripe(at: datetime) -> None:
    verbs.post_verb(verb="capital", amount=1000, currency="USD", reference="founding", at=at)
    programme.top_up_stripe(amount=700, currency="USD", reference="tu_1", at=at)
    verbs.post_verb(verb="sweep_stripe", amount=200, currency="USD", reference="po_1", at=at)
    for _ in range(2):
        programme.record_stripe_fee(amount=5, currency="USD", reference="txn_1", at=at)
    balances = {kind: journal.balance(AccountKey(kind, "USD")) for kind in ("bank", "stripe_balance", "fees")}
    assert balances == {"bank": -500, "stripe_balance": -495, "fees": -5}
    with pytest.raises(UnableToPost):
        programme.top_up_stripe(amount=0, currency="USD", reference="tu_2", at=at)
    with pytest.raises(UnableToPost, match="something else"):
        programme.top_up_stripe(amount=1, currency="USD", reference="tu_1", at=at)
