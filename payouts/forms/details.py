"""The form of a contributor's name, kind, country and currency."""

from __future__ import annotations

from typing import Any

from django import forms

from contributors.models import Contributor
from contributors.queries.details import Details
from ledger.money import ASSETS
from people.presentation.countries import COUNTRIES

_BY_NAME = sorted(COUNTRIES.items(), key=lambda entry: entry[1])
DETAILS = ("kind", "legal_name", "display_name", "country", "currency")


class DetailsForm(forms.Form):
    kind = forms.ChoiceField(choices=[(kind.value, kind.value.capitalize()) for kind in Contributor.Kind])
    legal_name = forms.CharField(max_length=200, help_text="As in a passport or the company register.")
    display_name = forms.CharField(
        label="Shown name",
        max_length=200,
        required=False,
        help_text="The name or pseudonym beside your works. The legal name, if you leave it empty.",
    )
    country = forms.ChoiceField(
        choices=_BY_NAME, help_text="Where you are resident for tax, or the organisation is registered."
    )
    currency = forms.ChoiceField(
        choices=[(code, code) for code in ASSETS],
        help_text="The currency of your own minimum payout. Earned amounts are paid in the currency in which they were "
        "earned.",
    )
    reason = forms.CharField(
        label="Why",
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Such as a marriage, a move or a mistake. Needed where payout details or a tax form exist.",
    )

    def __init__(self, *arguments: Any, present: Details, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "initial": present.as_json()})

    @property
    def given(self) -> dict[str, str]:
        """Return the details of a valid form."""
        return {name: self.cleaned_data[name] for name in DETAILS}
