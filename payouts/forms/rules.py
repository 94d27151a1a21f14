"""Payout policies."""

from __future__ import annotations

from typing import Any

from django import forms

from ledger.typed_amounts import typed_of_minor
from payouts.forms.fields import MinorAmountField
from people.forms.fields import TypedIntegerField


class PolicyForm(forms.Form):
    """The figures of a policy, with those in force as a start."""

    def __init__(self, *arguments: Any, currency: str, terms: dict[str, Any], **options: Any) -> None:
        super().__init__(*arguments, **options)

        def amount(name: str, label: str, text: str, *, required: bool = False) -> None:
            value = terms.get(name)
            shown = "" if value is None else typed_of_minor(value, currency)
            self.fields[name] = MinorAmountField(
                currency=currency, label=f"{label} ({currency})", help_text=text, required=required, initial=shown
            )

        def days(name: str, label: str, text: str) -> None:
            self.fields[name] = TypedIntegerField(
                min_value=0, max_value=730, label=label, help_text=text, initial=terms.get(name, 0)
            )

        amount("minimum_minor", "Minimum payout", "Below it, an amount is carried over and shown.", required=True)
        days("maturity_days", "Days until a credit matures", "Younger credits stay for a later run.")
        amount(
            "second_approval_minor",
            "Second approver above",
            "The most that one approver decides alone within a day, all parts of a split run together. Empty: "
            "no limit.",
        )
        amount("approval_limit_minor", "Approval limit per person and run", "Empty: no limit.")
        amount("daily_approval_minor", "Daily approval limit per person (UTC)", "Empty: no limit.")
        days("bank_change_days", "Days to wait after a change of bank", "Payouts to a new account wait this long.")
        days("probation_days", "Days before a first payout", "Counted from when the account became ready.")
        self.fields["requires_tax_form"] = forms.BooleanField(
            required=False, label="Nobody is paid without a valid tax form", initial=terms.get("requires_tax_form")
        )
        self.fields["reason"] = forms.CharField(
            max_length=500, widget=forms.Textarea(attrs={"rows": 3}), label="Why", help_text="For whoever decides."
        )
