"""Every currency balances by itself in any exchange; the entry keeps the rate and its source."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import journal
from ledger.journal import AccountKey, UnableToPost, post
from ledger.models import Entry
from ledger.money import ASSETS, asset
from ledger.operations import periods
from ledger.operations.exchange import UnableToExchange
from ledger.operations.verbs import post_verb
from ledger.queries.invariants import check_all

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
CODES = st.sampled_from(sorted(ASSETS))
RATES = st.decimals("0.000001", "100000", places=6).map(str)
# (is it cash, from, into, thousandths of the available sum, rate)
EXCHANGES = st.lists(
    st.tuples(st.booleans(), CODES, CODES, st.integers(1, 1000), RATES).filter(lambda e: e[1] != e[2]), max_size=12
)


def sums() -> dict[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT entry_id, account_id %% 256, sum(amount) FROM ledger_line GROUP BY 1, 2 HAVING sum(amount) <> 0", []
        )
        return {row[0]: row[2] for row in cursor.fetchall()}


@pytest.mark.django_db
@settings(max_examples=40, deadline=None)
@given(starts=st.dictionaries(CODES, st.integers(1, 10**15), min_size=1), exchanges=EXCHANGES)
def test_each_currency_balances_alone_through_any_exchanges(
    starts: dict[str, int], exchanges: list[tuple[bool, str, str, int, str]]
) -> None:
    with transaction.atomic():
        periods.open_periods(at=AT)
        owed = {code: AccountKey("contributor_payable", code, "contributor:1") for code in ASSETS}
        for code, amount in starts.items():
            lines = [(AccountKey("programme_cost", code), -amount), (owed[code], amount)]
            post(kind="close_guarantee", idem_key=f"start {code}", effective=AT.date(), lines=lines)
        for n, (is_cash, currency, into, thousandths, rate) in enumerate(exchanges):
            exchange_one(n, is_cash, currency, into, thousandths, rate, owed)
        assert sums() == {}
        assert [result.name for result in check_all(["I1", "I2", "I12", "I13", "I18"]) if result.rows] == []
        for code in ASSETS:
            clearing = journal.balance(AccountKey("fx_clearing", code))
            exchanged = Entry.objects.filter(kind__startswith="exchange", rule_version__contains=code).exists()
            assert exchanged or clearing == 0
        transaction.set_rollback(True)


def exchange_one(
    n: int, is_cash: bool, currency: str, into: str, thousandths: int, rate: str, owed: dict[str, AccountKey]
) -> None:
    cash = {code: AccountKey("stripe_balance", code) for code in (currency, into)}
    held = cash if is_cash else owed
    before = {code: journal.balance(held[code]) for code in (currency, into)}
    amount = max(1, abs(before[currency]) * thousandths // 500)
    common: dict[str, Any] = {
        "amount": amount,
        "currency": currency,
        "into": into,
        "rate": rate,
        "source": f"ECB {n}",
        "reference": f"fx {n}",
        "at": AT,
    }
    try:
        verb: dict[str, Any] = {"verb": "exchange_cash"} if is_cash else {"verb": "exchange_debt", "contributor_id": 1}
        posted = post_verb(**verb, **common)
    except (UnableToExchange, UnableToPost):
        # Too little to make a unit, or more than is owed: nothing moved.
        assert {code: journal.balance(held[code]) for code in (currency, into)} == before
        return
    entry = Entry.objects.get(pk=posted.entry_id)
    assert entry.rule_version == f"{rate} {into}/{currency} ECB {n}"
    sign = -1 if is_cash else 1
    given_up = sign * (before[currency] - journal.balance(held[currency]))
    got = sign * (journal.balance(held[into]) - before[into])
    assert given_up == amount
    exact = Fraction(rate) * amount * asset(into).one / asset(currency).one
    assert 0 <= exact - got < 1
