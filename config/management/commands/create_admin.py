"""Print a one-time address that makes an administrator: name, password and second factor are chosen on its page."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from config.engine.installation import site_url
from people.operations import invitations


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", help="the administrator's e-mail address")
        parser.add_argument("--name", default="", help="the name that the page suggests")

    def handle(self, *args: Any, **options: Any) -> None:
        self.invite(options["email"], options["name"])

    def invite(self, email: str, name: str) -> None:
        at = timezone.now()
        try:
            with transaction.atomic():
                invitations.forget_printed(email=email, at=at)
                made = invitations.invite_staff(email=email, name=name, roles=["admin"], at=at, is_mailed=False)
                path = invitations.new_address(made, at=at, valid=invitations.INSTALLING_VALID)
        except invitations.UnableToInvite as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{site_url()}{path}")
        self.stderr.write("The address works once, for 24 hours. Open it and choose a password and a second factor.")
