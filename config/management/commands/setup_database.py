"""Create the database roles and bring the schema up to date, as the owner role."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import ProgrammingError

from config.database import OWNER_ROLE, ROLES_SQL, acting_as, ensure_roles


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ensure_roles()
        except ProgrammingError as error:
            raise CommandError(
                f"The database login may not create roles ({error}). Let an administrator run this once:\n{ROLES_SQL}"
            ) from error
        with acting_as(OWNER_ROLE):
            call_command("migrate", interactive=False, verbosity=options["verbosity"])
