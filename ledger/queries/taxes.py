"""The withholding table: the rate that is withheld from each kind of payee on a day."""

from __future__ import annotations

from datetime import date

from django.db.models import Case, IntegerField, QuerySet, Value, When

from ledger.models import WithholdingRate


def withholding_rate(*, jurisdiction: str, country: str, form: str, on: date) -> WithholdingRate | None:
    """The row that counts for a payee of `country` with the tax form `form`; None where the table has no such row."""
    rows = WithholdingRate.objects.filter(
        state=WithholdingRate.State.APPROVED,
        jurisdiction=jurisdiction,
        country__in=[country, ""],
        form__in=[form, ""],
        effective_from__lte=on,
    )
    narrow = {
        name: Case(When(**{name: ""}, then=Value(0)), default=Value(1), output_field=IntegerField())
        for name in ("country", "form")
    }
    return (
        rows.annotate(by_country=narrow["country"], by_form=narrow["form"])
        .order_by("-by_country", "-by_form", "-effective_from")
        .first()
    )


def withholding_table() -> QuerySet[WithholdingRate]:
    """Every row ever proposed, in the order of the payees that it is for, the newest first."""
    rows = WithholdingRate.objects.select_related("proposed_by", "decided_by")
    return rows.order_by("jurisdiction", "country", "form", "-effective_from", "-id")
