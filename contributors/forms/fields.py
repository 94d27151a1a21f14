"""Fields that several forms of contributors share."""

from __future__ import annotations

import datetime

from django import forms


class DateInput(forms.DateInput):
    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


def begin(chosen: datetime.date | None, at: datetime.datetime) -> datetime.datetime:
    """The moment that a date on a form means: the beginning of that day in UTC, and for today this moment."""
    if chosen is None or chosen == at.date():
        return at
    return datetime.datetime.combine(chosen, datetime.time(), datetime.UTC)
