"""A contributor's owed, held and paid amounts, from the journal alone. The figures of one currency add up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import connection
from django.db.models import Sum

from contributors.models import Contributor
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import Account, EntryKind, Line

HELD_KINDS = ("reserve_held", "unclaimed")


def owner_of(contributor_id: int) -> str:
    """How an account names the contributor that it belongs to."""
    return f"contributor:{contributor_id}"


@dataclass(frozen=True, slots=True)
class Balances:
    """One contributor in one currency. pending + payable + held + in transit + paid + withheld = earned.

    A debt (restated after it was paid) makes `pending` smaller, and negative where nothing else stands there.
    """

    currency: str
    pending: int = 0
    payable: int = 0
    held: int = 0
    in_transit: int = 0
    paid: int = 0
    withheld: int = 0

    @property
    def earned(self) -> int:
        return self.pending + self.payable + self.held + self.in_transit + self.paid + self.withheld


def payable(contributor_id: int, currency: str, matured_before: datetime) -> int:
    """The amount in units that a payout dated now may take: the payable balance less the credits on or after
    `matured_before`.
    """
    key = AccountKey("contributor_payable", currency, owner_of(contributor_id))
    return max(0, journal.matured(key, matured_before))


def accounts_of(contributor_id: int, kinds: Sequence[str] = ()) -> list[Account]:
    """The contributor's own accounts, in order of their numbers."""
    accounts = Account.objects.filter(owner=owner_of(contributor_id)).select_related("asset", "balance").order_by("id")
    return list(accounts.filter(kind__in=kinds) if kinds else accounts)


def balances_of(contributor_id: int, *, matured_before: datetime | None = None) -> list[Balances]:
    """One row for each currency in which there ever was anything; else zeros in the contributor's own currency.

    With `matured_before`, the younger part of the payable counts as pending. Costs one probe for each account and each
    payout of the contributor.
    """
    sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for account in accounts_of(contributor_id):
        sums[account.asset.code][account.kind] += account.balance.posted
    for flow in payout_flows(contributor_id):
        sums[flow.currency][flow.state] += flow.net
        sums[flow.currency]["withheld"] += flow.tax
    if not sums:
        return [Balances(Contributor.objects.values_list("currency", flat=True).get(pk=contributor_id))]
    return [_balances(contributor_id, code, found, matured_before) for code, found in sorted(sums.items())]


def matured(contributor_id: int, balances: Balances, before: datetime) -> Balances:
    """Count the part of the payable that became so at `before` or later as pending."""
    ready = min(balances.payable, payable(contributor_id, balances.currency, before))
    return replace(balances, pending=balances.pending + balances.payable - ready, payable=ready)


def _balances(
    contributor_id: int, currency: str, found: Mapping[str, int], matured_before: datetime | None
) -> Balances:
    ready = found["contributor_payable"]
    if matured_before is not None:
        ready = min(ready, payable(contributor_id, currency, matured_before))
    # A debt of the contributor (a receivable, an open advance) stands below zero and comes off the pending amount.
    owed = found["contributor_accrued"] + found["contributor_receivable"] + found["advance"]
    return Balances(
        currency=currency,
        pending=owed + found["contributor_payable"] - ready,
        payable=ready,
        held=sum(found[kind] for kind in HELD_KINDS),
        in_transit=found["in_transit"],
        paid=found["paid"],
        withheld=found["withheld"],
    )


@dataclass(frozen=True, slots=True)
class PayoutFlow:
    """Money that left the contributor's accounts, or came back (below zero), by one entry."""

    currency: str
    entry_id: int
    state: str
    net: int
    tax: int


_FLOWS = """
    SELECT c.code, e.id, e.kind, sum(l.amount)::bigint, s.id IS NOT NULL,
           coalesce((SELECT sum(t.amount) FROM ledger_line t JOIN ledger_account ta ON ta.id = t.account_id
                     WHERE ta.kind = 'tax_payable' AND t.entry_id = e.id), 0)::bigint
    FROM ledger_account a
    JOIN ledger_asset c ON c.id = a.asset_id
    JOIN ledger_line l ON l.account_id = a.id
    JOIN ledger_entry e ON e.id = l.entry_id
    LEFT JOIN ledger_entry s ON e.kind = 'payout_reserve' AND s.idem_key = 'payout_succeed:' || e.reference
    WHERE a.owner = %s AND e.kind = ANY(%s)
      AND NOT EXISTS (SELECT FROM ledger_entry r WHERE r.reverses = e.id)
    GROUP BY 1, 2, 3, 5 ORDER BY 2"""
_BACK_KINDS = (EntryKind.TRANSFER_REVERSED, EntryKind.BANK_RETURN, EntryKind.WITHHOLDING_REVERSED)


def payout_flows(contributor_id: int) -> list[PayoutFlow]:
    """Every payout that was not refused, and every one that came back, oldest first."""
    kinds = [EntryKind.PAYOUT_RESERVE.value, *(kind.value for kind in _BACK_KINDS)]
    flows = []
    with connection.cursor() as cursor:
        cursor.execute(_FLOWS, [owner_of(contributor_id), kinds])
        for currency, entry_id, kind, amount, succeeded, tax in cursor.fetchall():
            if kind == EntryKind.PAYOUT_RESERVE:
                state = "paid" if succeeded else "in_transit"
                flows.append(PayoutFlow(currency, entry_id, state, -amount - tax, tax))
            elif kind == EntryKind.WITHHOLDING_REVERSED:
                flows.append(PayoutFlow(currency, entry_id, "paid", 0, -amount))
            else:
                flows.append(PayoutFlow(currency, entry_id, "paid", -amount, 0))
    return flows


def withheld_by(entry_ids: Sequence[int]) -> dict[int, int]:
    """The tax that each of these entries kept back."""
    lines = Line.objects.filter(entry_id__in=entry_ids, account__kind="tax_payable")
    return dict(lines.values_list("entry_id").annotate(tax=Sum("amount")).order_by())
