"""Webhook verification by Standard Webhooks: the published example, tampering, age, rotation."""

from __future__ import annotations

import base64
import json

import pytest

from tributary.errors import InvalidInput
from tributary.webhooks import InvalidSignature, Webhook

# The example of the specification's libraries: id, moment, body and signature belong together.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NUMBER, MOMENT = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OTHER = "whsec_" + base64.b64encode(b"another secret of some length").decode()


def headers(**changes: str) -> dict[str, str]:
    given = {"Webhook-Id": NUMBER, "Webhook-Timestamp": str(MOMENT), "Webhook-Signature": SIGNATURE}
    return {**given, **{name.replace("_", "-"): value for name, value in changes.items()}}


def test_the_example_of_the_specification_is_verified() -> None:
    assert Webhook(SECRET).verify(BODY, headers(), now=MOMENT) == {"test": 2432232314}
    assert Webhook(SECRET).verify(BODY.decode(), headers(), now=MOMENT + 299) == json.loads(BODY)
    assert Webhook(SECRET).sign(NUMBER, MOMENT, BODY) == SIGNATURE


@pytest.mark.parametrize(
    ("given", "body", "now", "reason"),
    [
        (headers(), BODY + b" ", MOMENT, "No signature"),
        (headers(Webhook_Id="msg_other"), BODY, MOMENT, "No signature"),
        (headers(Webhook_Timestamp=str(MOMENT + 1)), BODY, MOMENT, "No signature"),
        (headers(Webhook_Signature="v1,AAAA"), BODY, MOMENT, "No signature"),
        (headers(Webhook_Signature="v1,not base64"), BODY, MOMENT, "No signature"),
        (headers(Webhook_Signature="v1a" + SIGNATURE[2:]), BODY, MOMENT, "No signature"),
        (headers(Webhook_Signature=""), BODY, MOMENT, "webhook-signature is missing"),
        (headers(Webhook_Timestamp="soon"), BODY, MOMENT, "is no number of seconds"),
        (headers(), BODY, MOMENT + 301, "301 s old; 300 s are allowed"),
        (headers(), BODY, MOMENT - 301, "ahead of this clock"),
        ({}, BODY, MOMENT, "webhook-id is missing"),
    ],
)
def test_tampering_and_age_are_told(given: dict[str, str], body: bytes, now: int, reason: str) -> None:
    with pytest.raises(InvalidSignature, match=reason):
        Webhook(SECRET).verify(body, given, now=now)


def test_two_secrets_hold_during_a_rotation() -> None:
    old, new = Webhook(SECRET), Webhook(OTHER)
    both = Webhook([OTHER, SECRET])
    assert both.verify(BODY, headers(), now=MOMENT)
    signed = headers(Webhook_Signature=f"{SIGNATURE} {new.sign(NUMBER, MOMENT, BODY)}")
    for receiver in (old, new, both):
        assert receiver.verify(BODY, signed, now=MOMENT)
    with pytest.raises(InvalidSignature):
        new.verify(BODY, headers(), now=MOMENT)


def test_a_signed_body_that_is_no_json_is_refused() -> None:
    signature = Webhook(SECRET).sign(NUMBER, MOMENT, b"no")
    with pytest.raises(InvalidSignature, match="no JSON"):
        Webhook(SECRET).verify(b"no", headers(Webhook_Signature=signature), now=MOMENT)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%%%", []])
def test_a_secret_that_is_none_is_told(secret: str) -> None:
    with pytest.raises(InvalidInput, match="secret"):
        Webhook(secret)
