"""Secrets that only the running product can read: account numbers, and the signing secrets of webhooks.

Sealed with Fernet (AES-128-CBC and HMAC-SHA256) under a key of the environment, never of the database: a dump of the
database tells no secret. The first of BANK_DETAILS_KEYS seals, all of them open, so that a key can be replaced.
Where none is set, the key is derived from SECRET_KEY.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class UnableToUnseal(Exception):
    """None of the keys opens it: a key was lost, or the bytes were changed."""

    status = 500
    problem = "secret-unreadable"


def _keys() -> list[str]:
    return list(settings.BANK_DETAILS_KEYS) or [settings.SECRET_KEY]


def _derived(key: str, purpose: str) -> bytes:
    return hmac.new(key.encode(), f"tributary/{purpose}".encode(), hashlib.sha256).digest()


def _box() -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(_derived(key, "sealing"))) for key in _keys()])


def seal(content: bytes) -> bytes:
    return _box().encrypt(content)


def unseal(sealed: bytes | memoryview) -> bytes:
    """Open a sealed secret. Raises UnableToUnseal where none of BANK_DETAILS_KEYS opens it."""
    try:
        return _box().decrypt(bytes(sealed))
    except InvalidToken as error:
        raise UnableToUnseal("A sealed secret cannot be read: none of BANK_DETAILS_KEYS opens it.") from error


def digests(content: str) -> list[str]:
    """The keyed digest of `content` under each active key, the first one first: nobody without a key can try out
    account numbers against it."""
    return [hmac.new(_derived(key, "fingerprint"), content.encode(), hashlib.sha256).hexdigest() for key in _keys()]
