"""Funding the balance that runs are paid from: asked for once, looked up after any doubt, booked once Stripe has it.

A top-up takes days, and Stripe remembers a key for one. So only its first answer comes from the request. From then on
it is read by its id. One with a lost answer is searched for in Stripe's list before it is sent again.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from ledger.money import ASSETS, asset, from_minor
from ledger.operations import programme
from payouts.attempts.pace import LIVE, Pace, after
from payouts.models import Difference, Notice, TopUp
from payouts.operations.differences import open_difference
from payouts.rails.stripe import calls, errors, values
from payouts.rails.stripe.errors import Outcome
from people.actor import (
    ADMIN,
    CHECKER,
    MAKER,
    NOBODY,
    Presence,
    audit,
    require_fresh_factor,
    require_role,
    require_settled_role,
)
from people.models import User, uuid7
from people.presentation import amounts

# Stripe's clock and ours differ by less.
CLOCKS_APART_MAX = timedelta(hours=1)


class UnableToFund(Exception):
    """Stripe did not take the top-up, or did not say whether it did; the words say which."""

    status = 422
    problem = "top-up-not-made"


def fund_platform(
    *,
    currency: str,
    amount_minor: int,
    by: User,
    at: datetime,
    public_id: UUID | None = None,
    seen: Presence = NOBODY,
) -> TopUp:
    """Move money from the programme's bank to its Stripe balance, and book it once Stripe has it.

    `amount_minor`: minor units of `currency`. `public_id`: the number that the page gave the top-up, so that a form
    sent twice asks for one.

    Raises UnableToFund unless the amount is positive, and for a `public_id` used with other terms. Raises it also for a
    top-up that failed.
    """
    require_role(by, MAKER, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    if amount_minor <= 0:
        raise UnableToFund("A top-up must be positive.")
    with transaction.atomic(durable=True):
        topup, made = TopUp.objects.get_or_create(
            public_id=public_id or uuid7(),
            defaults={
                "currency": currency,
                "amount_minor": amount_minor,
                "requested_by": by,
                "requested_at": at,
                "next_look_at": after(at, LIVE.lease),
            },
        )
        if (topup.currency, topup.amount_minor, topup.requested_by_id) != (currency, amount_minor, by.pk):
            raise UnableToFund("This top-up was asked for with another amount; open the page anew.")
        if made:
            audit(
                by=by,
                action="fund_platform",
                subject=f"top_up:{topup.public_id}",
                at=at,
                seen=seen,
                after={"currency": currency, "amount_minor": amount_minor},
            )
    if topup.state in (TopUp.State.FAILED, TopUp.State.REVERSED):
        raise UnableToFund(f"This top-up failed: {topup.error_message} Open the page anew for another.")
    if made:
        return _send(topup, at=at, pace=LIVE)
    return finish_top_up(topup=topup, at=at)


def finish_top_up(*, topup: TopUp, at: datetime, pace: Pace = LIVE) -> TopUp:
    """Learn the result of a top-up that was written down, and book it. Repeatable.

    Sent again, under its one key, only while Stripe is sure to remember that, and only where Stripe lists none.
    Afterwards one that Stripe does not list has failed, and stands on the list of differences for a person to look at.
    Raises UnableToFund where Stripe did not take it or could not be asked.
    """
    topup.refresh_from_db()
    if topup.state != TopUp.State.REQUESTED:
        return topup
    try:
        found = _look_up(topup)
    except errors.UnableToUseStripe as error:
        TopUp.objects.filter(pk=topup.pk).update(next_look_at=after(at, pace.look_up_again))
        raise UnableToFund(f"The result of the top-up could not be looked up: {error} {_NOT_ANOTHER}") from error
    if found is not None:
        return apply_top_up(topup=topup, made=found, at=at, pace=pace)
    if not _may_send_again(topup, at=at, pace=pace):
        topup.refresh_from_db()
        return topup
    return _send(topup, at=at, pace=pace)


_NOT_ANOTHER = "It is looked up by itself; do not ask for another before it has an end in the list."


def _look_up(topup: TopUp) -> values.ToppedUp | None:
    if topup.provider_topup_id is not None:
        return calls.retrieve_topup(topup.provider_topup_id)
    since = topup.requested_at - CLOCKS_APART_MAX
    return next((made for made in calls.list_topups(since=since) if made.key == topup.idempotency_key), None)


@transaction.atomic(durable=True)
def _may_send_again(topup: TopUp, *, at: datetime, pace: Pace) -> bool:
    """After a look-up that found nothing: count the send that follows, or end the top-up."""
    topup = TopUp.objects.select_for_update(no_key=True).get(pk=topup.pk)
    if topup.state != TopUp.State.REQUESTED or topup.provider_topup_id is not None:
        return False
    if (at - topup.requested_at).total_seconds() < pace.safe_replay:
        topup.sends += 1
        topup.next_look_at = after(at, pace.lease)
        topup.save(update_fields=["sends", "next_look_at"])
        return True
    words = "No answer to a top-up ever came, and Stripe lists none; it is not asked for again."
    topup.state, topup.error_message = TopUp.State.FAILED, words
    topup.save(update_fields=["state", "error_message"])
    open_difference(
        type_=Difference.Type.MISSING_REMOTE,
        currency=topup.currency,
        subject=topup.idempotency_key,
        expected=str(topup.amount_minor),
        words=words,
        at=at,
    )
    return False


def _send(topup: TopUp, *, at: datetime, pace: Pace) -> TopUp:
    try:
        made = calls.create_topup(
            amount_minor=topup.amount_minor,
            currency=topup.currency,
            description="Royalty payouts",
            idempotency_key=topup.idempotency_key,
        )
    except errors.UnableToUseStripe as error:
        if _record_failure(topup, error, at=at, pace=pace).state == TopUp.State.FAILED:
            raise UnableToFund(f"Stripe refused the top-up: {error} Open the page anew for another.") from error
        raise UnableToFund(f"Stripe did not say whether it took the top-up: {error} {_NOT_ANOTHER}") from error
    return apply_top_up(topup=topup, made=made, at=at, pace=pace)


@transaction.atomic
def _record_failure(topup: TopUp, error: errors.UnableToUseStripe, *, at: datetime, pace: Pace) -> TopUp:
    topup = TopUp.objects.select_for_update(no_key=True).get(pk=topup.pk)
    if topup.state != TopUp.State.REQUESTED:
        return topup
    outcome = error.verdict.outcome
    # A 401 or 403 says something about our key, and nothing about the effect of an earlier send.
    is_whole_story = topup.sends == topup.sends_not_executed + 1 or error.http_status not in (401, 403)
    topup.error_message = str(error)[:500]
    if outcome == Outcome.REFUSED and is_whole_story:
        topup.state = TopUp.State.FAILED
    elif outcome == Outcome.NOT_EXECUTED:
        topup.sends_not_executed += 1
    topup.next_look_at = after(at, pace.server_error_quiet)
    topup.save(update_fields=["state", "error_message", "sends_not_executed", "next_look_at"])
    return topup


@transaction.atomic
def note_top_up(*, made: values.ToppedUp, at: datetime) -> TopUp | None:
    """Write down a top-up that somebody made at Stripe's dashboard. It waits for a person to book it.

    Returns None for one that moved no money, or money of a currency that the books do not know.
    """
    if made.state in ("failed", "canceled") or made.currency not in ASSETS or made.amount_minor <= 0:
        return None
    topup, _ = TopUp.objects.get_or_create(
        provider_topup_id=made.id,
        defaults={
            "currency": made.currency,
            "amount_minor": made.amount_minor,
            "state": TopUp.State.FOUND,
            "requested_at": at,
            "sends": 0,
        },
    )
    return topup


def book_top_up(*, topup: TopUp, by: User, at: datetime, seen: Presence = NOBODY) -> TopUp:
    """Book a top-up that was made at Stripe, once Stripe has the money. The amount is Stripe's own.

    Raises UnableToFund for one that was booked or failed, that is still on its way, or where Stripe gave no answer.
    """
    require_role(by, MAKER, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    try:
        made = calls.retrieve_topup(str(topup.provider_topup_id))
    except errors.UnableToUseStripe as error:
        raise UnableToFund(f"Stripe could not be asked about the top-up: {error} Nothing was booked.") from error
    with transaction.atomic():
        topup = TopUp.objects.select_for_update(no_key=True).get(pk=topup.pk)
        if topup.state != TopUp.State.FOUND:
            raise UnableToFund("This top-up is not waiting to be booked.")
        if (topup.amount_minor, topup.currency) != (made.amount_minor, made.currency):
            raise UnableToFund("Stripe gives another amount than before. Nothing was booked; look at it at Stripe.")
        if made.state == "pending":
            raise UnableToFund("The money has not arrived at Stripe yet. Book the top-up when it has.")
        topup.booked_by = by
        if made.state in ("failed", "canceled"):
            topup.booked_by = None
        audit(
            by=by,
            action="book_top_up",
            subject=f"top_up:{topup.public_id}",
            at=at,
            seen=seen,
            after={"currency": topup.currency, "amount_minor": topup.amount_minor, "at_stripe": made.id},
        )
        _book(topup, made, at=at, pace=LIVE)
        if topup.state == TopUp.State.SUCCEEDED and made.state == "reversed":
            _book_back(topup, at=at)
    return topup


@transaction.atomic
def apply_top_up(*, topup: TopUp, made: values.ToppedUp, at: datetime, pace: Pace = LIVE) -> TopUp:
    """Book a top-up as Stripe reports it: once it succeeded, and once only; and book it back where the bank took it
    back later. A top-up that differs from our record is not booked, and stands on the list of differences."""
    topup = TopUp.objects.select_for_update(no_key=True).get(pk=topup.pk)
    if (odd := _oddity(topup, made)) is not None:
        type_, expected, found, words = odd
        open_difference(
            type_=type_, currency=topup.currency, subject=made.id, expected=expected, found=found, words=words, at=at
        )
        return topup
    if topup.state == TopUp.State.REQUESTED:
        _book(topup, made, at=at, pace=pace)
    if topup.state == TopUp.State.FOUND and made.state in ("failed", "canceled"):
        _book(topup, made, at=at, pace=pace)
    if topup.state == TopUp.State.SUCCEEDED and made.state == "reversed":
        _book_back(topup, at=at)
    return topup


def _book(topup: TopUp, made: values.ToppedUp, *, at: datetime, pace: Pace) -> None:
    topup.provider_topup_id, topup.error_message = made.id, ""
    if made.state in ("failed", "canceled"):
        topup.state = TopUp.State.FAILED
        topup.error_message = f"Stripe reports it as {made.state}."
    elif made.state in ("succeeded", "reversed"):
        # One that came back before anybody here learned that it had arrived moved the balance twice.
        topup.entry = programme.top_up_stripe(
            amount=from_minor(topup.amount_minor, topup.currency), currency=topup.currency, reference=made.id, at=at
        ).entry_id
        topup.state = TopUp.State.SUCCEEDED
    topup.next_look_at = after(at, pace.look_up_again)
    topup.save(update_fields=["state", "provider_topup_id", "entry", "booked_by", "error_message", "next_look_at"])


def _book_back(topup: TopUp, *, at: datetime) -> None:
    reference = str(topup.provider_topup_id)
    assert topup.entry is not None, "A top-up that succeeded is booked."
    topup.reversal_entry = programme.reverse_top_up(entry_id=topup.entry, reference=reference, at=at).entry_id
    topup.state, topup.error_message = TopUp.State.REVERSED, "The bank took it back."
    topup.save(update_fields=["state", "reversal_entry", "error_message"])
    amount = amounts.text_of_minor(topup.amount_minor, asset(topup.currency))
    Notice.objects.create(
        kind="top_up_reversed",
        subject=f"top_up:{topup.public_id}",
        created_at=at,
        title=f"The bank took back a top-up of {amount}",
        words=f"The bank took back a top-up of {amount}. It is booked back; a run may lack the money.",
    )


def _oddity(topup: TopUp, made: values.ToppedUp) -> tuple[Difference.Type, str, str, str] | None:
    """Return the difference that keeps a top-up at Stripe from being booked as this one: (type, expected, found,
    words)."""
    kind, arrived = Difference.Type, str(made.amount_minor)
    if topup.provider_topup_id not in (None, made.id):
        first = str(topup.provider_topup_id)
        return kind.DUPLICATE_GROUP, first, arrived, "Stripe has a second top-up of one request."
    if (topup.amount_minor, topup.currency) != (made.amount_minor, made.currency):
        wanted = amounts.text_of_minor(topup.amount_minor, asset(topup.currency))
        found = f"{made.currency} {arrived} (minor units)"
        if made.currency in ASSETS:
            found = amounts.text_of_minor(made.amount_minor, asset(made.currency))
        return kind.AMOUNT, wanted, found, "A top-up at Stripe differs from the request."
    if topup.state == TopUp.State.FAILED and made.state == "succeeded":
        return kind.MISSING_LOCAL, "0", arrived, "Stripe took a top-up that had been given up, and it is not booked."
    return None


# As we put it into the metadata.
_KEY = re.compile("topup_([0-9a-f]{32})")


def top_up_of(made: values.ToppedUp) -> TopUp | None:
    """Ours that Stripe's answers: by its id, or by the key in its metadata."""
    known = TopUp.objects.filter(provider_topup_id=made.id).first()
    named = _KEY.fullmatch(made.key)
    return known or (TopUp.objects.filter(public_id=named.group(1)).first() if named else None)
