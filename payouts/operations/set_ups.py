"""Opening an account at Stripe: one attempt at a time, each with its own key and frozen parameters.

A lost answer is asked for again under the same key. A failure that Stripe stored ends the attempt, so that the next try
has a new key. Before an attempt is given up without an answer, Stripe's list of accounts is searched for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from payouts.attempts.pace import LIVE, Pace
from payouts.models import PayoutAccount, SetUpAttempt
from payouts.rails.stripe import calls, errors, values
from payouts.rails.stripe.errors import Outcome
from people.models import User

# Stripe's clock and ours differ by less.
CLOCKS_APART_MAX = timedelta(hours=1)
LISTED_MAX = 2000


def open_at_stripe(
    *, account: PayoutAccount, parameters: Mapping[str, Any], by: User, at: datetime, pace: Pace = LIVE
) -> tuple[SetUpAttempt, values.Account]:
    """Open an account with these parameters, or finish the attempt that is open. Commits each attempt before it is
    sent.

    Raises UnableToUseStripe where Stripe did not open it, or gave no answer.
    """
    attempt, is_new = _take_up(account, parameters, by, at)
    if not is_new and (at - attempt.first_sent_at).total_seconds() >= pace.safe_replay:
        # Stripe may have forgotten the key, and would open a second account.
        if (found := _look_up(attempt)) is not None:
            return attempt, found
        _fail(attempt, "Stripe never answered, and lists no such account.", at)
        attempt, _ = _take_up(account, parameters, by, at)
    try:
        return attempt, _send(attempt, at)
    except errors.UnableToUseStripe as error:
        if not error.is_stored or not _is_over(attempt):
            raise
    # The answer was that of an earlier try. A new attempt begins at once.
    attempt, _ = _take_up(account, parameters, by, at)
    return attempt, _send(attempt, at)


@transaction.atomic(durable=True)
def _take_up(
    account: PayoutAccount, parameters: Mapping[str, Any], by: User, at: datetime
) -> tuple[SetUpAttempt, bool]:
    """Return the open attempt, or a new one; and whether it is new."""
    account = PayoutAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
    known = account.set_ups.filter(provider_account_id__isnull=True, failed_at__isnull=True).first()
    if known is not None:
        return known, False
    number = account.set_ups.count() + 1
    # The first key is that of the account alone, as it always was.
    key = f"account_{account.public_id.hex}" + (f"_{number}" if number > 1 else "")
    made = SetUpAttempt.objects.create(
        account=account,
        number=number,
        idempotency_key=key,
        parameters={**parameters, "metadata": {**parameters["metadata"], "set_up": key}},
        requested_by=by,
        first_sent_at=at,
    )
    return made, True


def _send(attempt: SetUpAttempt, at: datetime) -> values.Account:
    try:
        return calls.create_account(**attempt.parameters, idempotency_key=attempt.idempotency_key)
    except errors.UnableToUseStripe as error:
        if error.verdict.outcome in (Outcome.REFUSED, Outcome.DIFFERS):
            _fail(attempt, str(error), at)
        elif error.is_stored:
            # The key will never do anything else. The request may have had an effect all the same.
            if (found := _look_up(attempt)) is not None:
                return found
            _fail(attempt, str(error), at)
        raise


def _look_up(attempt: SetUpAttempt) -> values.Account | None:
    """Return the account of the attempt, from the latest LISTED_MAX of Stripe's list."""
    listed = calls.list_accounts(since=attempt.first_sent_at - CLOCKS_APART_MAX)
    for found in itertools.islice(listed, LISTED_MAX):
        if found.set_up == attempt.idempotency_key:
            return found
    return None


def _fail(attempt: SetUpAttempt, words: str, at: datetime) -> None:
    SetUpAttempt.objects.filter(pk=attempt.pk, provider_account_id__isnull=True, failed_at__isnull=True).update(
        failed_at=at, error_message=words[:500]
    )


def _is_over(attempt: SetUpAttempt) -> bool:
    return SetUpAttempt.objects.filter(pk=attempt.pk, failed_at__isnull=False).exists()
