"""Fault switches: how a request is made to go wrong on purpose.

| kind | the effect happens | the caller sees |
|---|---|---|
| drop_before | no | the connection closes |
| drop_after | yes | the connection closes |
| timeout | yes | nothing, for `seconds` |
| slow | yes | the answer, `seconds` late; the idempotency key is in use meanwhile |
| 500_before, 500_after | no, yes | 500, stored under the idempotency key |
| 400 | no | 400 balance_insufficient, stored under the idempotency key |
| 429, 409 | no | rate limit, lock timeout; nothing is stored |
| payout_fail:CODE | | the next payout of the account fails when it would have been paid |

A fault with a probability stands until it is cleared; one without is taken from a queue by the first request it fits.
"""

from __future__ import annotations

import random
import threading
from fnmatch import fnmatch

from stripe_sandbox.models import Fault

KINDS = frozenset({"drop_before", "drop_after", "timeout", "slow", "500_before", "500_after", "400", "429", "409"})
PAYOUT_FAIL = "payout_fail:"
# https://docs.stripe.com/api/payouts/failures
FAILURE_CODES = frozenset({
    "account_closed", "account_frozen", "bank_account_restricted", "bank_ownership_changed", "could_not_process",
    "debit_not_authorized", "declined", "incorrect_account_holder_address", "incorrect_account_holder_name",
    "incorrect_account_holder_tax_id", "incorrect_account_type", "insufficient_funds", "invalid_account_number",
    "invalid_account_number_length", "invalid_currency", "no_account", "unsupported_card",
})  # fmt: skip

_lock = threading.Lock()
_rules: list[Fault] | None = None
_random = random.Random()


def known(kind: str) -> bool:
    return kind in KINDS or (kind.startswith(PAYOUT_FAIL) and kind.removeprefix(PAYOUT_FAIL) in FAILURE_CODES)


def seed(value: int) -> None:
    _random.seed(value)


def chance(ppm: int) -> bool:
    return _random.random() * 1_000_000 < ppm


def reload() -> list[Fault]:
    global _rules
    with _lock:
        _rules = list(Fault.objects.order_by("pk"))
        return _rules


def rules() -> list[Fault]:
    """Every switch that is set. Kept in memory: a server without faults asks nobody about them."""
    return _rules if _rules is not None else reload()


def _fits(fault: Fault, method: str, path: str, template: str, account: str) -> bool:
    return (
        fault.method in {"", method}
        and fault.account in {"", account}
        and (fnmatch(path, fault.path) or fault.path == template)
    )


def _taken(fault: Fault) -> bool:
    """Tell whether a queued fault is ours: of all requests that see it, one deletes the row."""
    taken = bool(Fault.objects.filter(pk=fault.pk).delete()[0])
    reload()
    return taken


def choose(*, method: str, path: str, template: str, account: str) -> Fault | None:
    """The one fault that this request meets: the next in the queue, else one drawn by the standing probabilities."""
    fitting = [one for one in rules() if one.kind in KINDS and _fits(one, method, path, template, account)]
    for fault in fitting:
        if fault.probability_ppm is None and _taken(fault):
            return fault
    drawn = _random.random() * 1_000_000
    for fault in fitting:
        drawn -= fault.probability_ppm or 0
        if drawn < 0:
            return fault
    return None


def payout_failure(account: str) -> str:
    """The code with which a new payout of the account is to fail, or nothing."""
    for fault in rules():
        if fault.kind.startswith(PAYOUT_FAIL) and fault.account in {"", account}:
            met = _taken(fault) if fault.probability_ppm is None else chance(fault.probability_ppm)
            if met:
                return fault.kind.removeprefix(PAYOUT_FAIL)
    return ""
