"""What staff fill in about model services and their keys."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms

from attribution.models import ServiceKey

EXPLAINED = {
    ServiceKey.Scope.GENERATIONS_WRITE: "Report generations",
    ServiceKey.Scope.GENERATIONS_READ: "Read receipts and model versions",
    ServiceKey.Scope.MODELS_WRITE: "Register model versions",
    ServiceKey.Scope.FEATURES_WRITE: "Report features that the service computed itself",
}
LIFETIMES = {"30": "30 days", "90": "90 days", "365": "1 year", "": "Until revoked"}
OVERLAPS = {"0": "No overlap: the old key ends now", "1": "1 day", "7": "7 days", "30": "30 days"}


class RegisterServiceForm(forms.Form):
    name = forms.CharField(max_length=100, help_text="As it will stand on receipts.")


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
        label="The old key goes on for", choices=list(OVERLAPS.items()), initial="7",
        help_text="Long enough for every caller to change over.",
    )  # fmt: skip

    def overlap(self) -> timedelta:
        return timedelta(days=int(self.cleaned_data["overlap_days"]))


def key_form(data: Any = None) -> IssueKeyForm:
    """The form with the scopes that nearly every service needs ticked."""
    usual = [ServiceKey.Scope.GENERATIONS_WRITE.value, ServiceKey.Scope.GENERATIONS_READ.value]
    return IssueKeyForm(data, initial={"scopes": usual, "lifetime_days": "365"})
