"""The account pages of allauth, in the programme's name."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from people.address import client_address
from people.operations.mail import subject_line
from people.queries.programme import programme


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Counts log-ins and sign-ups by the client's address; its mails carry the programme's name."""

    def get_client_ip(self, request: HttpRequest) -> str:
        """Raises PermissionDenied where the address is unknown: uncounted, passwords could be guessed."""
        address = client_address(request)
        if address is None:
            raise PermissionDenied("The address of this client is unknown.")
        return address

    def format_email_subject(self, subject: str) -> str:
        return subject_line(str(subject))

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        super().send_mail(
            template_prefix, email, {**context, "programme": programme().shown_name, "site_url": settings.SITE_URL}
        )


class FactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Authenticator apps list the account under the programme's name."""

    def get_totp_issuer(self) -> str:
        return programme().shown_name
