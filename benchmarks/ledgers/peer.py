"""The least Django project in which another ledger runs: its own settings, its own database, as its superuser."""

from __future__ import annotations

import urllib.parse
from typing import Any


def prepare(address: str, **settings_of_the_peer: Any) -> None:
    """Configure Django for the peer alone and run its migrations."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    parts = urllib.parse.urlsplit(address)
    host = urllib.parse.parse_qs(parts.query).get("host", [parts.hostname or ""])[0]
    settings.configure(
        SECRET_KEY="benchmark",
        USE_TZ=True,
        TIME_ZONE="UTC",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts.path.lstrip("/"),
                "HOST": host,
                "USER": parts.username or "",
                "PASSWORD": parts.password or "",
                "PORT": str(parts.port or ""),
            }
        },
        **settings_of_the_peer,
    )
    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
