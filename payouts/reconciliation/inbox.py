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

from ledger.money import asset
from payouts.attempts import recording
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import BankPayout, Notice, Payout, PayoutAccount, PayoutAttempt, WebhookEvent
from payouts.operations import funding, reversals
from payouts.operations.accounts import disconnect_account, sync_account
from payouts.rails.stripe import calls, client, errors
from payouts.rails.stripe.values import ToppedUp, Transfer
from people import actor
from people.models import User
from people.presentation import amounts

DEAD_AFTER = timedelta(hours=24)
RETRY_FIRST = timedelta(seconds=5)
RETRY_LAST = timedelta(minutes=30)


class UnableToRecordWebhook(Exception):
    """The event is of the other mode than this installation's, or lacks a field that every event has."""

    status = 400
    problem = "event-refused"


class _NotYet(Exception):
    """Nothing here knows the object yet."""


def is_live() -> bool:
    return client.is_live()


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
    """Act on a stored event, once; returns its state. An event about an object unknown here is tried again; dead after
    a day."""
    event = WebhookEvent.objects.get(pk=event_id)
    if event.state not in WebhookEvent.WAITING:
        return event.state
    try:
        known = _apply(event, at)
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
    """Try a stored event again later, after any kind of failure; returns its state. Dead after a day."""
    return _try_later(WebhookEvent.objects.get(pk=event_id), error, at)


def _try_later(event: WebhookEvent, error: str, at: datetime) -> str:
    state = WebhookEvent.State.DEAD if at - event.received_at >= DEAD_AFTER else WebhookEvent.State.RETRYING
    wait = min(RETRY_FIRST * 2 ** min(event.tries, 12), RETRY_LAST)
    WebhookEvent.objects.filter(pk=event.pk, state__in=WebhookEvent.WAITING).update(
        state=state, tries=event.tries + 1, next_try_at=at + wait, error=error[:500]
    )
    return state


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
    """Tell whether this kind of event means anything here; raises _NotYet for an object that nobody knows."""
    kind, name = event.type, event.object_id
    if kind.startswith("transfer."):
        _on_object(name, lambda: _sync_transfer(calls.retrieve_transfer(name), at))
    elif kind.startswith("topup."):
        _on_object(name, lambda: _sync_top_up(calls.retrieve_topup(name), at))
    elif kind == "account.application.deauthorized":
        account = _account(event.account)
        _on_object(event.account, lambda: disconnect_account(account=account, at=at))
    elif kind.startswith(("account.", "capability.", "person.")):
        account = _account(event.account or name)
        _on_object(str(account), lambda: sync_account(account=account, at=at))
    elif kind.startswith("payout.") and event.account:
        account = _account(event.account)
        _on_object(name, lambda: sync_bank_payout(account=account, payout_id=name, at=at))
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
    account = PayoutAccount.objects.filter(provider_account_id=provider_account_id).first()
    if account is None:
        raise _NotYet(f"No payout account is {provider_account_id}.")
    return account


# --- pure functions of the remote state ---------------------------------------------------------------------------
def _sync_transfer(transfer: Transfer, at: datetime) -> None:
    """Adopt a transfer (its answer may have been lost) and its reversals.

    A second transfer of a payout, or an odd one, is not adopted. Its reversals are then none of the payout's, and
    record_reversal only puts them on the list.
    """
    attempt = PayoutAttempt.objects.filter(provider_transfer_id=transfer.id).select_related("payout").first()
    if attempt is None:
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


def sync_bank_payout(*, account: PayoutAccount, payout_id: str, at: datetime) -> BankPayout:
    """Follow Stripe's payout from the contributor's balance to the bank. paid -> failed is the one way back."""
    assert account.provider_account_id is not None
    remote = calls.retrieve_bank_transfer(payout_id, account=account.provider_account_id)
    parts = _parts(account.provider_account_id, payout_id)
    with transaction.atomic():
        known, made = BankPayout.objects.select_for_update(no_key=True).get_or_create(
            provider_payout_id=payout_id,
            defaults={
                "account": account,
                "amount_minor": remote.amount_minor,
                "currency": remote.currency,
                "state": remote.state,
                "made_at": remote.made_at,
                "synced_at": at,
            },
        )
        if not made and BankPayout.RANK.get(remote.state, 0) < BankPayout.RANK.get(known.state, 0):
            return known
        known.state, known.arrives_on, known.made_at, known.synced_at = (
            remote.state,
            remote.arrives_on,
            remote.made_at,
            at,
        )
        known.failure_code, known.failure_message = remote.failure_code[:64], remote.failure_message[:500]
        known.trace_id = remote.trace_id[:100]
        known.save()
        paid = Payout.objects.filter(
            account=account, attempts__destination_payment__in=parts, attempts__kind=PayoutAttempt.Kind.PAY
        )
        for payout in Payout.objects.select_for_update(no_key=True).filter(pk__in=paid.values("pk")).order_by("pk"):
            _follow(payout, known, at)
    return known


def _parts(account: str, payout_id: str) -> set[str]:
    """Return the ids of the payments in a payout to the bank, including payments of payouts that a bank had sent back
    before."""
    parts: set[str] = set()
    todo, seen = [payout_id], {payout_id}
    while todo:
        sources = {row.source for row in calls.list_balance_transactions(account=account, payout=todo.pop())}
        parts |= {source for source in sources if source and not source.startswith("po_")}
        again = {source for source in sources if source.startswith("po_")} - seen
        seen |= again
        todo += sorted(again)
    return parts


def _follow(payout: Payout, bank: BankPayout, at: datetime) -> None:
    before = payout.bank_payout
    if before is not None and (before.made_at or before.synced_at) > (bank.made_at or bank.synced_at):
        # The bank sent the money back, and Stripe paid it again: the fate of the first payout is history.
        return
    payout.bank_payout = bank
    wanted = {"paid": Payout.State.SETTLED, "failed": Payout.State.BANK_FAILED}.get(bank.state)
    if wanted and payout.state != wanted and wanted in Payout.TRANSITIONS[payout.state]:
        payout.state = wanted
        payout.settled_at = at if wanted == Payout.State.SETTLED else None
        amount = amounts.text_of_minor(payout.amount_minor, asset(payout.currency))
        title, words = (
            (f"{amount} arrived", f"Your bank has the {amount}.")
            if wanted == Payout.State.SETTLED
            else (
                f"Your bank sent {amount} back",
                f"Your bank sent {amount} back ({bank.failure_code or 'no reason given'}). It is in your Stripe "
                "balance; check your bank details there.",
            )
        )
        Notice.objects.get_or_create(
            kind=f"payout_{wanted}",
            subject=f"payout:{payout.public_id}:{bank.provider_payout_id}",
            defaults={"contributor_id": payout.contributor_id, "title": title, "words": words, "created_at": at},
        )
    payout.save(update_fields=["state", "bank_payout", "settled_at"])


def _sync_top_up(made: ToppedUp, at: datetime) -> None:
    topup = funding.top_up_of(made)
    if topup is None:
        raise _NotYet(f"No top-up here is {made.id}.")
    funding.apply_top_up(topup=topup, made=made, at=at)
