"""A service takes a generation back: before it is accrued, after, across a closed month, after the payout."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils.timezone import now

from attribution.operations import model_services
from contributors.models import PPB
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import Accrual, Entry, Unaccrued, Void
from ledger.money import whole_minor
from ledger.operations import closing, corrections, payouts
from ledger.queries.invariants import check_all
from ledger.queries.receipt import receipt_for_service
from ledger.statements.build import build_statement
from tests.worlds.pages import receipt_page, text_of
from tests.worlds.programme import AT, Programme
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import PRICE, build_world

pytestmark = pytest.mark.django_db


def no_violations() -> bool:
    return not [(r.name, r.rows) for r in check_all() if r.rows]


def test_a_void_before_the_accrual_lets_nothing_be_accrued_and_is_listed_with_its_reason(at: datetime) -> None:
    world = build_world(OCTOBER)
    voided, waiting, kept = world.generate(3)
    world.attribute([voided, kept])
    corrections.void_generation(generation=voided, reason="test", detail="load test", at=OCTOBER)
    corrections.void_generation(generation=waiting, reason="refunded", at=OCTOBER)
    world.accrue_all()
    closing.close_period(period=202609, at=NOVEMBER)
    closing.close_period(period=202610, at=NOVEMBER)
    assert list(Accrual.objects.values_list("generation_id", flat=True)) == [kept.pk]
    assert dict(Unaccrued.objects.values_list("generation_id", "reason")) == {
        voided.pk: "voided, test: load test",
        waiting.pk: "voided, refunded",
    }
    assert no_violations()


def test_a_void_after_the_accrual_reverses_every_credit(at: datetime) -> None:
    world = build_world(at)
    (generation,) = world.generate(1)
    world.attribute([generation])
    world.accrue_all()
    corrections.void_generation(generation=generation, reason="refunded", at=at)
    entry = Entry.objects.get(kind="void_generations")
    original, back = Accrual.objects.order_by("-revision")
    assert (back.revision, back.gross) == (-1, -PRICE)
    assert back.credits == {account: -units for account, units in original.credits.items()}
    assert (entry.n_docs, entry.total) == (1, PRICE)
    assert [world.balance("contributor_accrued", i) for i in range(3)] == [0, 0, 0]
    assert journal.balance(AccountKey("service_unbilled", "USD", f"service:{world.service.pk}")) == 0
    # A later revision of a void generation is passed over.
    world.attribute([generation], revision=2)
    assert world.accrue_all() == 0
    assert no_violations()


def test_a_void_of_a_closed_and_paid_month_is_recovered_from_later_earnings(at: datetime) -> None:
    world = build_world(OCTOBER)
    generations = world.generate(4)
    world.attribute(generations, shares=[PPB, 0, 0], general=[PPB, 0, 0], weight_ppb=PPB)
    closing.close_period(period=202609, at=NOVEMBER)
    closing.close_period(period=202610, at=NOVEMBER)
    due = whole_minor(world.balance("contributor_payable"), "USD")
    payouts.reserve_payout(
        contributor_id=world.contributors[0].pk,
        currency="USD",
        gross=due,
        tax=0,
        rail="stripe",
        attempt_key="p",
        at=NOVEMBER,
    )
    left = world.balance("contributor_payable")
    world.at = NOVEMBER
    for generation in generations[:2]:
        corrections.void_generation(generation=generation, reason="refunded", at=NOVEMBER)
    entries = Entry.objects.filter(kind="void_generations")
    assert {(e.period_id, e.earned_period_id) for e in entries} == {(202611, 202610)}
    closing.close_period(period=202611, at=datetime(2026, 12, 2, tzinfo=UTC))
    # By attribution, and from October's base pool.
    taken = 2 * (PRICE * 4 // 5)
    assert world.balance("contributor_receivable") == -(taken - left)
    world.at = datetime(2026, 12, 5, tzinfo=UTC)
    world.attribute(world.generate(3), shares=[PPB, 0, 0], general=[PPB, 0, 0], weight_ppb=PPB)
    closing.close_period(period=202612, at=datetime(2027, 1, 2, tzinfo=UTC))
    assert world.balance("contributor_receivable") == 0
    assert no_violations()


def test_a_void_under_a_pool_gives_the_part_back_to_the_pool(at: datetime) -> None:
    world = build_world(OCTOBER, plan=False)
    plan = world.adopt(basis="period_pool", price=None, pool=1000, effective_from=datetime(2026, 10, 1, tzinfo=UTC))
    generations = world.generate(4)
    world.attribute(generations)
    closing.close_period(period=202609, at=NOVEMBER)
    closing.close_period(period=202610, at=NOVEMBER)
    corrections.void_generation(generation=generations[0], reason="test", at=NOVEMBER)
    assert journal.balance(AccountKey("royalty_pool", "USD", f"plan:{plan.pk}:202610")) == 250
    assert no_violations()


def test_the_same_void_again_changes_nothing_and_another_reason_is_refused(at: datetime) -> None:
    world = build_world(at)
    (generation,) = world.generate(1)
    world.attribute([generation])
    world.accrue_all()
    first = corrections.void_generation(generation=generation, reason="test", at=at)
    before = Entry.objects.count()
    assert corrections.void_generation(generation=generation, reason="test", at=NOVEMBER) == first
    with pytest.raises(corrections.UnableToVoid, match="void already: it was a test"):
        corrections.void_generation(generation=generation, reason="refunded", at=at)
    with pytest.raises(corrections.UnableToVoid, match="'boredom' is no reason"):
        corrections.void_generation(generation=generation, reason="boredom", at=at)
    assert Entry.objects.count() == before
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        Void.objects.update(reason="mistake")


# --- pages and the API --------------------------------------------------------------------------------------------
@pytest.fixture
def one(programme: Programme) -> Programme:
    programme.attribute(programme.generate(1), scores=[0.5, 0.3125, 0.1875])
    programme.accrue()
    return programme


def post(programme: Programme, body: Any, *, key: str | None = None, place: int = 0) -> Any:
    if key is None:
        scopes = ["generations:write"]
        _, key = model_services.issue_key(service=programme.services[place], scopes=scopes, at=now())
    return programme.client(0).post(
        f"/api/v1/generations/{programme.generations[0].pk}/void",
        body,
        content_type="application/json",
        headers={"Authorization": f"Bearer {key}"},
    )


def test_a_service_voids_its_generation_and_reads_so(one: Programme) -> None:
    answer = post(one, {"reason": "refunded", "detail": "Order 7"})
    assert answer.status_code == 200
    entry = Entry.objects.get(kind="void_generations")
    assert answer.json()["entry"]["id"] == entry.pk
    assert post(one, {"reason": "refunded", "detail": "Order 7"}).json() == answer.json()
    conflict = post(one, {"reason": "test"})
    assert conflict.status_code == 409
    assert conflict.json()["type"] == "/problems/unable-to-void"
    receipt = receipt_for_service(one.generations[0].pk, one.services[0].pk)
    assert receipt is not None
    assert (receipt.standing.state, receipt.division) == ("voided", None)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"reason": "boredom"}, "reason-invalid"),
        ({"reason": "test", "detail": "x" * 301}, "detail-invalid"),
        ({"reason": "test", "detail": "\u0000"}, "detail-invalid"),
        ({"reason": 5}, "invalid-field"),
        ({}, "invalid-field"),
        ([], "invalid-field"),
        ({"reason": "test", "more": 1}, "invalid-field"),
    ],
)
def test_a_void_that_says_nothing_clear_is_refused(one: Programme, body: Any, problem: str) -> None:
    answer = post(one, body)
    assert (answer.status_code, answer.json()["type"]) == (422, f"/problems/{problem}")
    assert not Void.objects.exists()


def test_a_body_larger_than_any_void_is_refused_unread(one: Programme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DATA_UPLOAD_MAX_MEMORY_SIZE", 1_000)
    answer = post(one, {"reason": "test", "detail": "x" * 2_000})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/request-too-large")
    assert not Void.objects.exists()


def test_only_the_generation_s_own_service_voids_it_and_with_the_scope_to_write(one: Programme) -> None:
    assert post(one, {"reason": "test"}, place=1).status_code == 404
    assert post(one, {"reason": "test"}, key=one.keys[0]).status_code == 403
    assert not Void.objects.exists()


def test_the_payee_reads_on_receipt_list_and_statement_that_it_was_taken_back(one: Programme) -> None:
    one.close()
    corrections.void_generation(generation=one.generations[0], reason="refunded", detail="Order 7", at=AT)
    page = receipt_page(one)
    assert "Its service voided this output of press-1 on 3 Nov 2026" in page
    assert "its user was refunded: Order 7" in page
    assert "Credited to you, then reversed" in page
    assert "Reversed" in text_of(one.client(0).get("/portal/receipts/").content)
    from ledger.models import Period

    made = build_statement(contributor=one.contributors[0], period=Period.objects.get(pk=202611))
    line = next(line for line in made.pots[0].lines if line.kind == "prior_voided")
    assert line.label.startswith("Reversed for earlier periods")
    assert made.journal[0][1].effective == "2026-11-03"
    assert made.journal[0][1].earned_period == "2026-10"
