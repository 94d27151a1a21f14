"""Service keys: their form, their proof, and their scopes.

A key reads `trib_<prefix>_<secret>`. The prefix finds the row. The secret is 256 random bits, so that a plain SHA-256
digest is enough: there is nothing to guess and nothing for a slow password hash to protect."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q
from rest_framework import exceptions

from attribution.models import ServiceKey

PREFIX_LENGTH = 10
KEY_LENGTH_MAX = 200
LAST_USED_EVERY = timedelta(minutes=1)
_PREFIX_ALPHABET = string.ascii_lowercase + string.digits
# Compared against when no row is found, so that an unknown prefix takes as long as a wrong secret.
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).digest()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `text` is shown once and stored nowhere."""

    prefix: str
    text: str
    digest: bytes


def new_key() -> NewKey:
    prefix = "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(PREFIX_LENGTH))
    text = f"trib_{prefix}_{secrets.token_urlsafe(32)}"
    return NewKey(prefix, text, digest_of(text))


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class UnableToProve(exceptions.AuthenticationFailed):
    """The key proves nothing. A malformed, an unknown and a wrong key are told apart by nobody."""


def prove(text: str, *, at: datetime) -> ServiceKey:
    """Find the key with this text. Raises UnableToProve if it is unknown, or revoked, expired or suspended at `at`."""
    parts = text.split("_", 2)
    well_formed = len(text) <= KEY_LENGTH_MAX and text.isascii() and len(parts) == 3 and parts[0] == "trib"
    prefix = parts[1] if well_formed and parts[1].isalnum() else ""
    key = ServiceKey.objects.select_related("service").filter(prefix=prefix).first() if prefix else None
    stored = bytes(key.digest) if key else _NOBODY
    if not hmac.compare_digest(stored, digest_of(text[:KEY_LENGTH_MAX])) or key is None:
        raise UnableToProve("The key is not known.", code="unknown-key")
    # From here on the caller has shown the secret, so that the reason may be told.
    if key.revoked_at is not None and key.revoked_at <= at:
        raise UnableToProve("The key was revoked.", code="revoked-key")
    if key.expires_at is not None and key.expires_at <= at:
        raise UnableToProve("The key has expired.", code="expired-key")
    if not key.service.active:
        raise UnableToProve("The service is suspended.", code="suspended-service")
    _note_use(key, at=at)
    return key


def _note_use(key: ServiceKey, *, at: datetime) -> None:
    # At most one write a minute, and none for a request that comes second in that minute.
    if key.last_used_at is not None and key.last_used_at > at - LAST_USED_EVERY:
        return
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lte=at - LAST_USED_EVERY)
    ServiceKey.objects.filter(stale, pk=key.pk).update(last_used_at=at)
