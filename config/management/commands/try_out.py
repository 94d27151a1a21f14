"""One person tries the programme out: begin the mode for a person, or end it. With a live Stripe key it is refused."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from people.models import User
from people.operations.trial import UnableToTryOut, begin_trial, end_trial


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", nargs="?", default="", help="the person that does both halves")
        parser.add_argument("--end", action="store_true", help="end the mode: two people decide from then on")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["end"] == bool(options["email"]):
            raise CommandError("Name the person that tries it out, or give --end.")
        try:
            if options["end"]:
                end_trial(at=timezone.now())
                self.stdout.write("The trial has ended. Two people decide from now on.")
                return
            person = User.objects.filter(email=options["email"].strip().lower(), is_active=True).first()
            if person is None:
                raise CommandError(f"{options['email']} has no account here. Make one with manage.py create_admin.")
            begin_trial(person=person, at=timezone.now())
        except UnableToTryOut as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{person} tries this programme out alone. Every page says so.")
