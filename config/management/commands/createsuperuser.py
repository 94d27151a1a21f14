"""As create_admin: print a one-time address that makes an administrator. The console has no other kind of superuser."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from config.management.commands import create_admin


class Command(create_admin.Command):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", default="", help="the administrator's e-mail address")
        parser.add_argument("--noinput", "--no-input", action="store_true", help="taken and ignored: nothing is asked")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["email"]:
            raise CommandError("Name the address: manage.py create_admin EMAIL, or createsuperuser --email EMAIL.")
        self.invite(options["email"], "")
