"""Input that contradicts the books is refused with the reason named, and no row is written."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from contributors.models import PPB
from ledger import journal
from ledger.journal import AccountKey, UnableToPost
from ledger.models import Account, Accrual, Entry, Line
from ledger.money import UnableToApportion, apportion, tie_key
from ledger.operations import accruals, closing
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import build_world

pytestmark = pytest.mark.django_db
BANK, EQUITY = AccountKey("bank", "USD"), AccountKey("programme_equity", "USD")
GOOD: dict[str, Any] = {
    "kind": "capital",
    "idem_key": "bad-input",
    "effective": date(2026, 11, 20),
    "reference": "a test",
    "lines": [(BANK, -5), (EQUITY, 5)],
}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"lines": [(BANK, -5), (EQUITY, 6)]}, "unbalanced"),
        ({"lines": [(BANK, -5)]}, "unbalanced"),
        ({"lines": [(BANK, -5), (AccountKey("programme_equity", "EUR"), 5)]}, "unbalanced"),
        ({"lines": [(AccountKey("piggy_bank", "USD"), -5), (EQUITY, 5)]}, "unknown-account"),
        ({"lines": [(AccountKey("bank", "USD", "contributor:1"), -5), (EQUITY, 5)]}, "unknown-account"),
        ({"lines": [(AccountKey("bank", "XYZ"), -5), (AccountKey("programme_equity", "XYZ"), 5)]}, "unknown-asset"),
        ({"lines": [(BANK, 0), (EQUITY, 0)]}, "amount-invalid"),
        ({"lines": [(BANK, -5.0), (EQUITY, 5.0)]}, "amount-invalid"),
        ({"lines": [(BANK, -(2**63)), (EQUITY, 2**63)]}, "amount-out-of-range"),
        ({"effective": date(2026, 9, 30)}, "period-not-open"),
        ({"effective": date(2031, 1, 1)}, "period-not-open"),
    ],
)
def test_an_entry_that_cannot_be_is_refused_by_name(at: datetime, change: dict[str, Any], problem: str) -> None:
    build_world(OCTOBER)
    closing.close_period(period=202609, at=NOVEMBER)
    before = (Entry.objects.count(), Line.objects.count(), Account.objects.count())
    with pytest.raises(UnableToPost) as refused:
        journal.post(**{**GOOD, **change})
    assert refused.value.problem == problem
    assert str(refused.value)
    assert (Entry.objects.count(), Line.objects.count(), Account.objects.count()) == before


def test_a_key_used_with_another_body_is_refused_and_the_first_one_stands(at: datetime) -> None:
    build_world(OCTOBER)
    first = journal.post(**GOOD)
    with pytest.raises(UnableToPost) as refused:
        journal.post(**{**GOOD, "lines": [(BANK, -6), (EQUITY, 6)]})
    assert (refused.value.problem, refused.value.status) == ("key-reused", 409)
    assert journal.post(**GOOD).entry_id == first.entry_id
    assert Entry.objects.count() == 1


@pytest.mark.parametrize("weights", [[], [0, 0], [-1, 2]])
def test_shares_over_which_nothing_can_be_divided_are_refused(weights: list[int]) -> None:
    with pytest.raises(UnableToApportion):
        apportion(10, weights, [tie_key(b"x", i) for i in range(len(weights))])


def test_an_attribution_whose_shares_do_not_sum_accrues_nothing(at: datetime) -> None:
    """No worker writes one; the accrual does not trust that."""
    from attribution.models import Attribution

    world = build_world(at)
    (generation,) = world.generate(1)
    (row,) = world.attribute([generation])
    Attribution.objects.bulk_create(
        [
            Attribution(
                **{f.attname: getattr(row, f.attname) for f in Attribution._meta.concrete_fields if f.attname != "id"}
                | {"revision": 2, "unattributed_ppb": 0, "shares_ppb": [PPB // 2, 0, 0]}
            )
        ]
    )
    with pytest.raises(UnableToApportion, match="sum to 1,000,000,000"):
        accruals.accrue(at=at)
    assert not Accrual.objects.exists()
    assert not Entry.objects.exists()
