"""The form of a withholding rate."""

from __future__ import annotations

from django import forms

from contributors.forms.fields import DateInput
from ledger.forms.fields import PercentField

# --- withholding --------------------------------------------------------------------------------------------------
TAX_FORMS = {"": "Any other", "none": "No form", "w9": "W-9", "w8ben": "W-8BEN", "w8bene": "W-8BEN-E"}


class WithholdingForm(forms.Form):
    jurisdiction = forms.CharField(
        label="Withheld for", max_length=2, initial="US", help_text="ISO 3166 code of the country that has it withheld."
    )
    country = forms.CharField(
        label="Payees of",
        max_length=2,
        required=False,
        help_text="Where they are resident for tax; empty for any other.",
    )
    form = forms.ChoiceField(
        required=False,
        choices=list(TAX_FORMS.items()),
    )
    rate_ppb = PercentField(label="Rate, per cent")
    treaty = forms.CharField(
        label="Treaty or rule", required=False, max_length=40, help_text="Such as “US-DE treaty, art. 12(1)”."
    )
    effective_from = forms.DateField(label="From", widget=DateInput())

    def clean_jurisdiction(self) -> str:
        return str(self.cleaned_data["jurisdiction"]).upper()

    def clean_country(self) -> str:
        return str(self.cleaned_data["country"]).upper()
