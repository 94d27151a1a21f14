"""Reads of owed, in-transit and dormant money. Nothing here calls Stripe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Sum

from contributors.models import Contributor
from ledger import journal
from ledger.journal import AccountKey
from ledger.money import from_minor
from payouts.models import (
    PayoutAttempt,
)

# The ledger's name of the rail that the transit account belongs to.
LEDGER_RAILS = {"stripe_transfer": "stripe", "manual_bank_file": "manual"}


@dataclass(frozen=True)
class Owed:
    """The ledger's figures for one contributor, in units of the currency's scale."""

    contributor_id: int
    balance: int
    matured: int
    receivable: int

    @property
    def available(self) -> int:
        """Return the units that a run may pay: the matured balance, less the contributor's debt."""
        return self.matured - self.receivable


_OWED = """
SELECT split_part(a.owner, ':', 2)::bigint, p.posted, coalesce(-r.posted, 0)
  FROM ledger_account a
  JOIN ledger_asset s ON s.id = a.asset_id
  JOIN ledger_balance p ON p.account_id = a.id
  LEFT JOIN ledger_account ra ON ra.kind = 'contributor_receivable' AND ra.asset_id = a.asset_id AND ra.owner = a.owner
  LEFT JOIN ledger_balance r ON r.account_id = ra.id
 WHERE a.kind = 'contributor_payable' AND s.code = %s AND (p.posted > 0 OR coalesce(r.posted, 0) < 0)
 ORDER BY 1
"""


def owed_to_contributors(currency: str, matured_before: datetime) -> list[Owed]:
    """List by contributor the debts in `currency` between the programme and its contributors, in either direction."""
    with connection.cursor() as cursor:
        cursor.execute(_OWED, [currency])
        rows = cursor.fetchall()
    # The matured balance is read after the debt: a posting between the two can lower the payment of a run, never raise
    # it.
    keys = {row[0]: AccountKey("contributor_payable", currency, f"contributor:{row[0]}") for row in rows}
    matured = journal.matured_balances(list(keys.values()), matured_before)
    return [
        Owed(contributor_id, balance, matured[keys[contributor_id]], receivable)
        for contributor_id, balance, receivable in rows
    ]


def ledger_stripe_balance(currency: str) -> int:
    """Return the ledger's balance at Stripe, in units; positive when money is there."""
    return journal.owed(AccountKey("stripe_balance", currency))


def ledger_in_transit(currency: str, rail: str = "stripe_transfer") -> int:
    return journal.owed(AccountKey("payouts_in_transit", currency, f"rail:{LEDGER_RAILS[rail]}"))


def live_in_transit(currency: str, rail: str = "stripe_transfer") -> int:
    """Sum the units that our own rows show as reserved and neither gone nor given back."""
    open_attempts = PayoutAttempt.objects.filter(
        kind=PayoutAttempt.Kind.PAY,
        payout__currency=currency,
        provider=rail,
        state__in=[PayoutAttempt.State.SENT, PayoutAttempt.State.UNKNOWN],
    )
    return from_minor(open_attempts.aggregate(total=Sum("amount_minor"))["total"] or 0, currency)


# --- unclaimed ----------------------------------------------------------------------------------------------------
DORMANT_MONTHS = 36


@dataclass(frozen=True)
class Dormant:
    """A contributor that is owed money and has not been heard of. `amount` in units of the currency's scale."""

    contributor: Contributor
    currency: str
    amount: int
    last_contact: datetime


_DORMANT = """
SELECT c.id, s.code, b.posted, greatest(c.created_at, max(u.last_login), max(u.date_joined), max(p.settled_at)) AS heard
  FROM ledger_account a
  JOIN ledger_asset s ON s.id = a.asset_id
  JOIN ledger_balance b ON b.account_id = a.id
  JOIN contributors_contributor c ON c.id = split_part(a.owner, ':', 2)::bigint
  LEFT JOIN contributors_membership m ON m.contributor_id = c.id
  LEFT JOIN people_user u ON u.id = m.user_id
  LEFT JOIN payouts_payout p ON p.contributor_id = c.id AND p.state = 'settled'
 WHERE a.kind = 'contributor_payable' AND b.posted > 0
 GROUP BY c.id, s.code, b.posted
HAVING greatest(c.created_at, max(u.last_login), max(u.date_joined), max(p.settled_at)) < %s
 ORDER BY heard, c.id
"""


def dormant(*, at: datetime, months: int = DORMANT_MONTHS) -> list[Dormant]:
    """List contributors that are owed something and were last heard of more than `months` months ago, the longest
    silence first.

    A sign of life is a log-in of a person that acts for the contributor, or a payout that arrived. Royalties that go on
    being credited are no sign of life.
    """
    before = at - timedelta(days=months * 365.25 / 12)
    with connection.cursor() as cursor:
        cursor.execute(_DORMANT, [before])
        found = cursor.fetchall()
    people = Contributor.objects.in_bulk([row[0] for row in found])
    return [Dormant(people[key], currency, int(amount), heard) for key, currency, amount, heard in found]
