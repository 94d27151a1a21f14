"""Stripe's payouts from a contributor's balance there to the bank: followed, and matched with our transfers.

Stripe lists the parts of a payout on its schedule. Of one that the payee asked for, manual or instant, it lists none;
amounts and times tell them where they can, and a note says so where they cannot.
"""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import TypeAlias

from django.db import transaction
from django.db.models import Q, QuerySet, Sum

from ledger.money import asset
from payouts.models import BankPayout, Notice, Payout, PayoutAccount, PayoutAttempt
from payouts.rails.amounts import currency_at_stripe
from payouts.rails.stripe import calls
from payouts.rails.stripe.values import BalanceTransaction, BankTransfer
from people.presentation import amounts

# A payment of the connected account, and its movement there; None where it was matched earlier.
Parts: TypeAlias = dict[str, BalanceTransaction | None]

# Of a payout that the payee asked for, so many movements of the account are looked through.
MOVEMENTS_MAX = 2000


def sync_bank_payout(*, account: PayoutAccount, payout_id: str, at: datetime, at_stripe: str = "") -> BankPayout:
    """Follow Stripe's payout from the contributor's balance to the bank. paid -> failed is the one way back.

    `at_stripe`: the account that it left, where the contributor has another one since.
    """
    at_stripe = at_stripe or str(account.provider_account_id)
    remote = calls.retrieve_bank_transfer(payout_id, account=at_stripe)
    if remote.automatic:
        parts: Parts = _parts(at_stripe, payout_id)
        note = ""
    else:
        parts, note = _parts_by_amount(account, at_stripe, remote)
    with transaction.atomic():
        known, made = BankPayout.objects.select_for_update(no_key=True).get_or_create(
            provider_payout_id=payout_id,
            defaults={
                "account": account,
                "provider_account_id": at_stripe,
                "automatic": remote.automatic,
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
        known.trace_id, known.note = remote.trace_id[:100], note
        known.save()
        if parts and not remote.automatic:
            # The amounts of those before are part of this match.
            _unmatched(account, at_stripe, remote).update(note="")
        paid = Payout.objects.filter(
            account=account, attempts__destination_payment__in=parts, attempts__kind=PayoutAttempt.Kind.PAY
        )
        payments = dict(paid.values_list("pk", "attempts__destination_payment"))
        for payout in Payout.objects.select_for_update(no_key=True).filter(pk__in=payments).order_by("pk"):
            _note_arrival(payout, known, parts[payments[payout.pk]])
            _follow(payout, known, at)
    return known


def _note_arrival(payout: Payout, bank: BankPayout, movement: BalanceTransaction | None) -> None:
    """Keep the amount that goes to the bank, with Stripe's rate, as far as Stripe's balance transaction states it."""
    if movement is not None and movement.currency == bank.currency and movement.amount_minor > movement.fee_minor:
        payout.arrived_minor = movement.amount_minor - movement.fee_minor
        payout.exchange_rate, payout.arrival_source = movement.exchange_rate[:32], movement.id[:64]
        payout.arrived_currency = bank.currency
    elif payout.arrived_minor is None:
        payout.arrived_currency = bank.currency


def _parts(account: str, payout_id: str) -> Parts:
    """Return the payments in an automatic payout to the bank with their movements, including payments of payouts that a
    bank had sent back before."""
    parts: Parts = {}
    todo, seen = [payout_id], {payout_id}
    while todo:
        one = todo.pop()
        if one != payout_id and not calls.retrieve_bank_transfer(one, account=account).automatic:
            # Stripe lists no parts of it. Those that were told by their amounts are ours to know.
            parts |= _carried(one)
            continue
        moved = {row.source: row for row in calls.list_balance_transactions(account=account, payout=one) if row.source}
        parts |= {source: row for source, row in moved.items() if not source.startswith("po_")}
        again = {source for source in moved if source.startswith("po_")} - seen
        seen |= again
        todo += sorted(again)
    return parts


def _carried(payout_id: str) -> Parts:
    """Return the payments of the payouts that are known to have gone to the bank with this one."""
    rows = PayoutAttempt.objects.filter(payout__bank_payout__provider_payout_id=payout_id).exclude(
        destination_payment=""
    )
    return dict.fromkeys(rows.values_list("destination_payment", flat=True))


UNTOLD = (
    "The payee asked for it at Stripe, which does not say which payments it carried. The amounts do not tell either."
)


def _unmatched(account: PayoutAccount, at_stripe: str, remote: BankTransfer) -> QuerySet[BankPayout]:
    """List earlier payouts of the payee's own with unknown payments, as far as they did not come back."""
    return BankPayout.objects.filter(
        account=account,
        provider_account_id=at_stripe,
        currency=remote.currency,
        automatic=False,
        made_at__lte=remote.made_at,
    ).exclude(Q(note="") | Q(state__in=["failed", "canceled"]) | Q(provider_payout_id=remote.id))


def _parts_by_amount(account: PayoutAccount, at_stripe: str, remote: BankTransfer) -> tuple[Parts, str]:
    """Return the payments that a payout of the payee's own carried, told by amount and time, and a note where that
    tells nothing.

    Money leaves in the order in which it came. The oldest payments that are still there are the ones, if their sum is
    the amount of the payout, with or without Stripe's fee, or of it and of those before it that were not told.
    """
    if known := _carried(remote.id):
        return known, ""
    until = remote.made_at + timedelta(seconds=1)
    listed = calls.list_balance_transactions(account=at_stripe, until=until)
    movements = [row for row in itertools.islice(listed, MOVEMENTS_MAX) if row.currency == remote.currency]
    fee = next((row.fee_minor for row in movements if row.source == remote.id), 0)
    earlier = _unmatched(account, at_stripe, remote).aggregate(sum=Sum("amount_minor"))["sum"] or 0
    wanted = {remote.amount_minor, remote.amount_minor + fee, remote.amount_minor + fee + earlier}
    arrived = {row.source: row for row in movements if row.amount_minor > 0}
    still_there = PayoutAttempt.objects.filter(
        payout__account=account,
        payout__destination=at_stripe,
        payout__bank_payout=None,
        payout__state=Payout.State.TRANSFERRED,
        kind=PayoutAttempt.Kind.PAY,
        destination_payment__in=arrived,
    )
    oldest_first = [row.source for row in reversed(movements)]
    waiting = set(still_there.values_list("destination_payment", flat=True))
    total = 0
    parts: Parts = {}
    for payment in dict.fromkeys(source for source in oldest_first if source in waiting):
        total += arrived[payment].amount_minor - arrived[payment].fee_minor
        parts[payment] = arrived[payment]
        if total in wanted:
            return parts, ""
    return {}, UNTOLD


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
        if payout.arrived_minor is not None and payout.arrived_currency != payout.currency:
            arrived = amounts.text_of_minor(payout.arrived_minor, currency_at_stripe(payout.arrived_currency))
            amount = f"{arrived} for {amount}"
        title, words = (
            (f"{amount} arrived", f"Your bank has {amount}.")
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
    arrival = ["arrived_minor", "arrived_currency", "exchange_rate", "arrival_source"]
    payout.save(update_fields=["state", "bank_payout", "settled_at", *arrival])
