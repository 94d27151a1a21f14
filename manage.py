#!/usr/bin/env python
"""Django's command line. Starts the embedded engine for the command's life where no servers are configured."""

import os
import sys

# Commands that touch neither database nor broker.
WITHOUT_ENGINE = {"help", "version", "--help", "--version", "verify_statement", "collectstatic", "compilemessages"}

# They make the tables, end the trial, or name the fault.
REMEDIES = {"setup_database", "migrate", "makemigrations", "check", "try_out", "doctor"}


def execute() -> None:
    """Run the command; where there are no tables yet, say so in place of what the database says."""
    from django.core.management import execute_from_command_line
    from django.db import OperationalError, ProgrammingError

    try:
        refuse_live_key(sys.argv[1] if len(sys.argv) > 1 else "help")
        execute_from_command_line(sys.argv)
    except (OperationalError, ProgrammingError):
        from config.engine.roles import is_set_up

        if is_set_up():
            raise
        sys.exit("There are no tables in this database yet. Run `manage.py setup_database` first, or `make demo`.")


def refuse_live_key(command: str) -> None:
    """End a command with a live Stripe key while one person tries the programme out, but for its remedies."""
    if command in WITHOUT_ENGINE | REMEDIES or "--help" in sys.argv:
        return
    import django
    from django.db import ProgrammingError

    django.setup()
    from config.live_keys import UnableToUseLiveKey, refuse_live_key_on_trial

    try:
        refuse_live_key_on_trial()
    except UnableToUseLiveKey as error:
        sys.exit(f"{error}")
    except ProgrammingError:
        # Without tables there is no trial; a command that needs them says so itself.
        return


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    needs_postgres = "DATABASE_URL" not in os.environ
    needs_valkey = "BROKER_URL" not in os.environ
    if command in WITHOUT_ENGINE or "--help" in sys.argv or not (needs_postgres or needs_valkey):
        execute()
        return

    from config.engine import servers
    from config.settings import TRIBUTARY_DATA

    try:
        with servers.engine(TRIBUTARY_DATA, postgres=needs_postgres, valkey=needs_valkey):
            execute()
    except servers.EngineUnavailable as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
