"""The roles of a member of staff."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms

from people.presentation import codes


class RolesForm(forms.Form):
    roles = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple)
    reason = forms.CharField(max_length=500, widget=forms.Textarea(attrs={"rows": 2}), label="Why")
    # The roles that the page showed, so that nobody gives back a role that another person has just taken.
    known = forms.MultipleChoiceField(required=False, widget=forms.MultipleHiddenInput)

    def __init__(self, *arguments: Any, roles: Sequence[str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        for name in ("roles", "known"):
            field = self.fields[name]
            assert isinstance(field, forms.MultipleChoiceField)
            field.choices = [(role, codes.spaced(role).capitalize()) for role in roles]
