"""The registration form of a contributor."""

from __future__ import annotations

from django import forms

from contributors.models import Contributor
from people.presentation.countries import COUNTRIES


class RegisterForm(forms.Form):
    kind = forms.ChoiceField(
        label="Who are you registering?",
        choices=[(Contributor.Kind.PERSON, "Myself, a person"), (Contributor.Kind.ORGANISATION, "An organisation")],
        widget=forms.RadioSelect,
        initial=Contributor.Kind.PERSON,
    )
    legal_name = forms.CharField(
        max_length=200,
        help_text="As in a passport or the company register. Payouts are made out to it; the public never sees it.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    display_name = forms.CharField(
        max_length=200,
        required=False,
        help_text="The name or pseudonym beside your works. Your legal name, if you leave it empty.",
        widget=forms.TextInput(attrs={"autocomplete": "nickname"}),
    )
    country = forms.ChoiceField(
        help_text="Where you are resident for tax, or the organisation is registered.",
        choices=[("", "Choose a country"), *sorted(COUNTRIES.items(), key=lambda entry: entry[1])],
        widget=forms.Select(attrs={"autocomplete": "country"}),
    )
