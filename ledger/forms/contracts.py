"""Forms for contracts, their terms and advances."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django import forms

from attribution.models import ModelService
from contributors.models import Contributor
from ledger.forms.fields import PercentField, _named
from ledger.money import ASSETS, UnableToParseAmount
from ledger.typed_amounts import units_of_typed
from people.forms.fields import TypedIntegerField
from people.presentation import amounts, percent
from people.presentation.percent import PER_CENT_PPB
from people.presentation.typed import UnableToReadNumber, plain_decimal

_MONTHS = re.compile("[0-9]{1,4}")


# --- contracts ----------------------------------------------------------------------------------------------------
class ContractForm(forms.Form):
    contributor = forms.CharField(max_length=200, help_text="The contributor's name as on their statements, or number.")
    title = forms.CharField(max_length=200, help_text="Such as “Agreement of 3 March 2026 on the collected essays”.")
    code = forms.SlugField(
        max_length=60, help_text="A short name that stands in the journal, such as essays-2026. It never changes."
    )

    def clean_contributor(self) -> Contributor:
        found: Contributor = _named(
            Contributor.objects.all(), "display_name", self.cleaned_data["contributor"], "contributor"
        )
        return found


class TermsForm(forms.Form):
    """A version of a contract's terms. `terms()` is the operation's input."""

    effective_from = forms.ChoiceField(label="From the month", help_text="Months before it keep their terms.")
    covers = forms.ChoiceField(
        label="Scope of the contract",
        choices=[
            ("rest", "Everything that no other contract of the contributor covers, the base pool included"),
            ("holders", "Only earnings through the holders ticked below"),
            ("nothing", "Nothing (this ends the contract, or it only carries an advance)"),
        ],
        widget=forms.RadioSelect,
    )
    holders = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple)
    guarantee = forms.CharField(
        required=False, max_length=40, help_text="The least that a month brings, such as 250.00; empty for none."
    )
    guarantee_currency = forms.ChoiceField(choices=[(code, code) for code in ASSETS])
    guarantee_payer = forms.ChoiceField(
        label="Guarantee paid by", help_text="A model service is billed for it with its next invoice."
    )
    recoup_order = TypedIntegerField(
        label="Place in the recoupment order",
        min_value=0,
        max_value=1000,
        initial=100,
        help_text="Advances are earned back in this order, lower first; in one place, the oldest first.",
    )
    recoup_group = forms.CharField(
        label="Cross-collateral group",
        required=False,
        max_length=60,
        help_text="Contracts of one group may earn back each other's advances.",
    )
    cross_recoup = forms.BooleanField(
        label="Other contracts of the group earn back this one's advances", required=False
    )
    reserve = PercentField(
        label="Reserve, per cent",
        required=False,
        help_text="The part of the rest held back at each close; empty for none.",
    )
    schedule = forms.CharField(
        label="Release of the reserve",
        required=False,
        max_length=200,
        help_text="Months after the close and per cent, such as “6: 50, 12: 50”. The parts sum to 100.",
    )
    note = forms.CharField(required=False, max_length=300)

    def __init__(
        self,
        *args: Any,
        months: Sequence[tuple[str, str]],
        holders: Sequence[tuple[str, str]],
        services: Sequence[tuple[str, str]],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        for name, choices in {
            "effective_from": months,
            "holders": holders,
            "guarantee_payer": [("programme", "The programme"), *services],
        }.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = list(choices)

    def clean_schedule(self) -> list[tuple[int, int]]:
        parts = [part for part in self.cleaned_data["schedule"].split(",") if part.strip()]
        schedule = []
        for part in parts:
            months, _, typed = part.partition(":")
            try:
                # Per cent stay below a thousand, so that a mark before three digits is a decimal mark.
                ppb = Decimal(plain_decimal(typed.strip().removesuffix("%"), thousandths=True)) * PER_CENT_PPB
            except UnableToReadNumber:
                ppb = Decimal(-1)
            if not _MONTHS.fullmatch(months.strip()) or ppb < 0 or ppb != int(ppb):
                raise forms.ValidationError(
                    f"“{part.strip()}” is not months and per cent, such as 6: 50. Per cent have a point and at most "
                    "seven decimals."
                )
            schedule.append((int(months), int(ppb)))
        return schedule

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("covers") == "holders" and not cleaned.get("holders"):
            self.add_error("holders", "Tick at least one holder.")
        if text := cleaned.get("guarantee", "").strip():
            try:
                cleaned["guarantee_units"] = units_of_typed(text, cleaned["guarantee_currency"])
            except UnableToParseAmount as error:
                self.add_error("guarantee", str(error))
        return cleaned

    def facts(self) -> list[tuple[str, str]]:
        """Name the guarantee and the percentages as they were read, for a second look."""
        cleaned, found = self.cleaned_data, []
        if units := cleaned.get("guarantee_units"):
            found.append(("Guarantee", amounts.text(units, ASSETS[cleaned["guarantee_currency"]])))
        if cleaned["reserve"]:
            found.append(("Reserve", percent.text(cleaned["reserve"])))
            found += [(f"Released after {months} months", percent.text(ppb)) for months, ppb in cleaned["schedule"]]
        return found

    def terms(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        units = cleaned.get("guarantee_units", 0)
        payer = cleaned["guarantee_payer"]
        return {
            "covers_rest": cleaned["covers"] == "rest",
            "holder_ids": [int(holder) for holder in cleaned["holders"]] if cleaned["covers"] == "holders" else [],
            "guarantee": units,
            "guarantee_currency": cleaned["guarantee_currency"] if units else "",
            "guarantee_payer": "service" if units and payer != "programme" else "programme",
            "guarantee_service": ModelService.objects.get(pk=payer) if units and payer != "programme" else None,
            "recoup_order": cleaned["recoup_order"],
            "recoup_group": cleaned["recoup_group"].strip(),
            "cross_recoup": cleaned["cross_recoup"],
            "reserve_ppb": cleaned["reserve"],
            "release_months": [months for months, _ in cleaned["schedule"]] if cleaned["reserve"] else [],
            "release_ppb": [ppb for _, ppb in cleaned["schedule"]] if cleaned["reserve"] else [],
            "note": cleaned["note"].strip(),
        }


class AdvanceForm(forms.Form):
    """An advance under a contract. Cleans `amount` to units of the currency."""

    amount = forms.CharField(max_length=40, help_text="Such as 5000.00; a payout pays it, in whole cents.")
    currency = forms.ChoiceField(choices=[(code, code) for code in ASSETS])
    reason = forms.CharField(max_length=300, help_text="Why it is paid. The approver reads this.")
    reference = forms.CharField(max_length=200, help_text="The evidence: a clause of the contract, a letter.")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if text := cleaned.get("amount", "").strip():
            try:
                cleaned["amount"] = units_of_typed(text, cleaned["currency"])
            except UnableToParseAmount as error:
                self.add_error("amount", str(error))
            except KeyError:
                pass
        return cleaned
