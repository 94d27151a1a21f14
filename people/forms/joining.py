"""The form of a one-time address, and a person's own name."""

from __future__ import annotations

from typing import Any

from allauth.mfa.totp.internal.auth import validate_totp_code
from django import forms
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from people.models import User


class NameForm(forms.Form):
    name = forms.CharField(
        max_length=200,
        label="Your name",
        help_text="Others see it beside your acts.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )


class PasswordForm(NameForm):
    """Name and password of a new account. `email` is asked only where the invitation names none."""

    email = forms.EmailField(label="E-mail address", widget=forms.EmailInput(attrs={"autocomplete": "email"}))
    password = forms.CharField(
        strip=False,
        help_text="At least 10 characters, and none of the common ones.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    password_again = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}), label="Password, once more"
    )

    def __init__(self, *arguments: Any, invited: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.invited = invited
        if invited:
            del self.fields["email"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        password, again = cleaned.get("password"), cleaned.get("password_again")
        if password and again and password != again:
            self.add_error("password_again", "The two passwords differ.")
        if password:
            user = User(email=self.invited or cleaned.get("email", ""), name=cleaned.get("name", ""))
            try:
                validate_password(password, user)
            except ValidationError as error:
                self.add_error("password", error)
        return cleaned


class JoinForm(PasswordForm):
    """As PasswordForm, with the first code of an authenticator app for `totp_secret`."""

    code = forms.CharField(
        max_length=10,
        label="Code of the app",
        help_text="Six digits; they change every 30 seconds.",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )

    def __init__(self, *arguments: Any, totp_secret: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.totp_secret = totp_secret

    def clean_code(self) -> str:
        code = str(self.cleaned_data["code"]).replace(" ", "")
        if not validate_totp_code(self.totp_secret, code):
            raise ValidationError("This is not the code of the app. Scan the picture again, and check the app's clock.")
        return code
