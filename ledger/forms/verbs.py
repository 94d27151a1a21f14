"""The form of a business verb: the fields that its row of the table asks for, then its reference and a note."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms

from attribution.models import ModelService
from contributors.models import Contributor, Work
from ledger.forms.fields import _named
from ledger.money import ASSETS, UnableToParseAmount
from ledger.operations.verb_proposals import NOTE_CHARACTERS_MAX, REFERENCE_CHARACTERS_MAX
from ledger.operations.verbs import Verb
from ledger.typed_amounts import units_of_typed
from people.presentation import amounts
from people.presentation.countries import COUNTRIES
from people.presentation.typed import UnableToReadNumber, plain_decimal

_CURRENCIES = [(code, code) for code in ASSETS]
_AMOUNT: dict[str, Any] = {"max_length": 40}
# Fact -> its field. A party is named as on its page, or by its number.
FIELDS: dict[str, Callable[[], forms.Field]] = {
    "service": lambda: forms.CharField(label="Model service", max_length=200, help_text="Its name or number."),
    "contributor_id": lambda: forms.CharField(
        label="Contributor", max_length=200, help_text="The name as on their statements, or the number."
    ),
    "work_id": lambda: forms.CharField(label="Work", max_length=300, help_text="Its title or number."),
    "jurisdiction": lambda: forms.CharField(
        max_length=2, help_text="Two letters, such as DE or US: the state that the tax is owed to."
    ),
    "tax_kind": lambda: forms.ChoiceField(
        label="Tax", choices=[("withholding", "Withheld from payees"), ("sales", "Sales tax of invoices")]
    ),
    "currency": lambda: forms.ChoiceField(choices=_CURRENCIES),
    "amount": lambda: forms.CharField(**_AMOUNT, help_text="Such as 1250.00."),
    "tax": lambda: forms.CharField(**_AMOUNT, required=False, help_text="Added to the invoice; empty for none."),
    "payable": lambda: forms.ChoiceField(
        label="Out of", choices=[("yes", "The payable balance"), ("no", "This month's earnings, not payable yet")]
    ),
    "awards": lambda: forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One contributor a line, with the amount: “Ada Lovelace: 120.00”.",
    ),
    "into": lambda: forms.ChoiceField(label="Into the currency", choices=_CURRENCIES),
    "rate": lambda: forms.CharField(max_length=30, help_text="Units of the new currency for one of the old: 0.9214."),
    "source": lambda: forms.CharField(
        label="Source of the rate", max_length=50, help_text="Such as “ECB 2026-11-20”. It stands on the entry."
    ),
}


class VerbForm(forms.Form):
    """Clean the facts of one verb: amounts in units, parties found. `facts()` returns the operation's input."""

    def __init__(self, *args: Any, verb: Verb, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verb = verb
        for name in verb.facts:
            self.fields[name] = FIELDS[name]()
        if "tax" in verb.facts:
            self.fields["jurisdiction"].required = False
        self.fields["reference"] = forms.CharField(
            label=verb.reference, max_length=REFERENCE_CHARACTERS_MAX, help_text=verb.reference_help
        )
        self.fields["note"] = forms.CharField(
            required=False, max_length=NOTE_CHARACTERS_MAX, help_text="For the approver."
        )

    def clean_service(self) -> ModelService:
        found: ModelService = _named(ModelService.objects.all(), "name", self.cleaned_data["service"], "model service")
        return found

    def clean_contributor_id(self) -> int:
        return _contributor(self.cleaned_data["contributor_id"])

    def clean_work_id(self) -> int:
        return int(_named(Work.objects.all(), "title", self.cleaned_data["work_id"], "work").pk)

    def clean_jurisdiction(self) -> str:
        code = str(self.cleaned_data["jurisdiction"]).strip().upper()
        if code and code not in COUNTRIES:
            raise forms.ValidationError(f"“{code}” is not an ISO 3166 code of a country, such as DE or US.")
        return code

    def clean_payable(self) -> bool:
        return bool(self.cleaned_data["payable"] == "yes")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        currency = cleaned.get("currency")
        if currency is None:
            return cleaned
        for name in {"amount", "tax"} & cleaned.keys():
            try:
                cleaned[name] = _units(cleaned[name], currency) if cleaned[name].strip() else 0
            except forms.ValidationError as error:
                self.add_error(name, error)
        if "awards" in cleaned:
            try:
                cleaned["awards"] = _awards(cleaned["awards"], currency)
            except forms.ValidationError as error:
                self.add_error("awards", error)
        if cleaned.get("tax") and "jurisdiction" in cleaned and not cleaned["jurisdiction"]:
            self.add_error("jurisdiction", "Tax names the jurisdiction that it is owed to.")
        return cleaned

    def amounts_in_words(self) -> list[tuple[str, str]]:
        """Name every typed amount as it was read, for a second look; nothing for a verb that takes none."""
        cleaned = self.cleaned_data
        currency = ASSETS[cleaned["currency"]]
        typed = [(name, cleaned.get(name)) for name in ("amount", "tax")]
        found = [(name.capitalize(), amounts.text(units, currency)) for name, units in typed if units]
        if "rate" in self.verb.asks:
            found.append(("Rate", f"{cleaned['rate']} {cleaned['into']} for one {cleaned['currency']}"))
        names = Contributor.objects.in_bulk(cleaned.get("awards", {}))
        return found + [
            (str(names[number]), amounts.text(units, currency)) for number, units in cleaned.get("awards", {}).items()
        ]

    def clean_rate(self) -> str:
        try:
            return plain_decimal(self.cleaned_data["rate"])
        except UnableToReadNumber as error:
            raise forms.ValidationError(str(error)) from error

    def facts(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in self.verb.facts}


def _contributor(text: str) -> int:
    return int(_named(Contributor.objects.all(), "display_name", text, "contributor").pk)


def _units(text: str, currency: str) -> int:
    """Read an amount above zero. Raises ValidationError."""
    try:
        units = units_of_typed(text, currency)
    except UnableToParseAmount as error:
        raise forms.ValidationError(str(error)) from error
    if units <= 0:
        raise forms.ValidationError("An amount is above zero.")
    return units


def _awards(text: str, currency: str) -> dict[int, int]:
    awards: dict[int, int] = {}
    for line in filter(str.strip, text.splitlines()):
        name, colon, amount = line.rpartition(":")
        if not colon:
            raise forms.ValidationError(f"“{line.strip()}” is no name and amount, such as “Ada Lovelace: 120.00”.")
        number = _contributor(name)
        if number in awards:
            raise forms.ValidationError(f"“{name.strip()}” stands in two lines; make one of them.")
        awards[number] = _units(amount, currency)
    return awards
