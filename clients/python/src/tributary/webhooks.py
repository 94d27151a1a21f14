"""Verification of webhooks by the rules of Standard Webhooks (https://www.standardwebhooks.com).

The signature is HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>` with the secret behind `whsec_`, in base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tributary.errors import InvalidInput, TributaryError

TOLERANCE_SECONDS = 300.0
PREFIX = "whsec_"


class InvalidSignature(TributaryError):
    """The webhook is not from this sender, was changed, or is too old. Answer it with 400 and do nothing else."""


class Webhook:
    """Verifies the webhooks of one endpoint. Several secrets hold during a rotation."""

    def __init__(self, secrets: str | Sequence[str], *, tolerance_seconds: float = TOLERANCE_SECONDS) -> None:
        given = [secrets] if isinstance(secrets, str) else list(secrets)
        if not given:
            raise InvalidInput("give at least one secret", field="secrets")
        self._keys = [_key(secret) for secret in given]
        self._tolerance = tolerance_seconds

    def verify(self, body: bytes | str, headers: Mapping[str, str], *, now: float | None = None) -> Any:
        """Return the parsed body of an authentic webhook; `body` must be the bytes as received.

        Raises InvalidSignature, with the reason.
        """
        content = body.encode() if isinstance(body, str) else bytes(body)
        given = {name.lower(): value for name, value in headers.items()}
        number, moment, signatures = (
            _header(given, name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
        )
        self._check_moment(moment, time.time() if now is None else now)
        signed = f"{number}.{moment}.".encode() + content
        wanted = [hmac.new(key, signed, hashlib.sha256).digest() for key in self._keys]
        if not any(_matches(signature, wanted) for signature in signatures.split(" ")):
            raise InvalidSignature("No signature of the webhook fits the secret and the body.")
        try:
            return json.loads(content)
        except ValueError:
            raise InvalidSignature("The signed body is no JSON.") from None

    def sign(self, number: str, moment: int, body: bytes) -> str:
        """Sign a body as the sender does, for tests of a receiver."""
        digest = hmac.new(self._keys[0], f"{number}.{moment}.".encode() + body, hashlib.sha256).digest()
        return f"v1,{base64.b64encode(digest).decode()}"

    def _check_moment(self, moment: str, now: float) -> None:
        if not (moment.isascii() and moment.isdigit() and len(moment) <= 15):
            raise InvalidSignature(f"webhook-timestamp {moment!r:.40} is no number of seconds.")
        age = now - int(moment)
        if abs(age) > self._tolerance:
            place = "old" if age > 0 else "ahead of this clock"
            raise InvalidSignature(f"The webhook is {abs(age):.0f} s {place}; {self._tolerance:.0f} s are allowed.")


def _key(secret: str) -> bytes:
    text = secret[len(PREFIX) :] if secret.startswith(PREFIX) else secret
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise InvalidInput("a secret reads whsec_ and base64", field="secrets")
    return key


def _header(given: Mapping[str, str], name: str) -> str:
    value = given.get(name, "")
    if not value:
        raise InvalidSignature(f"The header {name} is missing.")
    return value


def _matches(signature: str, wanted: Sequence[bytes]) -> bool:
    version, _, text = signature.partition(",")
    if version != "v1":
        return False
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    # Every secret is compared, so that the time tells nothing about the place of the right one.
    return sum(hmac.compare_digest(found, digest) for digest in wanted) > 0
