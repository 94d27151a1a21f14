"""Invite a person to the staff: mail them a one-time address, and print it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from config.engine.installation import site_url
from people.models import STAFF_ROLES
from people.operations import invitations, mail


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", help="the person's e-mail address")
        parser.add_argument("--role", action="append", required=True, choices=STAFF_ROLES, help="can be repeated")
        parser.add_argument("--name", default="", help="the name that the page suggests")
        parser.add_argument("--no-mail", action="store_true", help="only print the address")

    def handle(self, *args: Any, **options: Any) -> None:
        at = timezone.now()
        settings.SITE_URL = site_url()
        try:
            with transaction.atomic():
                made = invitations.invite_staff(
                    email=options["email"], name=options["name"], roles=options["role"], at=at, is_mailed=False
                )
                path = invitations.new_address(made, at=at)
        except invitations.UnableToInvite as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{settings.SITE_URL}{path}")
        if options["no_mail"]:
            self.stderr.write("The address works once, for seven days.")
        elif mail.send_invitation(made, path, at=at):
            self.stderr.write(f"A mail to {made.email} was handed over. The address works once, for seven days.")
        else:
            made.refresh_from_db()
            self.stderr.write(f"The mail was not sent ({made.error}). Hand the address over yourself.")
