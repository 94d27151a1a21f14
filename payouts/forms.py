"""What people type about payouts, checked and turned into minor units, dates and reasons."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms

from contributors.countries import COUNTRIES
from contributors.models import Contributor, uuid7
from ledger.money import UnableToParseAmount, asset, format_amount, from_minor, parse_amount, to_minor
from payouts import words
from payouts.holds import PLACED_BY_PEOPLE
from payouts.models import HoldReason, Rail, TaxProfile
from payouts.notices import OPTIONAL
from payouts.rails import RAIL_NAMES


class MinorAmountField(forms.CharField):
    """A decimal amount of one currency, such as 1,234.56 or USD 1,234.56, as whole minor units."""

    def __init__(self, *, currency: str, **options: Any) -> None:
        self.currency = currency
        super().__init__(max_length=40, **options)
        self.widget.attrs.update({"inputmode": "decimal", "autocomplete": "off"})

    def clean(self, value: Any) -> Any:
        text = (
            str(super().clean(value) or "")
            .upper()
            .removeprefix(self.currency)
            .replace(",", "")
            .replace(" ", "")
            .strip()
        )
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
    rail = forms.ChoiceField(
        choices=[(rail.value, RAIL_NAMES[rail].capitalize()) for rail in Rail], label="Paid by", required=False,
        help_text="Contributors whom Stripe does not pay are paid by bank transfer, in a run of their own.",
    )  # fmt: skip
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

    def clean_rail(self) -> str:
        return self.cleaned_data["rail"] or Rail.STRIPE_TRANSFER.value

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


class PlaceHoldForm(forms.Form):
    """Why somebody is not paid for now, and until when."""

    reason = forms.ChoiceField(label="Reason", help_text="The contributor reads this reason in plain words.")
    note = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        label="Note for staff",
        help_text="What happened, and where the evidence is. The contributor does not see it.",
    )
    ends_on = forms.DateField(
        required=False,
        label="Ends by itself after",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="Leave it empty for a hold that a person releases.",
    )

    def __init__(self, *arguments: Any, may_list: bool, today: datetime, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.today = today
        reason = self.fields["reason"]
        assert isinstance(reason, forms.ChoiceField)
        reason.choices = [
            (name, words.spaced(name).capitalize())
            for name in sorted(PLACED_BY_PEOPLE)
            if may_list or name != HoldReason.SANCTIONS_LISTED
        ]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        day = given.get("ends_on")
        given["ends_at"] = datetime.combine(day, time.max, tzinfo=UTC) if day else None
        if day and day < self.today.date():
            self.add_error("ends_on", "A hold must end after it begins.")
        return given


class ChooseRailForm(forms.Form):
    # What the page offered: sent twice, or after somebody else's change, it asks for the same and not for the way back.
    rail = forms.ChoiceField(choices=Rail.choices, widget=forms.HiddenInput)
    reason = forms.CharField(
        max_length=500, widget=forms.Textarea(attrs={"rows": 3}), label="Why", help_text="Kept in the audit log."
    )


class TopUpForm(forms.Form):
    """How much of which currency."""

    # Of the one top-up that this page asks for.
    number = forms.UUIDField(widget=forms.HiddenInput, initial=uuid7)
    currency = forms.ChoiceField()
    amount = forms.CharField(
        max_length=40, label="Amount", help_text="For example 1,250.00.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )  # fmt: skip

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
    """How much of a transfer comes back, and why."""

    def __init__(self, *arguments: Any, currency: str, left_minor: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.left_minor = left_minor
        written = format_amount(from_minor(left_minor, currency), currency, decimals=asset(currency).exponent)
        self.fields["amount_minor"] = MinorAmountField(
            currency=currency, label=f"Amount ({currency})", initial=written,
            help_text="The whole of what is left, or a part of it.",
        )  # fmt: skip
        self.fields["reason"] = forms.CharField(
            max_length=500, widget=forms.Textarea(attrs={"rows": 3}), label="Why",
            help_text="Kept in the audit log, for whoever asks later.",
        )  # fmt: skip
        # What the page says is left, so that a form sent twice does not take a part back twice.
        self.fields["known_left"] = forms.IntegerField(widget=forms.HiddenInput, initial=left_minor)

    def clean_amount_minor(self) -> int:
        minor: int = self.cleaned_data["amount_minor"] or 0
        if not 0 < minor <= self.left_minor:
            raise forms.ValidationError("It must be more than nothing and no more than what is left of the transfer.")
        return minor


class PolicyForm(forms.Form):
    """The figures of a policy, with those in force as a start."""

    def __init__(self, *arguments: Any, currency: str, terms: dict[str, Any], **options: Any) -> None:
        super().__init__(*arguments, **options)

        def amount(name: str, label: str, text: str, *, required: bool = False) -> None:
            value = terms.get(name)
            shown = "" if value is None else format_amount(
                from_minor(value, currency), currency, decimals=asset(currency).exponent
            )  # fmt: skip
            self.fields[name] = MinorAmountField(
                currency=currency, label=f"{label} ({currency})", help_text=text, required=required, initial=shown
            )

        def days(name: str, label: str, text: str) -> None:
            self.fields[name] = forms.IntegerField(
                min_value=0, max_value=730, label=label, help_text=text, initial=terms.get(name, 0)
            )

        amount("minimum_minor", "Least payout", "Below it, an amount is carried over and shown.", required=True)
        days("maturity_days", "Days until a credit matures", "Younger credits stay for a later run.")
        amount(
            "second_approval_minor",
            "Second approver above",
            "What one approver decides alone within a day, all parts of a split run together. Empty: no limit.",
        )
        amount("approval_limit_minor", "Most that one person approves at once", "Empty: no limit.")
        amount("daily_approval_minor", "Most that one person approves in a day (UTC)", "Empty: no limit.")
        days("bank_change_days", "Days to wait after a change of bank", "Payouts to a new account wait this long.")
        days("probation_days", "Days before a first payout", "Counted from when the account became ready.")
        self.fields["requires_tax_form"] = forms.BooleanField(
            required=False, label="Nobody is paid without a valid tax form", initial=terms.get("requires_tax_form")
        )
        self.fields["reason"] = forms.CharField(
            max_length=500, widget=forms.Textarea(attrs={"rows": 3}), label="Why", help_text="For whoever decides."
        )


class DecidePolicyForm(forms.Form):
    decision = forms.ChoiceField(label="Decision", widget=forms.RadioSelect)

    def __init__(self, *arguments: Any, is_own: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        decision = self.fields["decision"]
        assert isinstance(decision, forms.ChoiceField)
        adopt = [] if is_own else [("adopt", "Adopt it: runs that are built from now on obey it")]
        decision.choices = [*adopt, ("refuse", "Withdraw it" if is_own else "Refuse it: nothing changes")]


class LinkForm(forms.Form):
    """Accounts that one person has, or that are found to be of different people."""

    accounts = forms.CharField(
        max_length=20_000, widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false"}),
        help_text="One a line, by the name that the account shows or by its number.",
    )  # fmt: skip
    reason = forms.CharField(
        max_length=600, widget=forms.Textarea(attrs={"rows": 4}), label="What was found",
        help_text="In plain words. Each of the accounts reads it, with the names of the others.",
    )  # fmt: skip

    def clean_accounts(self) -> list[Contributor]:
        lines = [line.strip() for line in self.cleaned_data["accounts"].splitlines() if line.strip()]
        return [self._account(line) for line in lines]

    def _account(self, line: str) -> Contributor:
        number = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", line.lower())
        wanted = {"public_id": number.group()} if number else {"display_name__iexact": line}
        found = list(Contributor.objects.filter(**wanted)[:2])
        if not found:
            raise forms.ValidationError(f"No account is called “{line}”. Copy its name or number from its page.")
        if len(found) > 1:
            raise forms.ValidationError(f"Several accounts are called “{line}”; give the number that its page shows.")
        return found[0]


class DifferentPeopleForm(LinkForm):
    reason = forms.CharField(
        max_length=600, widget=forms.Textarea(attrs={"rows": 4}), label="Why they are different people",
        help_text="For your colleagues and the audit log; the accounts do not read it.",
    )  # fmt: skip


class DecideLinkForm(forms.Form):
    decision = forms.ChoiceField(label="Decision", widget=forms.RadioSelect)
    # What the page was about: a link that was proposed, or its end.
    known = forms.CharField(max_length=20, widget=forms.HiddenInput)

    def __init__(self, *arguments: Any, is_own: bool, is_end: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        decision = self.fields["decision"]
        assert isinstance(decision, forms.ChoiceField)
        agree = "Agree: they count apart again" if is_end else "Agree: they count as one from now on"
        refuse = "Take it back" if is_own else "Refuse it: nothing changes"
        decision.choices = [*([] if is_own else [("agree", agree)]), ("refuse", refuse)]


class ExportForm(forms.Form):
    """When the bank is to execute the orders."""

    execution_on = forms.DateField(
        label="The bank executes on", widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )

    def __init__(self, *arguments: Any, today: date, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.today = today
        self.fields["execution_on"].initial = today

    def clean_execution_on(self) -> date:
        day: date = self.cleaned_data["execution_on"]
        if not self.today <= day <= self.today + timedelta(days=30):
            raise forms.ValidationError("Choose today or a day within the next 30 days.")
        return day


class SureForm(forms.Form):
    sure = forms.BooleanField()

    def __init__(self, *arguments: Any, label: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["sure"].label = label


class BankLinesForm(forms.Form):
    """What the bank reports, as a table."""

    file = forms.FileField(
        label="The bank's report (CSV)",
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv"}),
        help_text="The table that is offered beside this form, filled in from the bank's statement. The same file can "
        "be read again: a line counts once.",
    )


class BankDetailsForm(forms.Form):
    """The account that bank transfers go to."""

    # For whom the page was opened: another window may have chosen another contributor since.
    contributor = forms.UUIDField(widget=forms.HiddenInput)
    holder_name = forms.CharField(
        max_length=70, label="Account holder",
        help_text="As the bank writes it. It must be you or your organisation.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )  # fmt: skip
    iban = forms.CharField(
        max_length=42, label="IBAN", help_text="Spaces do not matter. Its check digits are verified at once.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )  # fmt: skip
    bic = forms.CharField(
        max_length=11, required=False, label="BIC", help_text="Only where your bank insists on it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )  # fmt: skip

    def __init__(self, *arguments: Any, acting_for: Contributor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.acting_for = acting_for
        self.fields["contributor"].initial = acting_for.public_id

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.pop("contributor", None) != self.acting_for.public_id:
            raise forms.ValidationError(
                f"This page was opened for another contributor; you act for {self.acting_for} now. Nothing was stored. "
                "Open it again for whom the account is meant."
            )
        return given


def _day(label: str, text: str = "", *, required: bool = True) -> forms.DateField:
    return forms.DateField(
        label=label, help_text=text, required=required,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )  # fmt: skip


class TaxFormForm(forms.Form):
    """What a tax form says. Which of it can be right, the operation decides."""

    form = forms.ChoiceField(
        label="Form",
        choices=[(kind.value, kind.label) for kind in TaxProfile.Form if kind != TaxProfile.Form.NONE],
        help_text="A W-9 is for residents of the United States; a W-8BEN for other persons, a W-8BEN-E for other "
        "organisations.",
    )
    country = forms.ChoiceField(
        label="Country of tax residence",
        choices=[("", "Choose a country"), *sorted(COUNTRIES.items(), key=lambda entry: entry[1])],
    )
    number = forms.CharField(
        max_length=30, required=False, label="Tax number",
        help_text="As on the form. Only its last four characters and a digest are kept. Empty where a W-8 states none.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )  # fmt: skip
    signed_on = _day("Signed on")
    received_on = _day("Received on")
    valid_until = _day(
        "Counts until", "Leave it empty for what the law says: the end of the third year after a W-8 was signed; a "
        "W-9 does not run out.", required=False,
    )  # fmt: skip
    withholding_percent = forms.DecimalField(
        min_value=0, max_value=99, decimal_places=4, label="Withhold (%)",
        help_text="Used only where the table of rates has no row for this form and country. 0 for a W-9; without a "
        "treaty a W-8 means 30.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )  # fmt: skip

    def __init__(self, *arguments: Any, contributor: Contributor, today: date, **options: Any) -> None:
        super().__init__(*arguments, **options)
        is_organisation = contributor.kind == Contributor.Kind.ORGANISATION
        w8 = TaxProfile.Form.W8BENE if is_organisation else TaxProfile.Form.W8BEN
        self.fields["form"].initial = TaxProfile.Form.W9 if contributor.country == "US" else w8
        self.fields["country"].initial = contributor.country
        self.fields["received_on"].initial = today


class NoticesForm(forms.Form):
    """Which kinds of notices come as mail."""

    wanted = forms.MultipleChoiceField(
        required=False, label="Also send me these by mail", widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        wanted = self.fields["wanted"]
        assert isinstance(wanted, forms.MultipleChoiceField)
        wanted.choices = [(name, kind.label) for name, kind in OPTIONAL.items()]


class RolesForm(forms.Form):
    roles = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple)
    reason = forms.CharField(max_length=500, widget=forms.Textarea(attrs={"rows": 2}), label="Why")
    # The roles that the page showed, so that nobody gives back what somebody else has just taken.
    known = forms.MultipleChoiceField(required=False, widget=forms.MultipleHiddenInput)

    def __init__(self, *arguments: Any, roles: Sequence[str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        for name in ("roles", "known"):
            field = self.fields[name]
            assert isinstance(field, forms.MultipleChoiceField)
            field.choices = [(role, words.spaced(role).replace("_", " ").capitalize()) for role in roles]
