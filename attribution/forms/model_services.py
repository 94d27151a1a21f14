"""Forms in which staff describe model services and their keys."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms

from attribution.models import AttributionIndex, ModelVersion, ServiceKey
from influence.index.config import NODES_MAX, IndexConfig
from people.forms.fields import TypedFloatField, TypedIntegerField

EXPLAINED = {
    ServiceKey.Scope.GENERATIONS_WRITE: "Report generations",
    ServiceKey.Scope.GENERATIONS_READ: "Read receipts and model versions",
    ServiceKey.Scope.MODELS_WRITE: "Register model versions, their manifests, indexes and evaluations",
    ServiceKey.Scope.FEATURES_WRITE: "Report features that the service computed itself",
    ServiceKey.Scope.WEBHOOKS_WRITE: "Register webhook endpoints and read their deliveries",
    ServiceKey.Scope.USAGE_READ: "Read usage, balance and invoices",
    ServiceKey.Scope.WORKS_READ: "Read works with consent, and the feed of consents",
    ServiceKey.Scope.WORKS_WRITE: "Register works for contributors, under a mandate",
}
LIFETIMES = {"30": "30 days", "90": "90 days", "365": "1 year", "": "Until revoked"}
OVERLAPS = {"0": "No overlap: the old key ends now", "1": "1 day", "7": "7 days", "30": "30 days"}


class RegisterServiceForm(forms.Form):
    name = forms.CharField(max_length=100, help_text="As it will stand on receipts.")


class RetentionForm(forms.Form):
    days = TypedIntegerField(
        label="Days from the report",
        min_value=1,
        max_value=3650,
        required=False,
        help_text="Then prompts, outputs and media of attributed generations are deleted for good. Empty: they are "
        "kept without an end.",
    )


class IssueKeyForm(forms.Form):
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, f"{words} ({scope.value})") for scope, words in EXPLAINED.items()],
        widget=forms.CheckboxSelectMultiple,
        help_text="Give a key no more than its caller needs.",
    )
    lifetime_days = forms.ChoiceField(label="Valid for", choices=list(LIFETIMES.items()), required=False, initial="365")

    def expires_at(self, at: datetime) -> datetime | None:
        days = self.cleaned_data["lifetime_days"]
        return at + timedelta(days=int(days)) if days else None


class RotateKeyForm(forms.Form):
    overlap_days = forms.ChoiceField(
        label="The old key goes on for",
        choices=list(OVERLAPS.items()),
        initial="7",
        help_text="Long enough for every caller to change over.",
    )

    def overlap(self) -> timedelta:
        return timedelta(days=int(self.cleaned_data["overlap_days"]))


def key_form(data: Any = None) -> IssueKeyForm:
    """The form with the scopes that nearly every service needs ticked."""
    usual = [ServiceKey.Scope.GENERATIONS_WRITE.value, ServiceKey.Scope.GENERATIONS_READ.value]
    return IssueKeyForm(data, initial={"scopes": usual, "lifetime_days": "365"})


# --- indexes --------------------------------------------------------------------------------------------------------
# The attributors for each adapter; any other adapter is one of a model with gradients and no wording.
ATTRIBUTORS = {
    "causal_lm": ("midpoint", "hybrid", "lexical"),
    "encoder": ("encoder",),
    "pushed": ("pushed",),
}
WITH_GRADIENTS, WITH_WORDING = frozenset({"midpoint", "hybrid"}), frozenset({"hybrid"})


class BuildIndexForm(forms.Form):
    """The few fields of a configuration that people choose; everything else is as IndexConfig has it."""

    attributor = forms.ChoiceField(label="Scores come from", help_text="Similarity is never called influence.")
    damping = TypedFloatField(
        min_value=0.001,
        max_value=100,
        initial=IndexConfig().damping,
        help_text="Times a layer’s mean eigenvalue. Of gradients only; an audit from the command line can choose it.",
    )
    nodes = TypedIntegerField(
        min_value=1,
        max_value=NODES_MAX,
        initial=1,
        label="Points of the path",
        help_text="1 is the midpoint. More cost as many times its size and time. Of gradients only.",
    )
    k = TypedIntegerField(
        min_value=8,
        max_value=2_048,
        initial=IndexConfig().k,
        label="Numbers kept of each gradient",
        help_text="Of gradients only.",
    )
    lexical_weight = TypedFloatField(
        min_value=0,
        max_value=100,
        initial=IndexConfig().lexical_weight,
        label="Weight of the wording",
        help_text="Beside gradients, where both are compared.",
    )

    def __init__(self, version: ModelVersion, data: Any = None) -> None:
        super().__init__(data)
        named = dict(AttributionIndex.Attributor.choices)
        possible = ATTRIBUTORS.get(version.adapter, ("midpoint",))
        attributor = self.fields["attributor"]
        assert isinstance(attributor, forms.ChoiceField)
        attributor.choices = [(name, named[name]) for name in possible]
        if not WITH_GRADIENTS & set(possible):
            for name in ("damping", "nodes", "k"):
                del self.fields[name]
        if not WITH_WORDING & set(possible):
            del self.fields["lexical_weight"]

    def config(self) -> dict[str, Any]:
        """Return the fields that the attributor reads."""
        chosen = self.cleaned_data["attributor"]
        names = ["attributor"]
        names += ["damping", "nodes", "k"] * (chosen in WITH_GRADIENTS) + ["lexical_weight"] * (chosen in WITH_WORDING)
        return {name: self.cleaned_data[name] for name in names}
