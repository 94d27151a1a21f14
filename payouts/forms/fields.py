"""Fields that several forms share: an amount, a day, a reason, being sure."""

from __future__ import annotations

from typing import Any

from django import forms

from ledger.money import UnableToParseAmount
from ledger.typed_amounts import minor_of_typed


class MinorAmountField(forms.CharField):
    """A typed amount of one currency, such as 1,234.56 or 1.234,56 or USD 1234.56, as whole minor units."""

    def __init__(self, *, currency: str, **options: Any) -> None:
        self.currency = currency
        super().__init__(max_length=40, **options)
        self.widget.attrs.update({"inputmode": "decimal", "autocomplete": "off"})

    def clean(self, value: Any) -> Any:
        text = str(super().clean(value) or "").strip()
        if not text:
            return None
        try:
            minor = minor_of_typed(text, self.currency)
        except UnableToParseAmount as error:
            raise forms.ValidationError(str(error)) from error
        if minor < 0:
            raise forms.ValidationError("An amount below zero makes no sense here.")
        return minor


def day_field(label: str, text: str = "", *, required: bool = True) -> forms.DateField:
    return forms.DateField(
        label=label,
        help_text=text,
        required=required,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )


class ReasonForm(forms.Form):
    """A reason for stopping, sending back or explaining something; kept in the audit log."""

    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="In plain words; it is kept in the audit log and shown to the people concerned in finance.",
    )

    def __init__(self, *arguments: Any, label: str = "Reason", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["reason"].label = label


class SureForm(forms.Form):
    sure = forms.BooleanField()

    def __init__(self, *arguments: Any, label: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["sure"].label = label
