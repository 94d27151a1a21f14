"""The list of differences: a thing stands on it once, and a difference that a person explained does not come back."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction

from payouts.models import Difference, Payout, PayoutRun


def open_difference(
    *,
    type_: Difference.Type,
    currency: str,
    subject: str,
    words: str,
    at: datetime,
    expected: str = "",
    found: str = "",
    run: PayoutRun | None = None,
    payout: Payout | None = None,
) -> None:
    """Put it on the list, unless it stands there or was signed off with the same figures."""
    if is_explained(type_=type_, currency=currency, subject=subject, found=found):
        return
    try:
        with transaction.atomic():
            Difference.objects.create(
                type=type_,
                currency=currency,
                subject=subject[:120],
                expected=expected[:200],
                found=found[:200],
                words=words,
                run=run,
                payout=payout,
                found_at=at,
            )
    except IntegrityError as error:
        if "a_difference_is_open_once" not in str(error):
            raise


def is_explained(*, type_: Difference.Type, currency: str, subject: str, found: str) -> bool:
    """Tell whether a person signed it off, with the same figures."""
    return Difference.objects.filter(
        type=type_, currency=currency, subject=subject[:120], found=found[:200], state=Difference.State.SIGNED_OFF
    ).exists()
