"""Every way in which the sandbox says no, in Stripe's own shape.

One exception carries the fields of Stripe's error object. The constructors below name the refusals, so that a refusing
line reads as a sentence. Codes and texts: https://docs.stripe.com/error-codes.
"""

from __future__ import annotations

import json
from typing import Any

INVALID = "invalid_request_error"


class UnableToServe(Exception):
    """A request that gets an error for an answer."""

    def __init__(
        self, message: str, *, code: str = "", param: str = "", status: int = 400, kind: str = INVALID
    ) -> None:
        super().__init__(message)
        self.message, self.code, self.param, self.status, self.kind = message, code, param, status, kind

    def body(self, request_id: str) -> str:
        error: dict[str, Any] = {"message": self.message, "type": self.kind}
        if self.code:
            error |= {
                "code": self.code,
                "doc_url": f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}",
            }
        if self.param:
            error["param"] = self.param
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return json.dumps({"error": error}, indent=2)


def _masked(key: str) -> str:
    return f"{key[:8]}{'*' * 8}{key[-4:]}" if len(key) > 16 else "*" * len(key)


def no_key() -> UnableToServe:
    return UnableToServe(
        "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer "
        "auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
        status=401,
    )


def unknown_key(key: str) -> UnableToServe:
    return UnableToServe(f"Invalid API Key provided: {_masked(key)}", status=401)


def read_only_key(key: str, permission: str) -> UnableToServe:
    return UnableToServe(
        f"The provided key '{_masked(key)}' does not have the required permissions for this endpoint. Having the "
        f"'{permission}' permission would allow this request to continue.",
        code="more_permissions_required",
        status=403,
    )


def no_access(key: str, account: str) -> UnableToServe:
    return UnableToServe(
        f"The provided key '{_masked(key)}' does not have access to account '{account}' (or that account does not "
        "exist). Application access may have been revoked.",
        code="account_invalid",
        status=403,
    )


def no_such_url(method: str, path: str) -> UnableToServe:
    return UnableToServe(
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        status=404,
    )


def no_such(noun: str, reference: str, *, param: str = "id", status: int = 404) -> UnableToServe:
    return UnableToServe(f"No such {noun}: '{reference}'", code="resource_missing", param=param, status=status)


def rate_limited() -> UnableToServe:
    return UnableToServe(
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        status=429,
    )


def lock_timeout() -> UnableToServe:
    return UnableToServe(
        "This object cannot be accessed right now because another API request or Stripe process is currently "
        "accessing it. If you see this error intermittently, retry the request.",
        code="lock_timeout",
        status=409,
    )


def key_in_use(key: str) -> UnableToServe:
    return UnableToServe(
        f"There is currently another in-progress request using this Idempotent Key ({key}). Please try again later.",
        code="idempotency_key_in_use",
        status=409,
        kind="idempotency_error",
    )


def key_reused(key: str) -> UnableToServe:
    return UnableToServe(
        "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using "
        f"a key other than '{key}' if you meant to execute a different request.",
        kind="idempotency_error",
    )


def key_too_long() -> UnableToServe:
    return UnableToServe("Idempotency keys can be at most 255 characters.", kind="idempotency_error")


def server_error() -> UnableToServe:
    return UnableToServe(
        "An unknown error occurred. If you have questions, contact us via https://support.stripe.com/.",
        status=500,
        kind="api_error",
    )


def unknown_parameter(param: str) -> UnableToServe:
    return UnableToServe(f"Received unknown parameter: {param}", code="parameter_unknown", param=param)


def missing_parameter(param: str) -> UnableToServe:
    return UnableToServe(f"Missing required param: {param}.", code="parameter_missing", param=param)


def invalid_integer(param: str, value: object) -> UnableToServe:
    return UnableToServe(f"Invalid integer: {value}", code="parameter_invalid_integer", param=param)


def not_positive(param: str) -> UnableToServe:
    return UnableToServe(
        "This value must be greater than or equal to 1.", code="parameter_invalid_integer", param=param
    )


def too_large() -> UnableToServe:
    return UnableToServe(
        "Amount must be no more than 99999999 of the currency's smallest unit.", code="amount_too_large", param="amount"
    )


def unsupported_currency(currency: str) -> UnableToServe:
    return UnableToServe(f"Invalid currency: {currency}. The sandbox does not know it.", param="currency")


def insufficient_balance() -> UnableToServe:
    return UnableToServe(
        "You have insufficient available funds in your Stripe account. Try adding funds directly to your available "
        "balance by creating a top-up.",
        code="balance_insufficient",
    )


def insufficient_capabilities() -> UnableToServe:
    return UnableToServe(
        "Your destination account needs to have at least one of the following capabilities enabled: transfers, "
        "crypto_transfers, legacy_payments",
        code="insufficient_capabilities_for_transfer",
    )


def payouts_not_allowed() -> UnableToServe:
    return UnableToServe(
        "Cannot create payouts: this account has requirements that need to be collected, or no working bank account.",
        code="payouts_not_allowed",
    )


def not_expandable(path: str) -> UnableToServe:
    return UnableToServe(f"This property cannot be expanded ({path}).", param="expand")
