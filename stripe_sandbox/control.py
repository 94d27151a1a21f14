"""The sandbox's own controls, absent at Stripe: the clock, faults, settings, events of an account, an audit of money.

They ask for the same key as the API and answer in plain JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_http_methods

from stripe_sandbox import accounts, bank_payouts, configuration, faults, lifecycle, money, traffic
from stripe_sandbox.background import in_pool
from stripe_sandbox.gate import may_write
from stripe_sandbox.lists import unix
from stripe_sandbox.models import Account, Balance, Delivery, Event, Fault, Payout, Reversal, Topup, Transfer
from stripe_sandbox.refusals import UnableToServe


def _controlled(control: Callable[..., dict[str, Any]], *methods: str) -> Callable[..., HttpResponse]:
    """A view of `control`: key checked, body parsed, run where the database is, errors told plainly."""

    @require_http_methods(list(methods))
    def view(request: HttpRequest, **named: str) -> HttpResponse:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not may_write().get(key):
            return JsonResponse({"error": "the sandbox's controls need its secret key"}, status=401)
        try:
            given = json.loads(request.body or b"{}")
            return JsonResponse(in_pool(control, method=request.method, given=given, **named))
        except UnableToServe as refusal:
            return JsonResponse({"error": refusal.message}, status=refusal.status)
        except (KeyError, TypeError, ValueError) as error:
            return JsonResponse({"error": f"{type(error).__name__}: {error}"}, status=400)

    return view


def _advance(*, method: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"now": unix(lifecycle.advance(seconds=int(given["seconds"])))}


def _settings(*, method: str, given: dict[str, Any]) -> dict[str, Any]:
    row = configuration.change(given)
    shown = {name: getattr(row, name) for name in configuration.SETTABLE}
    return shown | {"now": unix(configuration.now()), "clock_offset_seconds": row.clock_offset_seconds}


def _faults(*, method: str, given: dict[str, Any]) -> dict[str, Any]:
    """POST {path, method, account, seconds, queue: [kind], probabilities: {kind: p}, seed}; DELETE clears them."""
    if method == "DELETE":
        Fault.objects.all().delete()
    elif given:
        _add_faults(given)
    return {
        "faults": [
            {
                "path": one.path,
                "method": one.method,
                "account": one.account,
                "kind": one.kind,
                "probability": None if one.probability_ppm is None else one.probability_ppm / 1_000_000,
                "seconds": one.seconds,
            }
            for one in faults.reload()
        ]
    }


def _add_faults(given: dict[str, Any]) -> None:
    if "seed" in given:
        faults.seed(int(given["seed"]))
    wanted: list[tuple[str, int | None]] = [(kind, None) for kind in given.get("queue", [])]
    wanted += [(kind, round(p * 1_000_000)) for kind, p in given.get("probabilities", {}).items()]
    if unknown := [kind for kind, _ in wanted if not faults.known(kind)]:
        raise ValueError(f"unknown faults {unknown}")
    where = {
        "path": given.get("path", "/v1/transfers"),
        "method": given.get("method", "POST"),
        "account": given.get("account", ""),
        "seconds": float(given.get("seconds", 1)),
    }
    Fault.objects.bulk_create([Fault(kind=kind, probability_ppm=ppm, **where) for kind, ppm in wanted])


def _account(*, method: str, given: dict[str, Any], reference: str) -> dict[str, Any]:
    """POST {outcome}: act as the person on the onboarding page, or as Stripe towards an account.

    POST {outcome: "ask", days, due: [field], future}: Stripe asks for more, until a day or from a day on.
    """
    with transaction.atomic():
        account = Account.objects.select_for_update(no_key=True).filter(reference=reference, is_platform=False).first()
        if account is None:
            raise KeyError(reference)
        if given["outcome"] == "ask":
            due, days, future = [str(one) for one in given["due"]], float(given["days"]), bool(given.get("future"))
            accounts.ask(account=account, at=configuration.now(), days=days, due=due, future=future)
        else:
            accounts.apply(given["outcome"], account=account, at=configuration.now())
        return accounts.account_json(account)


def _fail_payout(*, method: str, given: dict[str, Any], reference: str) -> dict[str, Any]:
    """POST {code}: the bank returns the payout now, also days after it was shown as paid."""
    code = given.get("code", "account_closed")
    if code not in faults.FAILURE_CODES:
        raise ValueError(f"unknown failure code {code}")
    with transaction.atomic():
        payout = Payout.objects.select_for_update(no_key=True).filter(reference=reference).first()
        if payout is None:
            raise KeyError(reference)
        bank_payouts.fail(payout=payout, code=code, at=configuration.now())
        return bank_payouts.payout_json(payout)


def _reverse_topup(*, method: str, given: dict[str, Any], reference: str) -> dict[str, Any]:
    """POST: the bank takes a top-up back now."""
    with transaction.atomic():
        topup = Topup.objects.select_for_update(no_key=True).filter(reference=reference).first()
        if topup is None:
            raise KeyError(reference)
        money.reverse_topup(topup=topup, account=configuration.platform(), at=configuration.now())
        return money.topup_json(topup)


def _adjust(*, method: str, given: dict[str, Any]) -> dict[str, Any]:
    """POST {account, currency, amount}: a correction of a balance, also below zero."""
    with transaction.atomic():
        account = Account.objects.get(reference=given["account"])
        currency, amount = str(given["currency"]), int(given["amount"])
        return money.movement_json(
            money.adjust(account=account, currency=currency, amount=amount, at=configuration.now())
        )


def _audit(*, method: str, given: dict[str, Any]) -> dict[str, Any]:
    """Count the movements of money from the rows: a double payment always shows here."""
    sums = {"count": Count("pk"), "amount": Sum("amount"), "reversed": Sum("amount_reversed")}
    groups = Transfer.objects.exclude(transfer_group="").values("transfer_group", "currency").annotate(**sums)
    by_group: list[dict[str, Any]] = [{**one} for one in groups]
    return {
        "transfers": Transfer.objects.count(),
        "reversals": Reversal.objects.count(),
        "payouts": dict(Payout.objects.values_list("status").annotate(Count("pk"))),
        "topped_up": dict(Topup.objects.filter(status="succeeded").values_list("currency").annotate(Sum("amount"))),
        "by_currency": list(Transfer.objects.values("currency").annotate(**sums).order_by("currency")),
        "by_destination": list(
            Transfer.objects.values("destination", "currency").annotate(**sums).order_by("destination", "currency")
        ),
        "by_group": {f"{one['transfer_group']}": one for one in by_group},
        "duplicates": sorted(str(one["transfer_group"]) for one in by_group if one["count"] > 1),
        "balances": list(
            Balance.objects.order_by("account", "currency").values("account", "currency", "available", "pending")
        ),
        "balances_that_do_not_add_up": _astray(),
        "events": Event.objects.count(),
        "deliveries_owed": Delivery.objects.filter(delivered_at=None).count(),
        "requests": traffic.counts(),
        "now": unix(configuration.now()),
    }


def _astray() -> list[str]:
    """Balances that differ from the sum of their movements: there must be none."""
    rows = Balance.objects.raw(
        """
        SELECT b.* FROM stripe_sandbox_balance b LEFT JOIN (
          SELECT account_id, currency, sum(amount - fee) FILTER (WHERE status = 'available') AS available,
                 sum(amount - fee) FILTER (WHERE status = 'pending') AS pending
          FROM stripe_sandbox_balancetransaction GROUP BY account_id, currency
        ) m USING (account_id, currency)
        WHERE b.available <> coalesce(m.available, 0) OR b.pending <> coalesce(m.pending, 0)
        """
    )
    return [str(row) for row in rows]


def _events(*, method: str, given: dict[str, Any]) -> dict[str, Any]:
    """POST {event | all}: owe events again, to every endpoint that ever wanted them (a replay, or a duplicate)."""
    owed = Delivery.objects.all() if given.get("all") else Delivery.objects.filter(event__reference=given["event"])
    return {"owed": owed.update(delivered_at=None, next_try_at=datetime.now(UTC))}


advance = _controlled(_advance, "POST")
settings = _controlled(_settings, "GET", "POST")
fault_switches = _controlled(_faults, "GET", "POST", "DELETE")
account = _controlled(_account, "POST")
fail_payout = _controlled(_fail_payout, "POST")
reverse_topup = _controlled(_reverse_topup, "POST")
balances = _controlled(_adjust, "POST")
audit = _controlled(_audit, "GET")
resend = _controlled(_events, "POST")
