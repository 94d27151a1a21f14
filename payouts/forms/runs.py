"""Forms for finance about runs and the money for them: built, approved, ordered, reversed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms

from ledger.money import asset
from ledger.typed_amounts import typed_of_minor
from payouts.forms.fields import MinorAmountField, day_field
from payouts.models import Rail
from payouts.rails.bank.tables import COMMA, DAY_FIRST, MONTH_FIRST, POINT, Choices
from payouts.rails.choice import RAIL_NAMES
from payouts.rails.transfers import banking_day
from people.forms.fields import TypedIntegerField
from people.models import uuid7


class BuildRunForm(forms.Form):
    """The currency to pay, and the moment up to which credits count."""

    currency = forms.ChoiceField()
    rail = forms.ChoiceField(
        choices=[(rail.value, RAIL_NAMES[rail].capitalize()) for rail in Rail],
        label="Paid by",
        required=False,
        help_text="Contributors that Stripe does not pay are paid by bank transfer, in a run of their own.",
    )
    cut_off = day_field(
        "Credits up to the end of",
        "The end of this day in UTC, or now if the day is today. Credits younger than the maturity delay of the policy "
        "stay for the next run.",
    )

    def __init__(self, *arguments: Any, currencies: list[str], today: datetime, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.today = today
        currency = self.fields["currency"]
        assert isinstance(currency, forms.ChoiceField)
        currency.choices = [(code, code) for code in currencies]
        self.fields["cut_off"].initial = today.date()

    def clean_rail(self) -> str:
        return self.cleaned_data["rail"] or Rail.STRIPE_TRANSFER.value

    def clean_cut_off(self) -> datetime:
        day = self.cleaned_data["cut_off"]
        if day > self.today.date():
            raise forms.ValidationError("The cut-off lies in the future. Nothing after today can be counted yet.")
        return min(self.today, datetime.combine(day, time.max, tzinfo=UTC))


class ApproveForm(forms.Form):
    """An approver's signature: the total, typed by hand, and the hash of the content that was on the page."""

    content_hash = forms.RegexField(r"^[0-9a-f]{64}$", widget=forms.HiddenInput)

    def __init__(self, *arguments: Any, currency: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        decimals = asset(currency).exponent
        self.fields["typed_total"] = MinorAmountField(
            currency=currency,
            label=f"Type the total of this run ({currency})",
            help_text=f"By hand, with {decimals} decimals. It must equal the control total above.",
        )


class DecideUnknownForm(forms.Form):
    """A person's finding at Stripe about an attempt that never got an answer."""

    paid_transfer_id = forms.RegexField(
        r"^tr_[A-Za-z0-9_]+$",
        required=False,
        label="Stripe's transfer, if there is one",
        help_text="Its id begins with tr_. Leave it empty only if Stripe's dashboard shows none for this payout.",
    )
    note = forms.CharField(
        max_length=500, widget=forms.Textarea(attrs={"rows": 3}), label="Your checks, and their sources"
    )


class TopUpForm(forms.Form):
    """The amount and its currency."""

    # Of the one top-up that this page asks for.
    number = forms.UUIDField(widget=forms.HiddenInput, initial=uuid7)
    currency = forms.ChoiceField()
    amount = forms.CharField(
        max_length=40,
        label="Amount",
        help_text="For example 1,250.00.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )

    def __init__(self, *arguments: Any, currencies: list[str], chosen: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        currency = self.fields["currency"]
        assert isinstance(currency, forms.ChoiceField)
        currency.choices = [(code, code) for code in currencies]
        if chosen in currencies:
            currency.initial = chosen

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("currency") and given.get("amount"):
            try:
                given["amount_minor"] = MinorAmountField(currency=given["currency"]).clean(given["amount"])
            except forms.ValidationError as error:
                self.add_error("amount", error)
            else:
                if not given["amount_minor"]:
                    self.add_error("amount", "A top-up must be more than nothing.")
        return given


class ReverseForm(forms.Form):
    """The amount of a transfer to take back, and the reason."""

    def __init__(self, *arguments: Any, currency: str, left_minor: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.left_minor = left_minor
        written = typed_of_minor(left_minor, currency)
        self.fields["amount_minor"] = MinorAmountField(
            currency=currency,
            label=f"Amount ({currency})",
            initial=written,
            help_text="The whole rest, or a part of it.",
        )
        self.fields["reason"] = forms.CharField(
            max_length=500,
            widget=forms.Textarea(attrs={"rows": 3}),
            label="Why",
            help_text="Kept in the audit log, for later questions.",
        )
        # The remainder that the page showed, so that a form sent twice does not reverse a part twice.
        self.fields["known_left"] = TypedIntegerField(widget=forms.HiddenInput, initial=left_minor)

    def clean_amount_minor(self) -> int:
        """Return the amount in minor units. Raises ValidationError for nothing, and for more than is left."""
        minor: int = self.cleaned_data["amount_minor"] or 0
        if not 0 < minor <= self.left_minor:
            raise forms.ValidationError("It must be more than nothing and no more than the rest of the transfer.")
        return minor


class ExportForm(forms.Form):
    """The day for the bank to execute the orders."""

    execution_on = day_field("The bank executes on")

    def __init__(self, *arguments: Any, today: date, currency: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.today, self.currency = today, currency
        self.fields["execution_on"].initial = banking_day(currency, today)

    def clean_execution_on(self) -> date:
        """Return the day. Raises ValidationError for one that is past, far off, or no banking day."""
        day: date = self.cleaned_data["execution_on"]
        if not self.today <= day <= self.today + timedelta(days=30):
            raise forms.ValidationError("Choose today or a day within the next 30 days.")
        if (next_day := banking_day(self.currency, day)) != day:
            raise forms.ValidationError(f"Banks move no {self.currency} on this day. The next one is {next_day}.")
        return day


class BankLinesForm(forms.Form):
    """The bank's report in any of its formats, and the reading of a table's dates and amounts."""

    file = forms.FileField(
        label="The bank's report",
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,.txt,.xlsx,.xml,.sta,.mt940,.940"}),
        help_text="The bank's own file (camt.053, camt.054, pain.002, MT940), or the offered table, filled in and "
        "saved as CSV or XLSX. The same file can be read again: a line counts once.",
    )
    days = forms.ChoiceField(
        label="Dates such as 03/04/2026 in a table",
        choices=[("", "Refuse them"), (DAY_FIRST, "The day comes first"), (MONTH_FIRST, "The month comes first")],
        required=False,
    )
    decimals = forms.ChoiceField(
        label="Amounts such as 1.250 in a table",
        choices=[("", "Refuse them"), (COMMA, "A comma before the decimals"), (POINT, "A point before the decimals")],
        required=False,
    )

    @property
    def reading(self) -> Choices:
        """Return the clerk's choices of a valid form."""
        return Choices(self.cleaned_data["days"], self.cleaned_data["decimals"])
