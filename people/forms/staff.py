"""The forms of an invitation to the staff, and of the programme's legal entity."""

from __future__ import annotations

from django import forms

from people.models import STAFF_ROLES
from people.presentation import codes
from people.presentation.countries import COUNTRIES


class InviteForm(forms.Form):
    email = forms.EmailField(label="E-mail address")
    name = forms.CharField(max_length=200, required=False, help_text="They can change it on the first page.")
    roles = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        choices=[(role, codes.spaced(role).capitalize()) for role in STAFF_ROLES],
        help_text="The table of rights on the page Staff lists the acts of each role.",
    )


class ProgrammeForm(forms.Form):
    name = forms.CharField(max_length=100, help_text="The name that people read in mails and on papers.")
    legal_name = forms.CharField(max_length=200, help_text="As in the company register: the payer of the royalties.")
    address = forms.CharField(max_length=500, widget=forms.Textarea(attrs={"rows": 3}))
    country = forms.ChoiceField(
        choices=[("", "Choose a country"), *sorted(COUNTRIES.items(), key=lambda entry: entry[1])]
    )
    tax_number = forms.CharField(
        max_length=40, required=False, help_text="Such as a VAT number or an EIN; every paper shows it."
    )


class ConfirmForm(forms.Form):
    asked = forms.BooleanField(label="I asked this person, and they set it up themselves")


class RecognisedForm(forms.Form):
    reason = forms.CharField(
        label="How you recognised the person",
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Such as a video call on a day, or an identity document. It is kept in the audit log.",
    )
