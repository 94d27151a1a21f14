"""Confirm the new second factor of a member of staff, as the operator of the machine."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from people.models import User
from people.operations.factors import UnableToConfirmFactor, confirm_factors


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", help="the e-mail address of the person")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["email"].strip().lower()).first()
        if user is None:
            raise CommandError(f"Nobody has the address {options['email']}.")
        try:
            confirm_factors(user=user, by=None, at=timezone.now())
        except UnableToConfirmFactor as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"The second factor of {user} is confirmed.")
