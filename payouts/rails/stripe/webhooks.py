"""The proof that a delivery comes from Stripe: its signature, by any of the secrets that are active."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import stripe

TOLERANCE_SECONDS = 300
# The `object` of an event of API v2: a kind and an id, without the object that it is about.
THIN = "v2.core.event"


class UnableToVerify(Exception):
    """The delivery is not signed by any active secret, is too old, or is no event."""

    status = 400
    problem = "signature-invalid"


def verify_webhook(body: bytes, signature: str, secrets: Sequence[str]) -> dict[str, Any]:
    """Return the event, once one of `secrets` signed it. Two may be active, so that one can be replaced.

    Raises UnableToVerify without a secret, for a signature of none of them, and for a body that is no event.
    """
    if not secrets:
        raise UnableToVerify("No webhook secret is set.")
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE_SECONDS)
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            continue
        break
    else:
        raise UnableToVerify("The signature fits none of the active secrets.")
    try:
        event = json.loads(body)
    except ValueError as error:
        raise UnableToVerify("The body is no JSON.") from error
    if (
        not isinstance(event, dict)
        or event.get("object") not in ("event", THIN)
        or not isinstance(event.get("id"), str)
    ):
        raise UnableToVerify("The body is no event.")
    return event


def sign(body: bytes, secret: str, *, timestamp: int) -> str:
    """The header that Stripe would send: for a test, or for handing an event on."""
    return str(stripe.WebhookSignature.generate_signature_header(body.decode(), secret, timestamp=timestamp))
