"""The form in which staff lead a gateway's name of a model to a model version."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django import forms

from attribution.models import ModelName, ModelService, ModelVersion
from attribution.operations.model_names import PATTERN_CHARACTERS_MAX


class ModelNameForm(forms.Form):
    pattern = forms.CharField(
        label="Name",
        max_length=PATTERN_CHARACTERS_MAX,
        help_text="As the gateway writes it: gpt-4o, or openai/gpt-4o.",
    )
    kind = forms.ChoiceField(
        label="Covers",
        choices=ModelName.Kind.choices,
        initial=ModelName.Kind.EXACT,
        help_text="An exact name counts before a beginning.",
    )
    model_version = forms.ModelChoiceField(queryset=ModelVersion.objects.none(), empty_label=None)
    begins_at = forms.DateTimeField(
        label="For generations from",
        required=False,
        help_text="UTC, as 2026-11-30 14:00. Empty: from the beginning, or from the end of this name's last entry.",
    )

    def __init__(self, service: ModelService, data: Any = None, *, pattern: str = "") -> None:
        super().__init__(data, initial={"pattern": pattern} if pattern else None)
        versions = ModelVersion.objects.filter(service=service).exclude(state=ModelVersion.State.RETIRED)
        field = self.fields["model_version"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = versions.order_by("-pk")

    def clean_begins_at(self) -> Any:
        found = self.cleaned_data["begins_at"]
        return found.astimezone(UTC) if found else None
