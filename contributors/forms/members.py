"""Forms of the members of a contributor, and of the import of contributors."""

from __future__ import annotations

from django import forms

from contributors.models import Membership

ROLES = [
    (Membership.Role.VIEWER, "Viewer: reads everything"),
    (Membership.Role.MANAGER, "Manager: also changes works, consent and payouts"),
    (Membership.Role.OWNER, "Owner: also changes the members"),
]


class InviteMemberForm(forms.Form):
    email = forms.EmailField(label="E-mail address")
    role = forms.ChoiceField(choices=ROLES, initial=Membership.Role.VIEWER)


class MemberRoleForm(forms.Form):
    role = forms.ChoiceField(choices=ROLES)


class ImportForm(forms.Form):
    file = forms.FileField(
        label="CSV",
        help_text="UTF-8, with the columns email, kind (person or organisation), legal_name, display_name, country "
        "(such as DE). At most 5,000 lines.",
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv"}),
    )


class ConfirmImportForm(forms.Form):
    # The text of the previewed file travels in the form: nothing is kept until somebody confirms.
    text = forms.CharField(widget=forms.HiddenInput, strip=False)
