"""What people type about payouts, checked and turned into minor units, dates and reasons."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from django import forms

from ledger.money import UnableToParseAmount, asset, parse_amount, to_minor


class MinorAmountField(forms.CharField):
    """A decimal amount of one currency, such as 1,234.56 or USD 1,234.56, as whole minor units."""

    def __init__(self, *, currency: str, **options: Any) -> None:
        self.currency = currency
        super().__init__(max_length=40, **options)
        self.widget.attrs.update({"inputmode": "decimal", "autocomplete": "off"})

    def clean(self, value: Any) -> Any:
        text = str(super().clean(value)).upper().removeprefix(self.currency).replace(",", "").replace(" ", "").strip()
        if not text:
            return None
        try:
            minor = to_minor(parse_amount(text, self.currency), self.currency)
        except UnableToParseAmount as error:
            raise forms.ValidationError(str(error)) from error
        if minor < 0:
            raise forms.ValidationError("An amount below zero makes no sense here.")
        return minor


class ThresholdForm(forms.Form):
    """From which sum on a contributor wants to be paid."""

    def __init__(self, *arguments: Any, currency: str, least_text: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["minimum_minor"] = MinorAmountField(
            currency=currency,
            label=f"Pay me from this amount on ({currency})",
            help_text=f"The programme's own minimum is {least_text}; a lower figure changes nothing. "
            "A higher one means fewer, larger payouts. What is below it is carried over, always shown, never lost.",
        )


class BuildRunForm(forms.Form):
    """Which currency is paid, and up to which moment credits count."""

    currency = forms.ChoiceField()
    cut_off = forms.DateField(
        label="Credits up to the end of",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="The end of this day in UTC, or now if the day is today. Credits younger than the maturity delay of "
        "the policy stay for the next run.",
    )

    def __init__(self, *arguments: Any, currencies: list[str], today: datetime, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.today = today
        currency = self.fields["currency"]
        assert isinstance(currency, forms.ChoiceField)
        currency.choices = [(code, code) for code in currencies]
        self.fields["cut_off"].initial = today.date()

    def clean_cut_off(self) -> datetime:
        day = self.cleaned_data["cut_off"]
        if day > self.today.date():
            raise forms.ValidationError("The cut-off lies in the future. Nothing after today can be counted yet.")
        return min(self.today, datetime.combine(day, time.max, tzinfo=UTC))


class ApproveForm(forms.Form):
    """What an approver signs: the total, typed by hand, and the hash of the content that was on the page."""

    content_hash = forms.RegexField(r"^[0-9a-f]{64}$", widget=forms.HiddenInput)

    def __init__(self, *arguments: Any, currency: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        decimals = asset(currency).exponent
        self.fields["typed_total"] = MinorAmountField(
            currency=currency,
            label=f"Type the total of this run ({currency})",
            help_text=f"By hand, with {decimals} decimals. It must equal the control total above.",
        )


class ReasonForm(forms.Form):
    """Why something is stopped, sent back or explained; kept in the audit log."""

    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="In plain words; it is kept in the audit log and shown to the people concerned in finance.",
    )

    def __init__(self, *arguments: Any, label: str = "Reason", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["reason"].label = label


class DecideUnknownForm(forms.Form):
    """What a person found at Stripe about an attempt whose answer never came."""

    paid_transfer_id = forms.RegexField(
        r"^tr_[A-Za-z0-9_]+$",
        required=False,
        label="Stripe's transfer, if there is one",
        help_text="Its id begins with tr_. Leave it empty only if Stripe's dashboard shows none for this payout.",
    )
    note = forms.CharField(
        max_length=500, widget=forms.Textarea(attrs={"rows": 3}), label="What you checked, and where"
    )
