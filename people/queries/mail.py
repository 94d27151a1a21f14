"""The place to which mails go."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

_MODULES = {"smtp": "a mail server", "filebased": "files", "console": "the log", "locmem": "memory", "dummy": "nowhere"}


@dataclass(frozen=True, slots=True)
class Destination:
    """`leaves` is true where mails leave this machine; `words` says where they go, without a password."""

    leaves: bool
    words: str


def destination() -> Destination:
    """Say where EMAIL_URL sends the mails."""
    kind = settings.EMAIL_BACKEND.split(".")[-2]
    if kind == "smtp":
        secure = " with TLS" if settings.EMAIL_USE_TLS or settings.EMAIL_USE_SSL else ""
        return Destination(True, f"the mail server {settings.EMAIL_HOST}:{settings.EMAIL_PORT}{secure}")
    if kind == "filebased":
        return Destination(False, f"files in {settings.EMAIL_FILE_PATH}; no mail leaves this machine")
    return Destination(kind not in _MODULES, f"{_MODULES.get(kind, settings.EMAIL_BACKEND)}")
