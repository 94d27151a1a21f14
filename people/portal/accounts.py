"""The account pages of allauth, in the programme's name."""

from __future__ import annotations

import urllib.parse
from typing import Any

import structlog
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from people.actor import audit
from people.address import client_address
from people.models import User
from people.operations.factors import vouch_for_factors
from people.operations.mail import subject_line
from people.queries import factors
from people.queries.programme import nothing_is_at_stake, programme

log = structlog.get_logger(__name__)


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Counts log-ins and sign-ups by the client's address; its mails carry the programme's name."""

    def get_client_ip(self, request: HttpRequest) -> str:
        """Raises PermissionDenied where the address is unknown: uncounted, passwords could be guessed."""
        address = client_address(request)
        if address is None:
            raise PermissionDenied("The address of this client is unknown.")
        return address

    def get_reauthentication_methods(self, user: User) -> list[dict[str, Any]]:
        """Where a second factor is enrolled, the password alone confirms nothing."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        if not user.is_authenticated or not factors.factors(user).exists():
            return methods
        return [method for method in methods if method["id"] != "reauthenticate"]

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> bool:
        """Tell the person's first address that another one was added and proven."""
        confirmed: bool = super().confirm_email(request, email_address)
        if confirmed and not email_address.primary:
            self.send_notification_mail("account/email/email_confirm", email_address.user)
        return confirmed

    def post_login(self, request: HttpRequest, user: User, **details: Any) -> HttpResponse:
        """Write the log-in of a member of staff into the audit log."""
        answer: HttpResponse = super().post_login(request, user, **details)
        if user.is_staff_member:
            audit(by=user, action="log_in", subject=f"user:{user.pk}", at=timezone.now())
        return answer

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        """Write a wrong password of a member of staff into the audit log. allauth limits how many there are."""
        super().authentication_failed(request, **credentials)
        user = User.objects.filter(email=str(credentials.get("email", "")).lower()).first()
        if user is not None and user.is_staff_member:
            after = {"ip": client_address(request)}
            audit(by=None, action="log_in_refused", subject=f"user:{user.pk}", at=timezone.now(), after=after)

    def send_notification_mail(
        self, template_prefix: str, user: User, context: dict[str, Any] | None = None, email: str | None = None
    ) -> None:
        """Log a change of password, address or second factor, and mail it. The change stands where the mail fails."""
        at = timezone.now()
        audit(by=user, action=template_prefix.rpartition("/")[2], subject=f"user:{user.pk}", at=at)
        if user.is_staff_member and nothing_is_at_stake():
            # The first day of an installation is no attack.
            vouch_for_factors(user=user, at=at)
        try:
            super().send_notification_mail(template_prefix, user, context, email)
        except Exception as error:
            # Any error of a mail server: the change has happened, and the audit log holds it.
            log.error("security_mail_not_sent", user=user.pk, mail=template_prefix, error=str(error))

    def format_email_subject(self, subject: str) -> str:
        return subject_line(str(subject))

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send a mail of allauth. Its addresses begin with SITE_URL, and never with the Host of the request."""
        ours = {name: _on_site(value) if name.endswith("_url") else value for name, value in context.items()}
        super().send_mail(
            template_prefix, email, {**ours, "programme": programme().shown_name, "site_url": settings.SITE_URL}
        )


def _on_site(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    return str(settings.SITE_URL) + urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))


class FactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Authenticator apps list the account under the programme's name."""

    def get_totp_issuer(self) -> str:
        return programme().shown_name
