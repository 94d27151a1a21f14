"""Totals of a calendar year by payee, currency and tax form, for the reports to tax authorities each January.

The amounts come from the journal alone. The form is the one on record when the money left. A payee with two forms
within the year has a row for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from django.db import connection

from contributors.models import Contributor
from contributors.queries.details import Details, details_of
from ledger.models import Period
from ledger.queries.year_totals import PAYMENTS, Booked, booked_in
from payouts.models import TaxProfile

_BY_PAYEE = f"""
SELECT nullif(split_part(p.owner, ':', 2), '')::bigint AS contributor, s.code, coalesce(f.form, 'none'),
       coalesce(f.country, ''), coalesce(f.number_last4, ''), sum(p.paid)::bigint, sum(p.withheld)::bigint,
       sum(p.by_hand)::bigint, sum(p.tax_by_hand)::bigint
  FROM ({PAYMENTS.replace("%", "%%")}) p
  JOIN ledger_asset s ON s.id = p.asset_id
  LEFT JOIN LATERAL (
    SELECT t.form, t.country, t.number_last4, t.valid_until FROM payouts_taxprofile t
     WHERE t.contributor_id = nullif(split_part(p.owner, ':', 2), '')::bigint AND t.recorded_at <= p.posted_at
     ORDER BY t.id DESC LIMIT 1) f ON f.valid_until IS NULL OR f.valid_until >= p.effective
 WHERE p.effective BETWEEN %s AND %s
 GROUP BY 1, 2, 3, 4, 5
 ORDER BY 1, 2, 3, 4, 5"""


@dataclass(frozen=True, slots=True)
class YearTotal:
    """One payee, currency and form. `contributor` None: tax by hand that no single payee owns. Amounts in units."""

    contributor: Contributor | None
    legal_name: str
    country: str
    currency: str
    form: str
    tax_country: str
    number_last4: str
    paid: int
    withheld: int
    by_hand: int
    tax_by_hand: int

    @property
    def gross(self) -> int:
        return self.paid + self.withheld

    @property
    def form_name(self) -> str:
        return str(TaxProfile.Form(self.form).label)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows of one currency in sum, and the ledger's own sums from its cash and tax accounts."""

    currency: str
    paid: int
    withheld: int
    by_hand: int
    tax_by_hand: int
    booked: Booked

    @property
    def is_equal(self) -> bool:
        tax = self.withheld + self.tax_by_hand
        return self.paid == self.booked.cash and tax + self.booked.on_its_way == self.booked.withheld


def years(today: date) -> list[int]:
    """The years of the books up to today, the latest first."""
    first = Period.objects.order_by("pk").values_list("starts", flat=True).first()
    return list(range(today.year, (first or today).year - 1, -1))


def year_totals(year: int) -> list[YearTotal]:
    """Every row of a year, by name."""
    with connection.cursor() as cursor:
        cursor.execute(_BY_PAYEE, [date(year, 1, 1), date(year, 12, 31)])
        found = cursor.fetchall()
    people = Contributor.objects.in_bulk({row[0] for row in found if row[0] is not None})
    end = datetime.combine(date(year, 12, 31), time.max, tzinfo=UTC)
    named = details_of(people.values(), end)
    rows = [_row(people.get(row[0]), named, row[1:]) for row in found if any(row[5:])]
    return sorted(rows, key=lambda row: (row.contributor is None, row.legal_name.casefold(), row.currency, row.form))


def _row(contributor: Contributor | None, named: dict[int, Details], values: tuple[Any, ...]) -> YearTotal:
    if contributor is None:
        return YearTotal(None, "", "", *values)
    details = named[contributor.pk]
    return YearTotal(contributor, details.legal_name, details.country, *values)


def comparisons(year: int, rows: list[YearTotal]) -> list[Comparison]:
    """Compare the rows with the ledger's own sums, a row for each currency of either."""
    booked = booked_in(year)
    codes = sorted({row.currency for row in rows} | {code for code, sums in booked.items() if sums != Booked(code)})
    return [
        _comparison([row for row in rows if row.currency == code], booked.get(code, Booked(code))) for code in codes
    ]


def _comparison(rows: list[YearTotal], booked: Booked) -> Comparison:
    return Comparison(
        currency=booked.currency,
        paid=sum(row.paid for row in rows),
        withheld=sum(row.withheld for row in rows),
        by_hand=sum(row.by_hand for row in rows),
        tax_by_hand=sum(row.tax_by_hand for row in rows),
        booked=booked,
    )
