"""Effects of time: money becomes available, payouts leave and arrive, top-ups succeed, old keys are forgotten.

Each due step is its own transaction under its own lock. A killed server therefore goes on with the rest, and the
background clock and a moved clock may run at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from django.db import transaction
from django.db.models import Min, Model, Q, QuerySet

from stripe_sandbox import bank_payouts, configuration, money
from stripe_sandbox.accounts import meet_deadlines, next_midnight
from stripe_sandbox.events import emit
from stripe_sandbox.models import Account, Balance, BalanceTransaction, Payout, StoredAnswer, Topup

KEYS_KEPT = timedelta(hours=24)
ADVANCE_SECONDS_MAX = 366 * 86_400
_one_at_a_time = threading.Lock()
Row = TypeVar("Row", bound=Model)


def tick(*, at: datetime) -> None:
    """Do everything that is due at `at`."""
    _mature(at)
    _each(Topup.objects.filter(status="pending", available_on__lte=at), _succeed_topup, at)
    _each(Payout.objects.filter(next_step_at__lte=at), _step, at)
    asked = Q(current_deadline__lte=at) | Q(future_deadline__lte=at)
    _each(Account.objects.filter(asked), _meet_deadlines, at)
    due = Account.objects.filter(next_payout_at__lte=at)
    held = Balance.objects.filter(available__gt=0).values("account")
    _each(due.filter(reference__in=held, payouts_enabled=True), _pay_out, at)
    _postpone(due, at)
    StoredAnswer.objects.filter(created__lte=at - KEYS_KEPT).delete()


def _each(due: QuerySet[Row], do: Callable[[Row, datetime], None], at: datetime) -> None:
    for key in list(due.order_by("pk").values_list("pk", flat=True)):
        with transaction.atomic():
            row = due.select_for_update(skip_locked=True, no_key=True).filter(pk=key).first()
            if row is not None:
                do(row, at)


def _step(payout: Payout, at: datetime) -> None:
    bank_payouts.step(payout=payout, at=at)


def _succeed_topup(topup: Topup, at: datetime) -> None:
    money.succeed_topup(topup=topup, account=Account.objects.get(is_platform=True), at=at)


def _meet_deadlines(account: Account, at: datetime) -> None:
    meet_deadlines(account=account, at=at)


def _pay_out(account: Account, at: datetime) -> None:
    bank_payouts.pay_out_automatically(account=account, at=at)
    account.next_payout_at = bank_payouts.next_payout(account.payout_schedule, after=at)
    account.save(update_fields=["next_payout_at"])


def _postpone(due: QuerySet[Account], at: datetime) -> None:
    """Accounts with nothing to pay out wait for their next day; the daily ones, which are nearly all, in one go."""
    due.filter(payout_schedule__interval="daily").update(next_payout_at=next_midnight(at))
    for account in due:
        account.next_payout_at = bank_payouts.next_payout(account.payout_schedule, after=at)
        account.save(update_fields=["next_payout_at"])


def _mature(at: datetime) -> None:
    due = BalanceTransaction.objects.filter(status="pending", available_on__lte=at)
    waiting = due.order_by("account__reference", "currency").values_list("account__reference", "currency").distinct()
    for account_id, currency in list(waiting):
        with transaction.atomic():
            Balance.objects.select_for_update().get(account__reference=account_id, currency=currency)
            mine = list(due.filter(account__reference=account_id, currency=currency).values_list("pk", "amount"))
            BalanceTransaction.objects.filter(pk__in=[key for key, _ in mine]).update(status="available")
            total = sum(amount for _, amount in mine)
            money.add(account=account_id, currency=currency, available=total, pending=-total)
            if mine:
                account = Account.objects.get(reference=account_id)
                emit("balance.available", money.balance_json(account), at=at, account=account)


def _next_due(after: datetime) -> datetime | None:
    """The next moment at which something happens by itself."""
    moments = [
        BalanceTransaction.objects.filter(status="pending").aggregate(due=Min("available_on"))["due"],
        Topup.objects.filter(status="pending").aggregate(due=Min("available_on"))["due"],
        Payout.objects.aggregate(due=Min("next_step_at"))["due"],
        Account.objects.aggregate(due=Min("next_payout_at"))["due"],
        Account.objects.aggregate(due=Min("current_deadline"))["due"],
        Account.objects.aggregate(due=Min("future_deadline"))["due"],
    ]
    return min((max(moment, after) for moment in moments if moment is not None), default=None)


def advance(*, seconds: int) -> datetime:
    """Move the sandbox's clock forward. Steps that fall due on the way happen in their order and at their own time.

    Raises ValueError for a negative number of seconds, or more than ADVANCE_SECONDS_MAX.
    """
    if not 0 <= seconds <= ADVANCE_SECONDS_MAX:
        raise ValueError(f"seconds must lie between 0 and {ADVANCE_SECONDS_MAX}")
    with _one_at_a_time:
        target = configuration.now() + timedelta(seconds=seconds)
        while (due := _next_due(configuration.now())) is not None and due <= target:
            configuration.move_clock(to=due)
            tick(at=configuration.now())
        configuration.move_clock(to=target)
        tick(at=configuration.now())
        return configuration.now()


def catch_up() -> None:
    """One beat of the background clock; a clock that is being moved does the work itself."""
    if _one_at_a_time.acquire(blocking=False):
        try:
            configuration.reload()
            tick(at=configuration.now())
        finally:
            _one_at_a_time.release()
