"""The form in which staff record the mandate of an organisation that registers works for many."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms

from contributors.models import Consent, Contributor


class RecordMandateForm(forms.Form):
    organisation = forms.CharField(max_length=200, help_text="As it signed the mandate.")
    contributors = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4}), help_text="The ids of the contributors that it acts for, one a line."
    )
    uses = forms.MultipleChoiceField(
        choices=Consent.Scope.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="May consent to",
        help_text="Only these uses. None: it registers works and states no consent.",
    )
    evidence = forms.CharField(max_length=300, help_text="The place of the signed document.")
    evidence_sha256 = forms.RegexField(
        r"^[0-9a-f]{64}$",
        label="sha256 of the document",
        error_messages={"invalid": "A digest has 64 hexadecimal digits in small letters."},
    )
    valid_from = forms.DateTimeField(label="Holds from (UTC)")
    valid_to = forms.DateTimeField(label="Holds to (UTC)", required=False)

    def clean_contributors(self) -> list[Contributor]:
        found: dict[uuid.UUID, Contributor] = {}
        for line in filter(None, map(str.strip, self.cleaned_data["contributors"].splitlines())):
            try:
                contributor = Contributor.objects.filter(public_id=uuid.UUID(line)).first()
            except ValueError:
                contributor = None
            if contributor is None:
                raise forms.ValidationError(f"There is no contributor {line}.")
            found[contributor.public_id] = contributor
        return list(found.values())

    def given(self) -> dict[str, Any]:
        """Return the arguments of the operation."""
        return dict(self.cleaned_data)
