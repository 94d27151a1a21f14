"""The form of a contributor's legal name and country."""

from __future__ import annotations

from django import forms

from people.presentation.countries import COUNTRIES

_BY_NAME = sorted(COUNTRIES.items(), key=lambda entry: entry[1])


class DetailsForm(forms.Form):
    legal_name = forms.CharField(max_length=200, help_text="As in a passport or the company register.")
    country = forms.ChoiceField(
        choices=_BY_NAME,
        help_text="Where you are resident for tax, or the organisation is registered.",
    )
