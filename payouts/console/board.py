"""The console's home: open work, the amounts owed, and the places where the money stands."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from ledger.queries import books
from payouts.console import READERS
from payouts.console.attention import sections
from payouts.models import Hold, HoldReason
from payouts.queries import attention, records
from payouts.queries import runs as runs_queries
from payouts.queries.hold_reasons import RULES
from people.console.guard import staff_required, user_of
from people.models import STAFF_ROLES

# Of each kind of open work; the page "Needs attention" lists the rest.
SHOWN = 3


@dataclass(frozen=True, slots=True)
class CurrencyTotals:
    """The places of one currency's money in the ledger, in its units; `stripe` is money that is there."""

    currency: str
    accrued: int
    payable: int
    in_transit: int
    stripe: int


@require_GET
@staff_required(*STAFF_ROLES)
def console(request: HttpRequest) -> HttpResponse:
    user, at = user_of(request), timezone.now()
    if not user.has_role(*READERS):
        # The model team has no view on money; its home is the list of services.
        return redirect("attribution:services")
    runs = list(runs_queries.runs().exclude(state__in=["closed", "cancelled", "rejected"])[:50])
    summaries = runs_queries.run_summaries(runs)
    waiting = attention.groups(at=at, limit=SHOWN)
    total = sum(group.count for group in waiting)
    attention.remember(total)
    return render(
        request,
        "payouts/console/home.html",
        {
            "frozen": settings.PAYOUTS_FROZEN,
            "runs": [(run, summaries[run.pk]) for run in runs],
            "sections": sections(waiting, reader=user, at=at),
            "n_open_items": total,
            "totals": _totals(),
            "is_empty": books.are_empty(),
            "holds": _holds(),
            "reconciliations": [(code, records.latest_reconciliation(code)) for code in _currencies()],
        },
    )


def _currencies() -> list[str]:
    return sorted(books.trial_balance().rows)


def _totals() -> list[CurrencyTotals]:
    found = []
    for currency, rows in sorted(books.trial_balance().rows.items()):
        by_kind = {row.kind: row.balance for row in rows}
        found.append(
            CurrencyTotals(
                currency=currency,
                accrued=by_kind.get("contributor_accrued", 0),
                payable=by_kind.get("contributor_payable", 0),
                in_transit=by_kind.get("payouts_in_transit", 0),
                stripe=-by_kind.get("stripe_balance", 0),
            )
        )
    return found


def _holds() -> list[tuple[str, str, int]]:
    """List the open holds: the reason, the acting role, the number of people."""
    counted = Hold.objects.filter(released_at__isnull=True).values("reason").annotate(n=Count("pk")).order_by("-n")
    return [(row["reason"], str(RULES[HoldReason(row["reason"])].owner), row["n"]) for row in counted]
