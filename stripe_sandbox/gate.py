"""The way of a request through the sandbox: key, limit, schema, faults, idempotency, and only then the work.

The order is Stripe's. A failure before the work began (401, 403, 404, 409, 429, a request that the schema does not
allow) is not stored under the idempotency key. A failure in the work is stored and replayed, a 500 included.
Source: https://docs.stripe.com/api/idempotent_requests

The answer and the effect are one transaction: a server killed in between has done neither.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.db import connection, transaction

from stripe_sandbox import configuration, faults, refusals, schema, traffic
from stripe_sandbox.events import API_VERSION, Call
from stripe_sandbox.expansion import expand
from stripe_sandbox.models import Account, Fault, StoredAnswer
from stripe_sandbox.refusals import UnableToServe
from stripe_sandbox.routes import ROUTES

logger = logging.getLogger(__name__)

KEY_LENGTH_MAX = 255
KEYS_KEPT = timedelta(hours=24)
BODY_BYTES_MAX = 256 * 1024
# PostgreSQL's codes of a deadlock and of a lock that was not to be had: nothing was done, the caller may try again.
LOCKED = {"40P01", "55P03"}


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    method: str
    path: str
    query: str
    body: bytes
    headers: Mapping[str, str]
    base_url: str
    request_id: str = field(default_factory=lambda: f"req_{secrets.token_hex(7)}")


@dataclass(frozen=True)
class Answer:
    """The answer to a request, and the fault applied on its way."""

    status: int
    body: str
    headers: dict[str, str]
    fault: Fault | None = None


def may_write() -> dict[str, bool]:
    """Every key that the sandbox knows, and whether it may change anything."""
    keys = {settings.STRIPE_READ_KEY: not settings.STRIPE_READ_KEY.startswith("rk_")}
    keys[settings.STRIPE_SECRET_KEY] = True
    return {key: writes for key, writes in keys.items() if key.startswith(("sk_test_", "rk_test_"))}


def answer(asked: Asked) -> Answer:
    """Serve one request of the API. A refusal is an answer, and so is an accident of the sandbox itself."""
    headers = {"Request-Id": asked.request_id, "Stripe-Version": asked.headers.get("Stripe-Version", API_VERSION)}
    if key := asked.headers.get("Idempotency-Key"):
        headers["Idempotency-Key"] = key[:KEY_LENGTH_MAX]
    try:
        return _served(asked, headers)
    except UnableToServe as refusal:
        return Answer(refusal.status, refusal.body(asked.request_id), headers)
    except Exception as error:
        cause = getattr(error.__cause__, "pgcode", None)
        if cause not in LOCKED:
            logger.exception("%s %s failed", asked.method, asked.path)
        accident = refusals.lock_timeout() if cause in LOCKED else refusals.server_error()
        return Answer(accident.status, accident.body(asked.request_id), headers)


def _served(asked: Asked, headers: dict[str, str]) -> Answer:
    key = _key(asked)
    operation, args = schema.find(asked.method, asked.path)
    _check_permission(key, asked, operation.path)
    traffic.admit(key, writes=asked.method != "GET")
    call = Call(
        key=key,
        account=_account(asked, key),
        params=_params(asked, operation),
        args=args,
        at=configuration.now(),
        request_id=asked.request_id,
        idempotency_key=asked.headers.get("Idempotency-Key", "") if asked.method == "POST" else "",
        base_url=asked.base_url,
    )
    if len(call.idempotency_key) > KEY_LENGTH_MAX:
        raise refusals.key_too_long()
    target = call.account.reference if not call.account.is_platform else str(call.params.get("destination", ""))
    fault = faults.choose(method=asked.method, path=asked.path, template=operation.path, account=target)
    if fault:
        traffic.count(fault.kind)
    match fault.kind if fault else "":
        case "drop_before":
            return Answer(0, "", headers, fault)
        case "429":
            raise refusals.rate_limited()
        case "409":
            raise refusals.lock_timeout()
    status, body, replayed = _once(asked, call, ROUTES[operation.method, operation.path], fault)
    return Answer(status, body, headers | ({"Idempotent-Replayed": "true"} if replayed else {}), fault)


def _key(asked: Asked) -> str:
    scheme, _, given = asked.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError) as error:
            raise refusals.no_key() from error
    if not given:
        raise refusals.no_key()
    if given not in may_write():
        raise refusals.unknown_key(given)
    return given


def _check_permission(key: str, asked: Asked, template: str) -> None:
    if asked.method != "GET" and not may_write()[key]:
        noun = template.split("/")[2].replace("_", " ").capitalize()
        raise refusals.read_only_key(key, f"{noun}: write")


def _account(asked: Asked, key: str) -> Account:
    named = asked.headers.get("Stripe-Account")
    if not named:
        return configuration.platform()
    account = Account.objects.filter(reference=named, disconnected_at=None).first()
    if account is None:
        raise refusals.no_access(key, named)
    return account


def _params(asked: Asked, operation: schema.Operation) -> dict[str, Any]:
    if len(asked.body) > BODY_BYTES_MAX:
        raise UnableToServe("The request is too large.", status=413)
    try:
        form = asked.query if asked.method == "GET" else asked.body.decode()
        pairs = parse_qsl(form, keep_blank_values=True, strict_parsing=bool(form), max_num_fields=2_000)
    except (UnicodeDecodeError, ValueError) as error:
        raise UnableToServe("Invalid request: the parameters are no form (a=b&c[d]=e) in UTF-8.") from error
    return operation.read(pairs)


# --- once ---------------------------------------------------------------------------------------------------------
def _once(
    asked: Asked, call: Call, work: Callable[[Call], dict[str, Any]], fault: Fault | None
) -> tuple[int, str, bool]:
    """Status, body and whether they are a replay. The work of one idempotency key is done by one request only."""
    if not call.idempotency_key:
        with transaction.atomic():
            return *_worked(call, work, fault), False
    with transaction.atomic():
        _lock_key(call)
        fingerprint = _fingerprint(asked)
        stored = StoredAnswer.objects.filter(account=call.account.reference, key=call.idempotency_key).first()
        if stored is not None and stored.created > call.at - KEYS_KEPT:
            if bytes(stored.fingerprint) != fingerprint:
                raise refusals.key_reused(call.idempotency_key)
            traffic.count("replayed")
            return stored.status, stored.body, True
        if stored is not None:
            stored.delete()
        status, body = _worked(call, work, fault)
        StoredAnswer.objects.create(
            account=call.account.reference,
            key=call.idempotency_key,
            fingerprint=fingerprint,
            status=status,
            body=body,
            created=call.at,
        )
        return status, body, False


def _worked(call: Call, work: Callable[[Call], dict[str, Any]], fault: Fault | None) -> tuple[int, str]:
    """Do the work in a savepoint, so that a refusal undoes it and can still be stored."""
    kind = fault.kind if fault else ""
    if fault and kind == "slow":
        time.sleep(fault.seconds)
    try:
        if kind == "500_before":
            raise refusals.server_error()
        if kind == "400":
            raise refusals.insufficient_balance()
        with transaction.atomic():
            shown = expand(work(call), list(call.params.get("expand", [])))
    except UnableToServe as refusal:
        return refusal.status, refusal.body(call.request_id)
    if kind == "500_after":
        failure = refusals.server_error()
        return failure.status, failure.body(call.request_id)
    return 200, json.dumps(shown, indent=2)


def _lock_key(call: Call) -> None:
    # An advisory lock, and no row that says "in progress": it cannot outlive a killed server.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 7462))",
            [f"{call.account.reference}/{call.idempotency_key}"],
        )
        if not cursor.fetchone()[0]:
            raise refusals.key_in_use(call.idempotency_key)


def _fingerprint(asked: Asked) -> bytes:
    """Digest the method, the address and the parameters, in any order of the parameters."""
    pairs = sorted(parse_qsl(asked.body.decode(), keep_blank_values=True))
    return hashlib.sha256(json.dumps([asked.method, asked.path, pairs]).encode()).digest()
