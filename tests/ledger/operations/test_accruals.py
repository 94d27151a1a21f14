from datetime import datetime, timedelta

import pytest

from ledger import journal
from ledger.journal import AccountKey
from ledger.models import Accrual, Entry, Refusal
from ledger.money import PPB, parse_amount
from ledger.operations import accruals, closing
from tests.worlds.story import OCTOBER
from tests.worlds.world import PRICE, build_world

pytestmark = pytest.mark.django_db


def test_a_generation_is_divided_as_the_contract_says(at: datetime) -> None:
    world = build_world(at)
    world.attribute(world.generate(), shares=[500_000_000, 300_000_000, 100_000_000], weight_ppb=PPB // 2)
    assert accruals.accrue(at=at) == 1
    take = PRICE // 5
    pool = PRICE - take
    direct = (pool - pool // 5) // 2
    assert journal.balance(AccountKey("platform_fee", "USD")) == take
    assert [world.balance("contributor_accrued", i) for i in range(3)] == [direct // 2, direct * 3 // 10, direct // 10]
    assert journal.balance(world.floor) == pool - direct + direct // 10
    assert journal.balance(AccountKey("service_unbilled", "USD", f"service:{world.service.pk}")) == -PRICE


def test_a_sweep_finds_each_attribution_once(at: datetime) -> None:
    world = build_world(at)
    world.attribute(world.generate(25))
    assert accruals.accrue(limit=10, at=at) == 10
    assert world.accrue_all() == 15
    assert accruals.accrue(at=at) == 0
    assert accruals.accrue(at=at, full=True) == 0
    assert Accrual.objects.count() == 25
    assert list(Entry.objects.order_by("id").values_list("n_docs", flat=True)) == [10, 15]


def test_a_late_generation_is_posted_now_and_shown_as_earned_then(at: datetime) -> None:
    world = build_world(at)
    world.attribute(world.generate(occurred_at=OCTOBER))
    world.accrue_all()
    assert Entry.objects.get().period_id == 202610
    closing.close_period(period=202610, at=at)
    world.attribute(world.generate(occurred_at=OCTOBER))
    world.accrue_all()
    late = Entry.objects.order_by("-id")[0]
    assert (late.period_id, late.earned_period_id, late.effective) == (202611, 202610, at.date())


def test_a_generation_without_a_plan_is_refused_with_the_reason_and_tried_again_when_one_is_adopted(
    at: datetime,
) -> None:
    world = build_world(at, plan=False)
    world.attribute(world.generate(2))
    assert world.accrue_all() == 2
    assert {r.reason for r in Refusal.objects.all()} == {"no_plan"}
    assert accruals.accrue(at=at, full=True) == 0
    world.adopt()
    assert accruals.accrue(at=at, full=True) == 2
    assert Accrual.objects.count() == 2


def test_a_currency_that_no_plan_has_is_refused(at: datetime) -> None:
    world = build_world(at)
    world.attribute(world.generate(currency="EUR"))
    world.accrue_all()
    assert Refusal.objects.get().reason == "currency_lacking"
    assert not Entry.objects.exists()


def test_a_reported_gross_is_refused_under_a_price_and_required_under_a_revenue_share(at: datetime) -> None:
    world = build_world(at)
    world.adopt(currency="EUR", basis="revenue_share", price=None, rate_ppb=PPB // 10)
    world.attribute(world.generate(gross=PRICE))
    world.attribute(world.generate(currency="EUR"))
    world.attribute(world.generate(currency="EUR", gross=9))
    world.attribute(world.generate(currency="EUR", gross=10 * PRICE))
    world.accrue_all()
    assert sorted(Refusal.objects.values_list("reason", flat=True)) == [
        "gross_forbidden",
        "gross_missing",
        "gross_too_small",
    ]
    assert Accrual.objects.get().gross == PRICE


def test_a_new_revision_replaces_the_old_one_in_one_entry(at: datetime) -> None:
    world = build_world(at)
    generations = world.generate(2)
    world.attribute(generations, shares=[PPB, 0, 0])
    world.accrue_all()
    before = world.balance("contributor_accrued", 0)
    world.attribute(generations, shares=[0, PPB, 0], revision=2)
    world.accrue_all()
    assert [world.balance("contributor_accrued", i) for i in range(3)] == [0, before, 0]
    assert list(Accrual.objects.order_by("revision").values_list("revision", flat=True)) == [-1, -1, 1, 1, 2, 2]
    assert list(Entry.objects.order_by("id").values_list("kind", flat=True)) == ["accrue", "restate"]


def test_an_older_revision_that_was_never_accrued_is_passed_over(at: datetime) -> None:
    world = build_world(at)
    generations = world.generate(1)
    world.attribute(generations)
    world.attribute(generations, revision=2)
    assert world.accrue_all() == 1
    assert Accrual.objects.get().revision == 2


def test_credits_follow_the_split_sheet_in_force_when_the_generation_occurred(at: datetime) -> None:
    from contributors.operations.people import record_split_sheet

    world = build_world(at)
    first, second, _ = world.contributors
    holder = world.holders[0]
    change = at + timedelta(hours=1)
    record_split_sheet(holder=holder, parts={first: PPB // 4, second: PPB * 3 // 4}, effective_from=change, at=at)
    world.at = at + timedelta(hours=3)
    world.attribute(world.generate(occurred_at=at), shares=[PPB, 0, 0], weight_ppb=PPB)
    world.attribute(world.generate(occurred_at=change), shares=[PPB, 0, 0], weight_ppb=PPB)
    world.accrue_all()
    direct = 32_000_000
    assert world.balance("contributor_accrued", 0) == direct + direct // 4
    assert world.balance("contributor_accrued", 1) == direct * 3 // 4


def test_a_plan_may_pay_part_of_the_direct_pool_by_general_shares(at: datetime) -> None:
    world = build_world(at, plan=False)
    world.adopt(general_ppb=PPB // 4)
    world.attribute(world.generate(), shares=[PPB, 0, 0], general=[0, PPB, 0], weight_ppb=PPB)
    world.accrue_all()
    direct = 32_000_000
    assert [world.balance("contributor_accrued", i) for i in range(2)] == [direct * 3 // 4, direct // 4]


def test_without_weight_all_that_is_not_taken_goes_to_the_floor_pool(at: datetime) -> None:
    world = build_world(at)
    world.attribute(world.generate(), weight_ppb=0)
    world.accrue_all()
    document = Accrual.objects.get()
    assert sorted(document.amounts) == [PRICE // 5, PRICE * 4 // 5]


def test_a_gross_in_a_currency_of_another_scale_is_the_amount_that_was_reported(at: datetime) -> None:
    """Services report in billionths of the currency; the yen is kept with seven decimals."""
    world = build_world(at)
    world.adopt(currency="JPY", basis="revenue_share", price=None, rate_ppb=PPB)
    world.attribute(world.generate(currency="JPY", gross=12 * 1_000_000_000))
    world.accrue_all()
    assert Accrual.objects.get().gross == parse_amount("12", "JPY")
