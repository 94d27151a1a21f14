"""Mails of this floor: their common frame, the mails of invitations, and a test of the mail server."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Q

from people.actor import ADMIN, audit, require_role
from people.models import Invitation, User
from people.operations.invitations import OPEN, new_address
from people.presentation import dates
from people.queries.open_items import TRIES_MAX
from people.queries.programme import programme

log = structlog.get_logger(__name__)
FIRST_WAIT = timedelta(minutes=1)


class UnableToMail(Exception):
    """The mail server refused the mail or did not answer."""

    status = 502
    problem = "mail-not-sent"


def subject_line(text: str) -> str:
    """The subject of a mail, with the programme's name before it."""
    return f"{programme().shown_name}: {text}"


def message(*, to: str, subject: str, body: str) -> EmailMessage:
    """A mail in the common frame: the programme's name in the subject and at the end."""
    shown = programme()
    return EmailMessage(
        subject=f"{shown.shown_name}: {subject}",
        body=f"Hello,\n\n{body}\n\n{shown.shown_name}\n{settings.SITE_URL}\n",
        to=[to],
        headers={"Auto-Submitted": "auto-generated"},
    )


def invitation_mail(invitation: Invitation, path: str) -> EmailMessage:
    return message(
        to=invitation.email,
        subject=invitation.subject,
        body=f"{invitation.words}\n\nOpen this address to begin. It works once, until "
        f"{dates.moment(invitation.expires_at)}:\n\n{settings.SITE_URL}{path}\n\n"
        "If you did not expect this, ignore it. Nothing happens without you.",
    )


def send_due_invitations(*, at: datetime, limit: int = 100) -> int:
    """Mail the invitations that wait for it, each with an address made at that moment. Returns the mails sent.

    A mail server that fails is tried again later, TRIES_MAX times in all; the reason stands on the page Staff.
    """
    sent = 0
    for _ in range(limit):
        with transaction.atomic(durable=True):
            due = Invitation.objects.filter(
                OPEN, Q(next_try_at__isnull=True) | Q(next_try_at__lte=at), sent_at__isnull=True, tries__lt=TRIES_MAX
            ).exclude(subject="")
            row = due.select_for_update(skip_locked=True, no_key=True).order_by("pk").first()
            if row is None:
                return sent
            row.tries += 1
            row.next_try_at = at + FIRST_WAIT * 4 ** (row.tries - 1)
            row.save(update_fields=["tries", "next_try_at"])
            path = new_address(row, at=at)
        sent += send_invitation(row, path, at=at)
    return sent


def send_invitation(invitation: Invitation, path: str, *, at: datetime) -> bool:
    """Mail one address and store the result. Returns whether the mail server took it."""
    try:
        invitation_mail(invitation, path).send()
    except Exception as error:
        # Any error of a mail server is shown, and stops no other mail.
        reason = f"{type(error).__name__}: {error}"[:500]
        Invitation.objects.filter(pk=invitation.pk).update(error=reason)
        log.warning("invitation_not_mailed", invitation=str(invitation.public_id), error=reason)
        return False
    Invitation.objects.filter(pk=invitation.pk).update(sent_at=at, error="")
    return True


def send_test_mail(*, by: User, at: datetime) -> None:
    """Send a mail to the person, now. Raises UnableToMail with the server's answer."""
    require_role(by, ADMIN)
    try:
        message(to=by.email, subject="A test of the mail settings", body="This installation can send mails.").send()
    except Exception as error:
        raise UnableToMail(f"The mail was not sent. {type(error).__name__}: {error}"[:500]) from error
    audit(by=by, action="send_test_mail", subject=f"user:{by.pk}", at=at)


def tell(user: User, *, subject: str, body: str) -> None:
    """Mail a person about their account when the transaction commits. The act stands where the mail server fails."""

    def send() -> None:
        try:
            message(to=user.email, subject=subject, body=body).send()
        except Exception as error:
            # Any error of a mail server: the act has happened, and the audit log holds it.
            log.error("account_mail_not_sent", user=user.pk, subject=subject, error=str(error))

    transaction.on_commit(send)
