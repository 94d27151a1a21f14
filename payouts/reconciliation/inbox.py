"""Stripe's events: stored once, and then believed only as hints. The object is fetched again.

An event may come late, twice, out of order or for something this side has not committed yet. The object's present state
at Stripe is applied, monotone, under one advisory lock per object. So order does not matter, and an event for a
transfer with a lost answer is crash recovery by another road.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Q

from payouts.attempts import recording
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import (
    EndedAccount,
    IgnoredEvent,
    Payout,
    PayoutAccount,
    PayoutAttempt,
    SetUpAttempt,
    WebhookEvent,
)
from payouts.operations import funding, reversals
from payouts.operations.accounts import disconnect_account, sync_account
from payouts.rails.stripe import calls, client, errors, webhooks
from payouts.rails.stripe.values import ToppedUp, Transfer
from payouts.reconciliation.bank_payouts import sync_bank_payout
from people import actor
from people.models import User

# The waits between the tries of an event: nine tries over four days, as long as Stripe itself delivers again.
WAITS = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=3),
    timedelta(hours=12),
    timedelta(days=1),
    timedelta(days=2),
)
TRIES_MAX = len(WAITS) + 1


class UnableToRecordWebhook(Exception):
    """The event is of the other mode than this installation's, or lacks a field that every event has."""

    status = 400
    problem = "event-refused"


class _NotYet(Exception):
    """Nothing here knows the object yet."""


class _NotOurs(Exception):
    """The object belongs to another application, or to another programme on the same Stripe account."""


def is_live() -> bool:
    return client.is_live()


def why_ignored(event: dict[str, Any]) -> IgnoredEvent.Reason | None:
    """Return why a signed event is answered and not stored; None for one that is stored."""
    if event.get("object") == webhooks.THIN:
        return IgnoredEvent.Reason.THIN
    if bool(event.get("livemode")) != is_live():
        return IgnoredEvent.Reason.OTHER_MODE
    return None


def count_ignored(*, endpoint: str, reason: IgnoredEvent.Reason, event: dict[str, Any], at: datetime) -> None:
    """Count an event that is not stored, so that the console can say that such events come."""
    row, made = IgnoredEvent.objects.get_or_create(
        endpoint=endpoint,
        reason=reason,
        type=str(event.get("type") or "")[:100],
        defaults={"first_at": at, "last_at": at, "last_event_id": event["id"][:64]},
    )
    if not made:
        IgnoredEvent.objects.filter(pk=row.pk).update(n=F("n") + 1, last_at=at, last_event_id=event["id"][:64])


_INSERT = """
INSERT INTO payouts_webhookevent (endpoint, event_id, account, type, object_id, created, livemode, payload, headers,
                                  received_at, state, tries, error)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'received', 0, '')
ON CONFLICT ON CONSTRAINT webhook_once DO NOTHING RETURNING id
"""


def record_webhook(
    *, endpoint: str, event: dict[str, Any], payload: str, headers: dict[str, str], at: datetime
) -> int | None:
    """Store a verified event once. Returns its row, or None when it was there.

    Raises UnableToRecordWebhook for an event of the other mode, and for one that lacks a field of every event.
    """
    if bool(event.get("livemode")) != is_live():
        raise UnableToRecordWebhook("The event's livemode is not this installation's.")
    subject = (event.get("data") or {}).get("object") or {}
    try:
        created = datetime.fromtimestamp(int(event["created"]), UTC)
        values = [
            endpoint, event["id"][:64], str(event.get("account") or "")[:64], str(event["type"])[:100],
            str(subject.get("id") or "")[:64], created, bool(event.get("livemode")), payload, json.dumps(headers), at,
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise UnableToRecordWebhook(f"The event lacks a part that every event has: {error!r}.") from error
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
        row = cursor.fetchone()
    return int(row[0]) if row else None


def apply_webhook(*, event_id: int, at: datetime) -> str:
    """Act on a stored event, once; returns its state. An event about an object unknown here is tried again, TRIES_MAX
    times over four days, and is dead then. One about an object of somebody else is ignored, with the reason."""
    event = WebhookEvent.objects.get(pk=event_id)
    if event.state not in WebhookEvent.WAITING:
        return event.state
    try:
        known = _apply(event, at)
    except _NotOurs as error:
        return _ignore(event, str(error), at)
    except _NotYet as error:
        return _try_later(event, str(error), at)
    except errors.UnableToUseStripe as error:
        return _try_later(event, f"Stripe could not be asked: {error}", at)
    state = WebhookEvent.State.APPLIED if known else WebhookEvent.State.IGNORED
    WebhookEvent.objects.filter(pk=event.pk, state__in=WebhookEvent.WAITING).update(
        state=state, applied_at=at, error="", tries=event.tries + 1
    )
    return state


def put_off(*, event_id: int, error: str, at: datetime) -> str:
    """Try a stored event again later, after any kind of failure; returns its state. Dead after TRIES_MAX tries."""
    return _try_later(WebhookEvent.objects.get(pk=event_id), error, at)


def _try_later(event: WebhookEvent, error: str, at: datetime) -> str:
    is_last = event.tries + 1 >= TRIES_MAX
    state = WebhookEvent.State.DEAD if is_last else WebhookEvent.State.RETRYING
    wait = WAITS[min(event.tries, len(WAITS) - 1)]
    WebhookEvent.objects.filter(pk=event.pk, state__in=WebhookEvent.WAITING).update(
        state=state, tries=event.tries + 1, next_try_at=at + wait, error=error[:500]
    )
    return state


def _ignore(event: WebhookEvent, reason: str, at: datetime) -> str:
    WebhookEvent.objects.filter(pk=event.pk, state__in=WebhookEvent.WAITING).update(
        state=WebhookEvent.State.IGNORED, applied_at=at, error=reason[:500], tries=event.tries + 1
    )
    return WebhookEvent.State.IGNORED


class UnableToReplay(Exception):
    """The event is not dead."""

    status = 409
    problem = "event-not-replayed"


@transaction.atomic
def replay_webhook(
    *, event: WebhookEvent, at: datetime, by: User | None = None, seen: actor.Presence = actor.NOBODY
) -> WebhookEvent:
    """Take a dead event up again: tried once more, and dead again if nothing here knows its object even now.

    Raises UnableToReplay for an event that is not dead.
    """
    if by is not None:
        actor.require_role(by, "finance_maker", "finance_checker", "compliance", "admin")
    taken = WebhookEvent.objects.filter(pk=event.pk, state=WebhookEvent.State.DEAD).update(
        state=WebhookEvent.State.RETRYING, next_try_at=at
    )
    if not taken:
        raise UnableToReplay("Only a dead letter is taken up again; this event is not one.")
    actor.audit(by=by, action="replay_webhook", subject=f"event:{event.event_id}", at=at, seen=seen)
    event.refresh_from_db()
    return event


def back_fill(*, since: datetime, at: datetime, accounts: Iterable[str] = ("",)) -> int:
    """Fetch events that were never delivered, and store them by the same road. Returns how many were new."""
    new = 0
    for account in accounts:
        for event in calls.list_events(since=since, account=account):
            endpoint = WebhookEvent.Endpoint.CONNECT if account else WebhookEvent.Endpoint.PLATFORM
            if account:
                event = {**event, "account": account}
            stored = record_webhook(
                endpoint=endpoint,
                event=event,
                payload=json.dumps(event, default=str),
                headers={"back-filled": "1"},
                at=at,
            )
            new += stored is not None
    return new


def _apply(event: WebhookEvent, at: datetime) -> bool:
    """Tell whether this kind of event means anything here.

    Raises _NotYet for an object that nobody knows yet, and _NotOurs for one of somebody else.
    """
    kind, name = event.type, event.object_id
    if kind.startswith("transfer."):
        _on_object(name, lambda: _sync_transfer(calls.retrieve_transfer(name), at))
    elif kind.startswith("topup."):
        _on_object(name, lambda: _sync_top_up(calls.retrieve_topup(name), at))
    elif kind == "account.application.deauthorized":
        account = _account(event.account)
        if account.provider_account_id == event.account:
            _on_object(event.account, lambda: disconnect_account(account=account, at=at))
    elif kind.startswith(("account.", "capability.", "person.")):
        of = event.account or name
        account = _account(of)
        # News of an account that ended says nothing about the one that the contributor has now.
        if account.provider_account_id == of:
            _on_object(of, lambda: sync_account(account=account, at=at))
    elif kind.startswith("payout.") and event.account:
        account = _account(event.account)
        _on_object(name, lambda: sync_bank_payout(account=account, payout_id=name, at=at, at_stripe=event.account))
        if Payout.objects.filter(account=account, state__in=[Payout.State.SENDING, Payout.State.UNKNOWN]).exists():
            # Its money may be part of the payout to the bank, and cannot be told by its payment before that is known.
            raise _NotYet("The answer to a transfer to this account is still missing.")
    else:
        return False
    return True


def _on_object(name: str, act: Callable[[], Any]) -> None:
    """Run `act` while no other worker acts on the same object. The lock is the session's: `act` calls Stripe, and no
    transaction is open meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(7463, hashtext(%s))", [name])
    try:
        act()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(7463, hashtext(%s))", [name])


def _account(provider_account_id: str) -> PayoutAccount:
    """Return the payout account that has, or once had, this account at Stripe."""
    had = EndedAccount.objects.filter(provider_account_id=provider_account_id).values("account")
    account = PayoutAccount.objects.filter(Q(provider_account_id=provider_account_id) | Q(pk__in=had)).first()
    if account is None and SetUpAttempt.objects.filter(provider_account_id=None, failed_at=None).exists():
        raise _NotYet(f"No payout account is {provider_account_id}, but one is just being opened.")
    if account is None:
        raise _NotOurs(f"No contributor here has or had the account {provider_account_id}.")
    return account


# --- pure functions of the remote state ---------------------------------------------------------------------------
def _sync_transfer(transfer: Transfer, at: datetime) -> None:
    """Adopt a transfer (its answer may have been lost) and its reversals.

    A second transfer of a payout, or an odd one, is not adopted. Its reversals are then none of the payout's, and
    record_reversal only puts them on the list.
    """
    attempt = PayoutAttempt.objects.filter(provider_transfer_id=transfer.id).select_related("payout").first()
    if attempt is None:
        if not _public_ids(transfer):
            raise _NotOurs(f"The transfer {transfer.id} carries no mark of a payout; the daily comparison lists it.")
        payout = Payout.objects.filter(public_id__in=_public_ids(transfer)).first()
        attempt_id = recording.attempt_of(payout.pk, transfer) if payout is not None else None
        if payout is None or attempt_id is None:
            raise _NotYet(f"No payout has the transfer {transfer.id}.")
        crashpoint(CrashPoint.WEBHOOK_APPLYING)
        with transaction.atomic():
            recording.record_transfer(attempt_id=attempt_id, transfer=transfer, at=at)
            crashpoint(CrashPoint.WEBHOOK_APPLIED)
        is_news = transfer.reversed_minor > 0
    else:
        payout = attempt.payout
        is_news = transfer.reversed_minor > payout.reversed_minor
    if is_news:
        for reversal in calls.list_reversals(transfer.id):
            reversals.record_reversal(payout_id=payout.pk, reversal=reversal, at=at)


def _public_ids(transfer: Transfer) -> list[str]:
    named = transfer.transfer_group.removeprefix("payout_")
    return [named] if len(named) == 32 and all(c in "0123456789abcdef" for c in named) else []


def _sync_top_up(made: ToppedUp, at: datetime) -> None:
    topup = funding.top_up_of(made)
    if topup is not None:
        funding.apply_top_up(topup=topup, made=made, at=at)
    elif funding.note_top_up(made=made, at=at) is None:
        raise _NotOurs(f"The top-up {made.id} moved no money of a currency of ours.")
