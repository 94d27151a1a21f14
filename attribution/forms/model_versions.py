"""Forms in which staff register a model version and hand over its manifest."""

from __future__ import annotations

from typing import Any

from django import forms

from attribution.models import ModelService, ModelVersion
from attribution.operations.factories import known_adapters, known_factories
from attribution.queries.model_versions import checkpoints_of
from contributors.models import Consent

NONE = ""


class RegisterVersionForm(forms.Form):
    """A model version, with a checkpoint that lies in the store: large files come by the API or a command."""

    name = forms.CharField(max_length=100, help_text="Letters, digits and . _ : - without a slash.")
    adapter = forms.ChoiceField(label="Kind of model", help_text="The model is loaded at once; a wrong kind is named.")
    factory = forms.ChoiceField(label="Loaded by", help_text="The factory that reads the checkpoint.")
    purpose = forms.ChoiceField(
        choices=Consent.Scope.choices,
        initial=Consent.Scope.TRAIN_GENERATIVE,
        help_text="Every work of its manifest needs consent to this use.",
    )
    checkpoint = forms.ChoiceField(required=False, help_text="Uploads of this service, the newest first.")
    checkpoint_sha256 = forms.RegexField(
        r"^[0-9a-f]{64}$",
        required=False,
        label="Or the digest of a directory in the store",
        error_messages={"invalid": "A digest has 64 hexadecimal digits in small letters."},
    )
    training_started_at = forms.DateTimeField(
        required=False, label="Training began (UTC)", help_text="Where it is given, consent must hold from then on."
    )
    trained_at = forms.DateTimeField(label="Training ended (UTC)", help_text="As 2026-10-02 17:30.")
    base_model = forms.CharField(max_length=200, required=False, help_text="The model that training began with.")
    licence = forms.CharField(max_length=200, required=False)

    def __init__(self, service: ModelService, data: Any = None) -> None:
        super().__init__(data)
        for name, values in (("adapter", known_adapters()), ("factory", known_factories())):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [(value, value) for value in sorted(values)]
        field = self.fields["checkpoint"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(NONE, "None: a pushed model without features, or the digest below"), *checkpoints_of(service)]

    def digest(self) -> str | None:
        """Return the digest of the chosen checkpoint; None for a version without one."""
        return self.cleaned_data["checkpoint"] or self.cleaned_data["checkpoint_sha256"] or None


class ManifestForm(forms.Form):
    manifest = forms.FileField(help_text="JSON lines (.jsonl), or Parquet (.parquet): one line for each training item.")


class SupersedeForm(forms.Form):
    successor: forms.ModelChoiceField[ModelVersion] = forms.ModelChoiceField(
        queryset=None,
        required=False,
        to_field_name="public_id",
        empty_label="No other version",
        label="Version in its place",
    )

    def __init__(self, candidates: Any, data: Any = None) -> None:
        super().__init__(data)
        field = self.fields["successor"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = candidates
