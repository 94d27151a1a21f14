"""Fields that several forms of the books share."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from django import forms
from django.db.models import QuerySet

from people.forms.fields import TypedDecimalField
from people.presentation import names
from people.presentation.percent import PER_CENT_PPB

NAMED_MAX = 5
_PUBLIC_NUMBER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _named(rows: QuerySet[Any], field: str, text: str, what: str) -> Any:
    """The one row of a name or a number. Raises ValidationError for none, and for several of one name.

    The number is the short one, or the public one, which may stand after the name: "Ada, 0190…".
    """
    text = names.composed(text)
    public = _PUBLIC_NUMBER.search(text.lower())
    if public and any(column.name == "public_id" for column in rows.model._meta.fields):
        found = list(rows.filter(public_id=public.group()))
    elif text.isascii() and text.isdigit() and len(text) < 19:
        found = list(rows.filter(pk=int(text)))
    else:
        found = list(rows.filter(**{f"{field}__iexact": text}).order_by("pk")[: NAMED_MAX + 1])
    if not found:
        raise forms.ValidationError(f"There is no {what} “{text}”.")
    if len(found) > 1:
        numbers = ", ".join(str(getattr(row, "public_id", row.pk)) for row in found[:NAMED_MAX])
        raise forms.ValidationError(
            f"Several are named “{text}”; give the number, which stands on the {what}'s page: {numbers}."
        )
    return found[0]


class PercentField(TypedDecimalField):
    """A percentage that cleans to parts of a billion."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=Decimal(0), max_value=Decimal(100), max_digits=10, decimal_places=7, **kwargs)

    def clean(self, value: Any) -> int:
        return int((super().clean(value) or Decimal(0)) * PER_CENT_PPB)
