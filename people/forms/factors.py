"""Codes of authenticator apps: the code of the half minute before and after counts too, and each code counts once."""

from __future__ import annotations

from typing import Any

from allauth.mfa import app_settings
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from django.core.cache import cache

# A code is valid for its own half minute and those beside it. allauth remembers a used one for one of them only.
_REMEMBERED_SECONDS = app_settings.TOTP_PERIOD * (2 * app_settings.TOTP_TOLERANCE + 1)


def _use_once(user_id: int, code: str) -> None:
    """Raises the form's error for a code that was used. One of two equal requests at a time wins."""
    key = f"people.factors.used?user={user_id}&code={''.join(code.split())}"
    if not cache.add(key, "y", timeout=_REMEMBERED_SECONDS):
        raise get_adapter().validation_error("incorrect_code")


class OnceForm(AuthenticateForm):  # type: ignore[misc]
    """The second step of a log-in."""

    def clean_code(self) -> Any:
        code = super().clean_code()
        _use_once(self.user.pk, code)
        return code


class OnceAgainForm(ReauthenticateForm):  # type: ignore[misc]
    """The proof of a person that is logged in."""

    def clean_code(self) -> Any:
        code = super().clean_code()
        _use_once(self.user.pk, code)
        return code
