"""The bank's day and the staff's day are the programme's own, also where it is another day in UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from payouts.operations import bank_files
from payouts.operations.bank_orders import UnableToExport
from tests.payouts.test_bank_rail import executing, line, payee, programme_accounts, record, sent
from tests.worlds.world import SEEN, World

__all__ = ["programme_accounts"]
# 21 November, 09:30 in Auckland; 20 November, 17:30 in Los Angeles.
AUCKLAND_MORNING = datetime(2026, 11, 20, 20, 30, tzinfo=UTC)
CALIFORNIAN_EVENING = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(("zone", "outcome"), [("Pacific/Auckland", "recorded"), ("UTC", "refused")])
def test_a_line_of_the_bank_s_own_today_is_no_day_to_come(world: World, settings: Any, zone: str, outcome: str) -> None:
    payee(world, 7000)
    world.at = AUCKLAND_MORNING
    settings.PROGRAMME_TIME_ZONE = zone
    run, _ = sent(world)
    assert record(world, line(run.payouts.get(), booked_on=date(2026, 11, 21))) == [outcome]
    assert record(world, line(run.payouts.get(), "rejected", booked_on=date(2026, 11, 22))) == ["refused"]


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "UTC"])
def test_the_bank_executes_on_the_programme_s_today(world: World, settings: Any, zone: str) -> None:
    payee(world, 7000)
    world.at = CALIFORNIAN_EVENING
    settings.PROGRAMME_TIME_ZONE = zone
    run = executing(world)

    def export(day: date | None) -> Any:
        return bank_files.export_bank_file(run=run, execution_on=day, by=world.maker, at=world.at, seen=SEEN)

    with pytest.raises(UnableToExport, match="a day that is past"):
        export(date(2026, 11, 19))
    if zone == "UTC":
        with pytest.raises(UnableToExport, match="a day that is past"):
            export(date(2026, 11, 20))
    else:
        assert export(date(2026, 11, 20)).execution_on == date(2026, 11, 20)


def test_a_tax_form_signed_today_is_taken(world: World, settings: Any) -> None:
    world.at = AUCKLAND_MORNING
    contributor = world.contributor(0)
    settings.PROGRAMME_TIME_ZONE = "Pacific/Auckland"
    day = date(2026, 11, 21)
    assert world.tax_form(contributor, signed_on=day, received_on=day).received_on == day
