"""Forms for a contributor: the threshold, the account, and the mails."""

from __future__ import annotations

from typing import Any

from django import forms

from contributors.models import Contributor
from payouts.forms.fields import MinorAmountField
from payouts.operations import banks
from payouts.operations.notice_kinds import OPTIONAL
from payouts.rails import transfers
from payouts.rails.bank import numbers, pain
from people.presentation.countries import COUNTRIES


class ThresholdForm(forms.Form):
    """The sum from which on a contributor wants to be paid."""

    def __init__(self, *arguments: Any, currency: str, least_text: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["minimum_minor"] = MinorAmountField(
            currency=currency,
            label=f"Pay me from this amount on ({currency})",
            help_text=f"The programme's own minimum is {least_text}; a lower figure changes nothing. "
            "A higher one means fewer, larger payouts. A lower sum is carried over, always shown, never lost.",
        )


_PLAIN = {"autocomplete": "off", "spellcheck": "false"}
_ADDRESS = (
    ("street", "Street", "Your own address, not that of your bank. Transfers to most countries name it."),
    ("building", "House number", ""),
    ("post_code", "Postal code", ""),
    ("town", "Town", ""),
)


class BankDetailsForm(forms.Form):
    """The account that bank transfers go to: by its IBAN, or by the local number of `country` where `by_iban` is
    False."""

    # The contributor that the page was opened for: another window may have chosen another contributor since.
    contributor = forms.UUIDField(widget=forms.HiddenInput)
    account_country = forms.CharField(max_length=2, required=False, widget=forms.HiddenInput)
    by = forms.CharField(max_length=5, required=False, widget=forms.HiddenInput)
    holder_name = forms.CharField(
        max_length=70,
        label="Account holder",
        help_text="As the bank writes it. It must be you or your organisation.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )

    def __init__(
        self, *arguments: Any, acting_for: Contributor, country: str = "", by_iban: bool = True, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.acting_for, self.country, self.by_iban = acting_for, country, by_iban
        self.fields["contributor"].initial = acting_for.public_id
        self.fields["account_country"].initial, self.fields["by"].initial = country, "iban" if by_iban else "local"
        if by_iban:
            self.fields["iban"] = forms.CharField(
                max_length=42,
                label="IBAN",
                help_text="Spaces do not matter. Its check digits are verified at once.",
                widget=forms.TextInput(attrs=_PLAIN),
            )
        else:
            for field in numbers.FORMATS[country].fields:
                self.fields[field.name] = _field_of(field)
        needs_bic = not by_iban and numbers.FORMATS[country].needs_bic
        self.fields["bic"] = forms.CharField(
            max_length=11,
            required=needs_bic,
            label="BIC",
            help_text="The code of your bank, of 8 or 11 letters and digits."
            if needs_bic
            else "Needed for an IBAN outside the European Economic Area, where we do not know your bank.",
            widget=forms.TextInput(attrs=_PLAIN),
        )
        wants_address = transfers.wants_address(country)
        for name, label, help_text in _ADDRESS:
            self.fields[name] = forms.CharField(
                max_length=banks.ADDRESS_MAX[name],
                required=wants_address and name == "town",
                label=label,
                help_text=help_text,
            )
        self.fields["address_country"] = forms.ChoiceField(
            choices=[("", "–"), *sorted(COUNTRIES.items(), key=lambda entry: entry[1])],
            required=wants_address,
            label="Country of your address",
            initial=acting_for.country if wants_address else "",
        )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.pop("contributor", None) != self.acting_for.public_id:
            raise forms.ValidationError(
                f"This page was opened for another contributor; you act for {self.acting_for} now. Nothing was stored. "
                "Open it again for the account's real owner."
            )
        named: dict[str, Any] = {name: given[name] for name in ("holder_name", "iban", "bic") if name in given}
        if given.get("town") or given.get("address_country"):
            named["address"] = pain.Address(
                country=given.get("address_country", ""), **{name: given.get(name, "") for name, _, _ in _ADDRESS}
            )
        if self.by_iban or self.errors:
            return named
        try:
            return {**named, "local": numbers.checked(self.country, given)}
        except numbers.UnableToReadNumber as error:
            self.add_error(error.field or None, str(error))
            return named


def _field_of(field: numbers.Field) -> forms.Field:
    if field.choices:
        return forms.ChoiceField(label=field.label, choices=field.choices)
    return forms.CharField(max_length=40, label=field.label, help_text=field.help, widget=forms.TextInput(attrs=_PLAIN))


class NoticesForm(forms.Form):
    """The kinds of notices that come as mail."""

    wanted = forms.MultipleChoiceField(
        required=False, label="Also send me these by mail", widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        wanted = self.fields["wanted"]
        assert isinstance(wanted, forms.MultipleChoiceField)
        wanted.choices = [(name, kind.label) for name, kind in OPTIONAL.items()]
