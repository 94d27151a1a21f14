"""The form in which finance staff correct one generation."""

from __future__ import annotations

from typing import Any

from django import forms

from ledger.models import Void
from ledger.operations.corrections import REASON_CHARACTERS_MAX


class RestateOneForm(forms.Form):
    reason = forms.CharField(
        label="Why it is attributed again",
        max_length=REASON_CHARACTERS_MAX,
        help_text="The approver reads this. It stays on record.",
    )

    def __init__(self, data: Any = None) -> None:
        # Both forms stand on one page.
        super().__init__(data, auto_id="restate_%s")


class VoidForm(forms.Form):
    reason = forms.ChoiceField(
        label="Why it should not count", choices=[(value, label.capitalize()) for value, label in Void.Reason.choices]
    )
    detail = forms.CharField(
        label="In your own words",
        max_length=REASON_CHARACTERS_MAX,
        help_text="The person who asked for it, and the reason that the service did not. Contributors "
        "read it on their receipts.",
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="void_%s")
