"""Forms for staff about payees: holds, rails, tax forms, accounts of one person."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

from django import forms

from contributors.models import Contributor
from contributors.queries.people import called
from payouts.forms.fields import day_field
from payouts.models import HoldReason, Rail, TaxProfile
from payouts.queries.hold_reasons import PLACED_BY_PEOPLE
from people.forms.fields import TypedDecimalField
from people.presentation import codes, dates
from people.presentation.countries import COUNTRIES


class PlaceHoldForm(forms.Form):
    """The reason for not paying a contributor for now, and the end of that."""

    reason = forms.ChoiceField(label="Reason", help_text="The contributor reads this reason in plain words.")
    note = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        label="Note for staff",
        help_text="The event, and the place of the evidence. The contributor does not see it.",
    )
    ends_on = day_field("Ends by itself after", "Leave it empty for a hold that a person releases.", required=False)

    def __init__(self, *arguments: Any, may_list: bool, today: datetime, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.today = today
        reason = self.fields["reason"]
        assert isinstance(reason, forms.ChoiceField)
        reason.choices = [
            (name, codes.spaced(name).capitalize())
            for name in sorted(PLACED_BY_PEOPLE)
            if may_list or name != HoldReason.SANCTIONS_LISTED
        ]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        day = given.get("ends_on")
        given["ends_at"] = datetime.combine(day, time.max, tzinfo=dates.zone()) if day else None
        if day and day < dates.today(self.today):
            self.add_error("ends_on", "A hold must end after it begins.")
        return given


class ChooseRailForm(forms.Form):
    # The rail that the page offered. Sent twice, or after somebody else's change, the form asks for the same rail and
    # not for the way back.
    rail = forms.ChoiceField(choices=Rail.choices, widget=forms.HiddenInput)
    reason = forms.CharField(
        max_length=500, widget=forms.Textarea(attrs={"rows": 3}), label="Why", help_text="Kept in the audit log."
    )


class TaxFormForm(forms.Form):
    """The values of a tax form. The operation decides which of them can be right."""

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
        max_length=30,
        required=False,
        label="Tax number",
        help_text="As on the form. Only its last four characters and a digest are kept. Empty where a W-8 states none.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    signed_on = day_field("Signed on")
    received_on = day_field("Received on")
    valid_until = day_field(
        "Counts until",
        "Leave it empty for the term of the law: the end of the third year after a W-8 was signed; a "
        "W-9 does not run out.",
        required=False,
    )
    withholding_percent = TypedDecimalField(
        min_value=0,
        max_value=99,
        decimal_places=4,
        label="Withhold (%)",
        help_text="Used only where the table of rates has no row for this form and country. 0 for a W-9; without a "
        "treaty a W-8 means 30.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )

    def __init__(self, *arguments: Any, contributor: Contributor, today: date, **options: Any) -> None:
        super().__init__(*arguments, **options)
        is_organisation = contributor.kind == Contributor.Kind.ORGANISATION
        w8 = TaxProfile.Form.W8BENE if is_organisation else TaxProfile.Form.W8BEN
        self.fields["form"].initial = TaxProfile.Form.W9 if contributor.country == "US" else w8
        self.fields["country"].initial = contributor.country
        self.fields["received_on"].initial = today


class LinkForm(forms.Form):
    """Accounts that one person has, or that are found to be of different people."""

    accounts = forms.CharField(
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false"}),
        help_text="One a line, by the name that the account shows or by its number.",
    )
    reason = forms.CharField(
        max_length=600,
        widget=forms.Textarea(attrs={"rows": 4}),
        label="What was found",
        help_text="In plain words. Each of the accounts reads it, with the names of the others.",
    )

    def clean_accounts(self) -> list[Contributor]:
        lines = [line.strip() for line in self.cleaned_data["accounts"].splitlines() if line.strip()]
        return [self._account(line) for line in lines]

    def _account(self, line: str) -> Contributor:
        found = called(line)
        if not found:
            raise forms.ValidationError(f"No account is called “{line}”. Copy its name or number from its page.")
        if len(found) > 1:
            raise forms.ValidationError(f"Several accounts are called “{line}”; give the number that its page shows.")
        return found[0]


class DifferentPeopleForm(LinkForm):
    reason = forms.CharField(
        max_length=600,
        widget=forms.Textarea(attrs={"rows": 4}),
        label="Why they are different people",
        help_text="For your colleagues and the audit log; the accounts do not read it.",
    )
