"""The error table of the gateway: every status and code, told apart by its meaning for money."""

from __future__ import annotations

import itertools

import pytest

from payouts.models import HoldReason
from payouts.queries.hold_reasons import RULES, reason_of_disabling
from payouts.queries.payees import explain_hold
from payouts.rails.stripe.errors import TABLE, Action, Outcome, UnableToUseStripe, classify

CODES = [*sorted({code for _, code in TABLE if code}), "something_new", None]
STATUSES = [None, *range(200, 205), *range(300, 309), *range(400, 432), 451, 499, *range(500, 512), 599]


@pytest.mark.parametrize(
    ("status", "code", "outcome", "action"),
    [
        (None, None, "unknown", "look_up"),
        (409, "idempotency_key_in_use", "in_flight", "same_key"),
        (409, "lock_timeout", "not_executed", "same_key"),
        (409, None, "in_flight", "same_key"),
        (429, "rate_limit", "not_executed", "slow_down"),
        (429, None, "not_executed", "slow_down"),
        (400, "rate_limit", "not_executed", "slow_down"),
        (500, None, "unknown", "look_up"),
        (502, None, "unknown", "look_up"),
        (503, "rate_limit", "unknown", "look_up"),
        (424, None, "unknown", "look_up"),
        (400, "balance_insufficient", "refused", "pause_run"),
        (400, "insufficient_funds", "refused", "pause_run"),
        (400, "account_invalid", "refused", "hold_payee"),
        (400, "no_account", "refused", "hold_payee"),
        (400, "transfers_not_allowed", "refused", "hold_payee"),
        (400, "capability_not_active", "refused", "hold_payee"),
        (400, "payouts_not_allowed", "refused", "hold_payee"),
        (400, "country_unsupported", "refused", "hold_payee"),
        (400, "amount_too_small", "refused", "hold_payee"),
        (400, "amount_too_large", "refused", "hold_payee"),
        (400, "anomalous_money_movement_request", "refused", "freeze_run"),
        (400, "request_blocked", "refused", "freeze_run"),
        (400, "action_blocked", "refused", "freeze_run"),
        (400, "something_new", "refused", "hold_payee"),
        (401, None, "refused", "pause_run"),
        (403, None, "refused", "pause_run"),
        (200, None, "unknown", "look_up"),
    ],
)
def test_an_answer_means_what_stripes_documentation_says(
    status: int | None, code: str | None, outcome: str, action: str
) -> None:
    verdict = classify(status, code)
    assert (verdict.outcome, verdict.action) == (outcome, action)


def test_every_status_and_code_has_exactly_one_verdict_and_none_is_taken_for_success() -> None:
    for status, code in itertools.product(STATUSES, CODES):
        verdict = classify(status, code)
        # Only an answer of 4xx may say that no money moved; no answer, a success that cannot be read and a
        # failure of the server never do.
        if verdict.outcome in (Outcome.REFUSED, Outcome.NOT_EXECUTED, Outcome.IN_FLIGHT, Outcome.DIFFERS):
            assert status is not None
            assert 400 <= status < 500
        if verdict.action == Action.HOLD_PAYEE:
            assert verdict.hold is not None
            assert verdict.outcome == Outcome.REFUSED
        else:
            assert verdict.hold is None
        if verdict.action == Action.LOOK_UP:
            assert verdict.outcome == Outcome.UNKNOWN


def test_the_class_of_the_sdks_exception_decides_nothing() -> None:
    """409 arrives as a plain APIError there, and 400 under idempotency_error is not about the payee."""
    assert classify(400, None, kind="idempotency_error").outcome == Outcome.DIFFERS
    assert classify(404, None, kind="idempotency_error").outcome == Outcome.DIFFERS
    assert classify(409, "idempotency_key_in_use", kind="idempotency_error").outcome == Outcome.IN_FLIGHT
    assert classify(400, "idempotency_key_in_use", kind="idempotency_error").outcome == Outcome.IN_FLIGHT


def test_a_contributor_who_disconnected_is_held_and_the_run_goes_on() -> None:
    message = "The provided key 'sk_...' does not have access to account 'acct_1' (or that account does not exist)."
    verdict = classify(403, "account_invalid", message=message)
    assert verdict.hold == HoldReason.ACCOUNT_DISCONNECTED
    assert classify(403, None, message=message).hold == HoldReason.ACCOUNT_DISCONNECTED
    assert classify(403, None, message="This key lacks a permission.").action == Action.PAUSE_RUN


def test_an_error_carries_its_verdict() -> None:
    error = UnableToUseStripe("no money", http_status=400, code="balance_insufficient")
    assert error.verdict.action == Action.PAUSE_RUN
    assert error.code == "balance_insufficient"


@pytest.mark.parametrize("reason", HoldReason.values)
def test_every_hold_reason_has_an_owner_words_and_a_way_out(reason: str) -> None:
    rule = explain_hold(reason)
    assert rule.words.endswith((".", "!"))
    assert len(rule.remedy) > 10
    assert set(RULES) == set(HoldReason)


@pytest.mark.parametrize(
    ("disabled", "reason"),
    [
        ("requirements.past_due", HoldReason.REQUIREMENTS_PAST_DUE),
        ("requirements.pending_verification", HoldReason.STRIPE_UNDER_REVIEW),
        ("under_review", HoldReason.STRIPE_UNDER_REVIEW),
        ("listed", HoldReason.SANCTIONS_LISTED),
        ("rejected.listed", HoldReason.SANCTIONS_LISTED),
        ("rejected.fraud", HoldReason.REJECTED_BY_STRIPE),
        ("rejected.platform_terms_of_service", HoldReason.REJECTED_BY_STRIPE),
        ("action_required.requested_capabilities", HoldReason.TRANSFERS_CAPABILITY_INACTIVE),
        ("something_else", HoldReason.STRIPE_UNDER_REVIEW),
        ("", None),
    ],
)
def test_stripes_reason_for_disabling_becomes_a_hold(disabled: str, reason: HoldReason | None) -> None:
    assert reason_of_disabling(disabled) == reason
