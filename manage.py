#!/usr/bin/env python
"""Django's command line. Starts the embedded engine for the command's life where no servers are configured."""

import os
import sys

# Commands that touch neither database nor broker.
WITHOUT_ENGINE = {"help", "version", "--help", "--version", "verify_statement", "collectstatic", "compilemessages"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    needs_postgres = "DATABASE_URL" not in os.environ
    needs_valkey = "BROKER_URL" not in os.environ
    if command in WITHOUT_ENGINE or "--help" in sys.argv or not (needs_postgres or needs_valkey):
        execute_from_command_line(sys.argv)
        return

    from config import local
    from config.settings import TRIBUTARY_DATA

    try:
        with local.engine(TRIBUTARY_DATA, postgres=needs_postgres, valkey=needs_valkey):
            execute_from_command_line(sys.argv)
    except local.EngineUnavailable as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
