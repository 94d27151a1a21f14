"""The form of a service's limit of a month."""

from __future__ import annotations

import re
from typing import Any

from django import forms

from ledger.models import SpendLimit
from ledger.money import ASSETS, UnableToParseAmount, format_amount
from ledger.operations.limits import DEFAULT_THRESHOLDS
from ledger.typed_amounts import units_of_typed

_SEPARATORS = re.compile(r"[\s,;]+")


class LimitForm(forms.Form):
    """`given()` is the operation's input."""

    currency = forms.ChoiceField(choices=[(code, code) for code in ASSETS])
    amount = forms.CharField(label="Limit of a month", max_length=40, help_text="Such as 250.00.")
    thresholds = forms.CharField(
        label="Alerts at, in per cent",
        max_length=100,
        required=False,
        initial=", ".join(map(str, DEFAULT_THRESHOLDS)),
        help_text="Each is told once a month; 100 always is.",
    )
    at_limit = forms.ChoiceField(
        label="At the limit", choices=SpendLimit.AtLimit.choices, initial="alert", widget=forms.RadioSelect
    )
    contacts = forms.CharField(
        label="Addresses of the service",
        max_length=3_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="One a line. Finance gets each alert too.",
    )

    def clean_thresholds(self) -> list[int]:
        words = [word for word in _SEPARATORS.split(self.cleaned_data["thresholds"].replace("%", " ")) if word]
        if not all(word.isascii() and word.isdigit() and len(word) < 4 for word in words):
            raise forms.ValidationError("Write whole numbers, such as 50, 80, 100.")
        return [int(word) for word in words]

    def clean_contacts(self) -> list[str]:
        return [word for word in _SEPARATORS.split(self.cleaned_data["contacts"]) if word]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if "amount" in given and "currency" in given:
            try:
                units = units_of_typed(given["amount"], given["currency"])
            except UnableToParseAmount as error:
                self.add_error("amount", str(error))
            else:
                given["amount"] = format_amount(units, given["currency"])
        return given
