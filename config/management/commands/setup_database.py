"""Create the database roles and bring schema, functions and privileges up to date, as the owner role."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError

from config.engine.roles import OWNER_ROLE, ROLES_SQL, acting_as, ensure_roles, is_set_up
from config.scripts import is_catalogue_changed, waiting


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--check", action="store_true", help="change nothing; fail where migrations or SQL scripts wait"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["check"]:
            self._check()
            return
        try:
            ensure_roles()
        except ProgrammingError as error:
            raise CommandError(
                f"The database login may not create roles ({error}). Let an administrator run this once:\n{ROLES_SQL}"
            ) from error
        with acting_as(OWNER_ROLE):
            call_command("migrate", interactive=False, verbosity=options["verbosity"])

    def _check(self) -> None:
        if not is_set_up():
            raise CommandError("The database is not set up: run setup_database")
        with acting_as(""):
            faults = waiting()
            if not faults and is_catalogue_changed():
                faults = ["functions, triggers or privileges were changed by hand: run setup_database"]
        if faults:
            raise CommandError("\n".join(faults))
        self.stdout.write("The database is up to date.")
