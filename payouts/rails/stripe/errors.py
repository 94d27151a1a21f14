"""The meaning of Stripe's answers for money: one table, and the error that carries its verdict.

The table is keyed by HTTP status and error code, never by the SDK's exception classes. There a 409 arrives as a plain
APIError, and a refusal for lack of balance looks like a malformed request.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from payouts.models import HoldReason


class Outcome(enum.StrEnum):
    """The effect of the request on money, as far as this answer says."""

    REFUSED = "refused"  # it did not, and the same key will never do anything else
    NOT_EXECUTED = "not_executed"  # it did not this time; the same key may still
    IN_FLIGHT = "in_flight"  # another request with this key is being worked on
    UNKNOWN = "unknown"  # nobody can say; look it up
    DIFFERS = "differs"  # the key was used with other parameters: our own fault


class Action(enum.StrEnum):
    """The executor's reaction to an answer."""

    SAME_KEY = "same_key"  # the same bytes again, a little later
    SLOW_DOWN = "slow_down"  # the same, and everybody halves their rate
    LOOK_UP = "look_up"  # wait, then look up the existing objects
    PAUSE_RUN = "pause_run"  # nothing else will go through either; a person must act
    FREEZE_RUN = "freeze_run"  # stop, and page; compliance looks
    HOLD_PAYEE = "hold_payee"  # this person cannot be paid now; the others can


@dataclass(frozen=True)
class Verdict:
    outcome: Outcome
    action: Action
    hold: HoldReason | None = None


NO_ANSWER = Verdict(Outcome.UNKNOWN, Action.LOOK_UP)
SERVER_FAILED = Verdict(Outcome.UNKNOWN, Action.LOOK_UP)
RATE_LIMITED = Verdict(Outcome.NOT_EXECUTED, Action.SLOW_DOWN)
KEY_IN_USE = Verdict(Outcome.IN_FLIGHT, Action.SAME_KEY)
LOCKED = Verdict(Outcome.NOT_EXECUTED, Action.SAME_KEY)
NO_BALANCE = Verdict(Outcome.REFUSED, Action.PAUSE_RUN)
FOR_RISK = Verdict(Outcome.REFUSED, Action.FREEZE_RUN)
OUR_KEY = Verdict(Outcome.REFUSED, Action.PAUSE_RUN)
KEY_REUSED = Verdict(Outcome.DIFFERS, Action.FREEZE_RUN)


def _held(reason: HoldReason) -> Verdict:
    return Verdict(Outcome.REFUSED, Action.HOLD_PAYEE, reason)


# (HTTP status, code) -> verdict. A code of None is the rest of that status.
TABLE: dict[tuple[int, str | None], Verdict] = {
    (400, "rate_limit"): RATE_LIMITED,
    (400, "lock_timeout"): LOCKED,
    (400, "idempotency_key_in_use"): KEY_IN_USE,
    (400, "idempotency_error"): KEY_REUSED,
    (404, "idempotency_error"): KEY_REUSED,
    (400, "balance_insufficient"): NO_BALANCE,
    (400, "insufficient_funds"): NO_BALANCE,
    (402, "balance_insufficient"): NO_BALANCE,
    (402, "insufficient_funds"): NO_BALANCE,
    (400, "account_invalid"): _held(HoldReason.ACCOUNT_DISCONNECTED),
    (403, "account_invalid"): _held(HoldReason.ACCOUNT_DISCONNECTED),
    (400, "no_account"): _held(HoldReason.ACCOUNT_DISCONNECTED),
    (400, "resource_missing"): _held(HoldReason.ACCOUNT_DISCONNECTED),
    (404, "resource_missing"): _held(HoldReason.ACCOUNT_DISCONNECTED),
    (400, "account_closed"): _held(HoldReason.ACCOUNT_DISCONNECTED),
    (400, "transfers_not_allowed"): _held(HoldReason.TRANSFERS_CAPABILITY_INACTIVE),
    (400, "insufficient_capabilities_for_transfer"): _held(HoldReason.TRANSFERS_CAPABILITY_INACTIVE),
    (400, "capability_not_active"): _held(HoldReason.TRANSFERS_CAPABILITY_INACTIVE),
    (400, "payouts_not_allowed"): _held(HoldReason.PAYOUTS_DISABLED),
    (400, "country_unsupported"): _held(HoldReason.COUNTRY_UNSUPPORTED),
    (400, "account_country_invalid_address"): _held(HoldReason.COUNTRY_UNSUPPORTED),
    (400, "currency_unsupported"): _held(HoldReason.CURRENCY_UNSUPPORTED),
    (400, "invalid_currency"): _held(HoldReason.CURRENCY_UNSUPPORTED),
    (400, "amount_too_small"): _held(HoldReason.AMOUNT_OUT_OF_RANGE),
    (400, "amount_too_large"): _held(HoldReason.AMOUNT_OUT_OF_RANGE),
    (400, "parameter_invalid_integer"): _held(HoldReason.AMOUNT_OUT_OF_RANGE),
    (400, "anomalous_money_movement_request"): FOR_RISK,
    (400, "request_blocked"): FOR_RISK,
    (400, "action_blocked"): FOR_RISK,
    (403, "request_blocked"): FOR_RISK,
    (403, "action_blocked"): FOR_RISK,
    # A refusal by Stripe for a reason that no row names: this payee waits for a person, the others are paid.
    (400, None): _held(HoldReason.REFUSED_BY_STRIPE),
    (402, None): _held(HoldReason.REFUSED_BY_STRIPE),
    (404, None): _held(HoldReason.REFUSED_BY_STRIPE),
    (401, None): OUR_KEY,
    (403, None): OUR_KEY,
    (409, "idempotency_key_in_use"): KEY_IN_USE,
    (409, "lock_timeout"): LOCKED,
    (409, None): KEY_IN_USE,
    (424, None): SERVER_FAILED,
    (429, "lock_timeout"): LOCKED,
    (429, None): RATE_LIMITED,
}


def classify(status: int | None, code: str | None, *, kind: str | None = None, message: str = "") -> Verdict:
    """The verdict on an answer. `kind` is the error's `type`; `status` None means that there was no answer."""
    if status is None:
        return NO_ANSWER
    if kind == "idempotency_error" and status in (400, 404) and (code is None or (status, code) not in TABLE):
        return KEY_REUSED
    if status == 403 and "access to account" in message:
        # The contributor disconnected the platform; the key itself is fine.
        return _held(HoldReason.ACCOUNT_DISCONNECTED)
    if (status, code) in TABLE:
        return TABLE[status, code]
    if (status, None) in TABLE:
        return TABLE[status, None]
    if status >= 500 or status < 400:
        return SERVER_FAILED
    return _held(HoldReason.REFUSED_BY_STRIPE)


class UnableToUseStripe(Exception):
    """Stripe did not fulfil the request, or the result is unknown. `verdict` gives its meaning for money."""

    status = 502
    problem = "stripe-failed"

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        code: str | None = None,
        kind: str | None = None,
        replayed: bool = False,
        verdict: Verdict | None = None,
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code or ""
        self.replayed = replayed
        self.verdict = verdict or classify(http_status, code, kind=kind, message=message)

    @property
    def is_stored(self) -> bool:
        """Tell whether Stripe will repeat exactly this answer to the same key."""
        return self.replayed


class UnableToSend(UnableToUseStripe):
    """Nothing went on the wire, and we know it: too late in the lease, other bytes, or no slot."""

    problem = "not-sent"

    def __init__(self, message: str, *, differs: bool = False) -> None:
        super().__init__(message, verdict=KEY_REUSED if differs else LOCKED)
