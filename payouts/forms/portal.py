"""Forms for a contributor: the threshold, the account, and the mails."""

from __future__ import annotations

from typing import Any

from django import forms

from contributors.models import Contributor
from payouts.forms.fields import MinorAmountField
from payouts.operations.notice_kinds import OPTIONAL


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


class BankDetailsForm(forms.Form):
    """The account that bank transfers go to."""

    # The contributor that the page was opened for: another window may have chosen another contributor since.
    contributor = forms.UUIDField(widget=forms.HiddenInput)
    holder_name = forms.CharField(
        max_length=70,
        label="Account holder",
        help_text="As the bank writes it. It must be you or your organisation.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    iban = forms.CharField(
        max_length=42,
        label="IBAN",
        help_text="Spaces do not matter. Its check digits are verified at once.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    bic = forms.CharField(
        max_length=11,
        required=False,
        label="BIC",
        help_text="Only where your bank insists on it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, *arguments: Any, acting_for: Contributor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.acting_for = acting_for
        self.fields["contributor"].initial = acting_for.public_id

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.pop("contributor", None) != self.acting_for.public_id:
            raise forms.ValidationError(
                f"This page was opened for another contributor; you act for {self.acting_for} now. Nothing was stored. "
                "Open it again for the account's real owner."
            )
        return given


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
