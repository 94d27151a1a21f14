"""Days and times in the programme's own zone, named; boundaries of the books stay UTC."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, Template
from django.test import Client

from people.presentation import dates

# 30 November in Los Angeles is 1 December in UTC; 1 December in UTC is the morning of 1 December in Auckland.
EVENING = datetime(2026, 12, 1, 1, 30, tzinfo=UTC)
LATE = datetime(2026, 11, 30, 20, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "at", "day", "moment"),
    [
        ("UTC", EVENING, "1 Dec 2026", "1 Dec 2026, 01:30 UTC"),
        ("America/Los_Angeles", EVENING, "30 Nov 2026", "30 Nov 2026, 17:30 PST"),
        ("Pacific/Auckland", LATE, "1 Dec 2026", "1 Dec 2026, 09:30 NZDT"),
        ("Asia/Dubai", LATE, "1 Dec 2026", "1 Dec 2026, 00:30 UTC+04"),
        ("Asia/Kathmandu", LATE, "1 Dec 2026", "1 Dec 2026, 02:15 UTC+0545"),
        ("Europe/Berlin", datetime(2026, 7, 1, 22, 30, tzinfo=UTC), "2 Jul 2026", "2 Jul 2026, 00:30 CEST"),
    ],
)
def test_an_evening_is_a_day_of_the_programme_s_zone(
    settings: Any, zone: str, at: datetime, day: str, moment: str
) -> None:
    settings.PROGRAMME_TIME_ZONE = zone
    assert (dates.day(at), dates.moment(at)) == (day, moment)
    assert f"{dates.today(at).day} " in day
    # A date has no zone, and the month of the books is that of UTC.
    assert dates.day(date(2026, 12, 1)) == "1 Dec 2026"
    assert dates.month(at) == f"{at:%B %Y}"
    page = Template("{% load figures %}{{ at|day }} {{ at|moment }}").render(Context({"at": at}))
    assert day in page
    assert moment in page


def test_a_boundary_keeps_its_day_in_utc_and_says_so(settings: Any) -> None:
    begins = datetime(2026, 12, 1, tzinfo=UTC)
    assert dates.utc_day(begins) == "1 Dec 2026"
    settings.PROGRAMME_TIME_ZONE = "America/Los_Angeles"
    assert dates.day(begins) == "30 Nov 2026"
    assert dates.utc_day(begins) == "1 Dec 2026 (UTC)"
    page = Template("{% load figures %}{{ at|utc_day }}").render(Context({"at": begins}))
    assert 'datetime="2026-12-01"' in page
    assert "1 Dec 2026 (UTC)" in page


@pytest.mark.django_db
def test_every_page_names_the_zone_and_the_boundaries(settings: Any) -> None:
    assert "Times are in UTC." in Client().get("/").content.decode()
    settings.PROGRAMME_TIME_ZONE = "Pacific/Auckland"
    page = Client().get("/").content.decode()
    assert "Days and times are in Pacific/Auckland." in page
    assert "begin and end at midnight UTC" in page


def test_a_zone_that_is_none_stops_the_start() -> None:
    code = "import django; django.setup()"
    wrong = {**os.environ, "PROGRAMME_TIME_ZONE": "Mars/Olympus", "DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run([sys.executable, "-c", code], env=wrong, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "is no zone such as Europe/Berlin" in done.stderr
    assert ImproperlyConfigured.__name__ in done.stderr
