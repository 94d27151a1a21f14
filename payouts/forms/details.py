"""The form of a contributor's legal name and country."""

from __future__ import annotations

from django import forms

from people.presentation.countries import COUNTRIES


class DetailsForm(forms.Form):
    legal_name = forms.CharField(max_length=200, help_text="As in a passport or the company register.")
    country = forms.ChoiceField(
        choices=sorted(COUNTRIES.items(), key=lambda entry: entry[1]),
        help_text="Where you are resident for tax, or the organisation is registered.",
    )
