"""The form of a manual entry and its lines."""

from __future__ import annotations

from typing import Any

from django import forms

from attribution.models import ModelService
from contributors.models import Contributor
from ledger.forms.fields import _named
from ledger.journal import CHART, AccountKey
from ledger.money import ASSETS, UnableToParseAmount
from ledger.operations.manual import BY_HAND, LINES_MAX
from ledger.typed_amounts import units_of_typed
from people.presentation import amounts


# --- entries by hand ----------------------------------------------------------------------------------------------
class ManualEntryForm(forms.Form):
    reason = forms.CharField(max_length=300, help_text="Why no operation posts it. The approver reads this.")
    reference = forms.CharField(max_length=200, help_text="The evidence: a letter, a ticket, the bank's reference.")
    currency = forms.ChoiceField(choices=[(code, code) for code in ASSETS])


class ManualLineForm(forms.Form):
    """One line of an entry by hand; an empty one is left out."""

    kind = forms.ChoiceField(
        label="Account", required=False, choices=[("", "–"), *((kind, kind.replace("_", " ")) for kind in BY_HAND)]
    )
    owner = forms.CharField(label="Whose", required=False, max_length=100)
    side = forms.ChoiceField(choices=[("debit", "Debit"), ("credit", "Credit")])
    amount = forms.CharField(required=False, max_length=40)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if bool(cleaned.get("kind")) != bool(cleaned.get("amount", "").strip()):
            self.add_error("amount" if cleaned.get("kind") else "kind", "A line has an account and an amount.")
        return cleaned

    def line(self, currency: str) -> tuple[AccountKey, int] | None:
        """The line, or None for one that was left empty. Raises ValidationError for an owner or amount that is none."""
        cleaned = self.cleaned_data
        if not cleaned["kind"]:
            return None
        kind, text = cleaned["kind"], cleaned["owner"].strip()
        word = CHART[kind].owner
        if bool(text) != bool(word):
            whose = f"Name its owner: a {word}." if word else "This account is the programme's own; leave this empty."
            raise forms.ValidationError({"owner": whose})
        try:
            if word == "contributor":
                text = str(_named(Contributor.objects.all(), "display_name", text, word).pk)
            elif word == "service":
                text = str(_named(ModelService.objects.all(), "name", text, word).pk)
        except forms.ValidationError as error:
            raise forms.ValidationError({"owner": error.messages}) from error
        try:
            units = units_of_typed(cleaned["amount"], currency)
        except UnableToParseAmount as error:
            raise forms.ValidationError({"amount": str(error)}) from error
        if units <= 0:
            raise forms.ValidationError({"amount": "An amount is above zero; the side says which way it goes."})
        owner = f"{word}:{text}" if word else ""
        return AccountKey(kind, currency, owner), units if cleaned["side"] == "credit" else -units


def lines_in_words(lines: Any, currency: str) -> list[tuple[str, str]]:
    """Each filled-in line as it was read, for a second look: "Debit programme cost", "EUR 5.00"."""
    found = []
    for line in lines:
        if one := line.line(currency):
            side = "Credit" if one[1] > 0 else "Debit"
            whose = f" of {line.cleaned_data['owner'].strip()}" if one[0].owner else ""
            account = f"{side} {one[0].kind.replace('_', ' ')}{whose}"
            found.append((account, amounts.text(abs(one[1]), ASSETS[currency])))
    return found


ManualLines = forms.formset_factory(ManualLineForm, extra=4, max_num=LINES_MAX)
