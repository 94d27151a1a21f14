"""The withholding table: the narrowest row counts, from its date on, and two people decide its rows."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.utils.timezone import now

from contributors.models import PPB
from ledger.models import WithholdingRate
from ledger.operations import taxes
from ledger.queries.taxes import withholding_rate
from people.operations.proposals import UnableToDecide, approve, reject
from tests.worlds.pages import text_of
from tests.worlds.programme import Programme
from tests.worlds.world import World, build_world

pytestmark = pytest.mark.django_db
BEGIN = date(2026, 1, 1)


@pytest.fixture
def world(at: Any) -> World:
    return build_world(at, contributors=1)


def propose(world: World, rate_ppb: int = PPB * 3 // 10, **changes: Any) -> WithholdingRate:
    arguments = {"jurisdiction": "US", "effective_from": BEGIN, "by": world.staff[0], **changes}
    return taxes.propose_withholding_rate(rate_ppb=rate_ppb, at=world.at, **arguments)


def adopt(world: World, rate_ppb: int, **changes: Any) -> WithholdingRate:
    return approve(propose(world, rate_ppb, **changes), by=world.staff[1], at=world.at)


def rate(country: str, form: str, on: date = date(2026, 11, 20)) -> int | None:
    found = withholding_rate(jurisdiction="US", country=country, form=form, on=on)
    return found.rate_ppb if found else None


def test_the_narrowest_row_that_has_begun_counts(world: World) -> None:
    adopt(world, 30)
    adopt(world, 15, country="DE")
    adopt(world, 0, form="w9")
    adopt(world, 5, country="DE", form="w8ben")
    assert rate("FR", "w8ben") == 30
    assert rate("DE", "none") == 15
    assert rate("US", "w9") == 0
    # A country counts before a form.
    assert rate("DE", "w9") == 15
    assert rate("DE", "w8ben") == 5
    assert rate("DE", "w8ben", date(2025, 12, 31)) is None
    assert withholding_rate(jurisdiction="GB", country="DE", form="w8ben", on=world.at.date()) is None


def test_a_change_begins_with_its_date_and_what_was_before_stays(world: World) -> None:
    adopt(world, 30)
    proposed = propose(world, 10, effective_from=date(2026, 12, 1))
    assert rate("FR", "none", date(2026, 12, 1)) == 30
    approve(proposed, by=world.staff[1], at=world.at)
    assert [rate("FR", "none", day) for day in (date(2026, 11, 30), date(2026, 12, 1))] == [30, 10]
    with pytest.raises(UnableToDecide, match="begin today or later"):
        adopt(world, 20, effective_from=date(2026, 6, 1))
    with pytest.raises(UnableToDecide, match="approved already"):
        adopt(world, 20, effective_from=date(2026, 12, 1))


def test_a_rate_is_approved_by_somebody_else_and_then_stands(world: World) -> None:
    proposed = propose(world)
    with pytest.raises(UnableToDecide, match="somebody else"):
        approve(proposed, by=world.staff[0], at=world.at)
    with pytest.raises(DatabaseError, match="a_withholdingrate_is_approved_by_somebody_else"), transaction.atomic():
        WithholdingRate.objects.update(state="approved", decided_by=world.staff[0], decided_at=world.at)
    approve(proposed, by=world.staff[1], at=world.at)
    for change in ({"rate_ppb": 1}, {"treaty": "another"}, {"state": "proposed"}, {"effective_from": BEGIN}):
        with pytest.raises(DatabaseError, match=r"stands as it was proposed|cannot go from"), transaction.atomic():
            WithholdingRate.objects.update(**change)
    rejected = reject(propose(world), by=world.staff[1], at=world.at)
    with pytest.raises(UnableToDecide, match="rejected already"):
        approve(rejected, by=world.staff[1], at=world.at)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"jurisdiction": "XX"}, "not an ISO 3166 code"),
        ({"country": "us"}, "not an ISO 3166 code"),
        ({"rate_ppb": PPB}, "leaves something to pay"),
        ({"rate_ppb": -1}, "at least 0 %"),
        ({"treaty": "x" * 41}, "at most 40 characters"),
    ],
)
def test_a_rate_that_makes_no_sense_is_refused_and_no_row_is_written(
    world: World, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(taxes.UnableToProposeRate, match=named):
        propose(world, **changes)
    assert not WithholdingRate.objects.exists()


def test_the_basis_keeps_rate_and_treaty_in_what_an_entry_holds(world: World) -> None:
    assert propose(world, 125_000_000, treaty="US-DE treaty, art. 12(1)").basis == "12.5% US-DE treaty, art. 12(1)"
    assert propose(world, 0).basis == "0%"
    assert len(propose(world, 123_456_789, treaty="x" * 40).basis) <= 60


def test_a_rate_is_proposed_and_approved_on_its_page(programme: Programme) -> None:
    maker, checker = programme.staff_client("finance_maker"), programme.staff_client("finance_checker")
    form = {
        "jurisdiction": "us",
        "country": "de",
        "form": "w8ben",
        "rate_ppb": "12.5",
        "treaty": "US-DE treaty",
        "effective_from": now().date().isoformat(),
    }
    assert maker.post("/console/withholding/", {**form, "country": "XQ"}).status_code == 422
    assert maker.post("/console/withholding/", form).status_code == 302
    made = WithholdingRate.objects.get()
    decide = f"/console/proposals/withholding/{made.pk}/"
    assert decide in maker.get("/console/withholding/").content.decode()
    assert maker.post(decide, {"decision": "approve"}).status_code == 409
    checker.post(decide, {"decision": "approve"})
    page = text_of(checker.get("/console/withholding/").content)
    assert "12.50 %" in page
    assert "Counts today" in page
    assert made.effective_from - timedelta(days=1) < now().date()
    auditor = programme.staff_client("auditor")
    assert auditor.get("/console/withholding/").status_code == 200
    assert auditor.post("/console/withholding/", form).status_code == 403
