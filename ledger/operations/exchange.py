"""Money that changes its currency: two legs through a clearing account, each currency balanced by itself."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction

from ledger.journal import AccountKey, Posted, post
from ledger.models import EntryKind
from ledger.money import UNITS_MAX, asset, parse_amount
from ledger.operations.periods import dated

# As much as an entry keeps of the rule that it was made by.
RULE_CHARACTERS_MAX = 60


class UnableToExchange(Exception):
    """The rate or the currencies make no exchange."""

    status = 422
    problem = "exchange-invalid"


def converted(amount: int, *, currency: str, into: str, rate: str) -> int:
    """`amount` units of `currency` in units of `into`, rounded down, at `rate` of `into` for one of `currency`."""
    try:
        price = Fraction(rate)
    except (ValueError, ZeroDivisionError):
        raise UnableToExchange(f"{rate!r} is no rate.") from None
    if price <= 0 or currency == into:
        raise UnableToExchange(f"{currency} at {rate} into {into} is no exchange.")
    units = int(amount * price * asset(into).one / asset(currency).one)
    if not 0 < units <= UNITS_MAX:
        raise UnableToExchange(f"The exchange gives {units} units of {into}.")
    return units


def exchange_debt(
    *, contributor_id: int, amount: int, currency: str, into: str, rate: str, source: str, reference: str, at: datetime
) -> Posted:
    """What is payable to a contributor in one currency becomes payable in another; the entry keeps rate and source."""
    owner = f"contributor:{contributor_id}"
    return _exchange(
        EntryKind.EXCHANGE_DEBT, "contributor_payable", owner, amount, currency, into, rate, source, reference, at
    )


def exchange_cash(
    *, amount: int, currency: str, into: str, rate: str, source: str, reference: str, at: datetime
) -> Posted:
    """Stripe's balance in one currency was turned into another."""
    return _exchange(EntryKind.EXCHANGE_CASH, "stripe_balance", "", amount, currency, into, rate, source, reference, at)


def _exchange(
    kind: EntryKind, account: str, owner: str, amount: int, currency: str, into: str, rate: str, source: str,
    reference: str, at: datetime,
) -> Posted:  # fmt: skip
    parse_amount("0", currency)
    got = converted(amount, currency=currency, into=into, rate=rate)
    told = f"{rate} {into}/{currency} {source}"
    if not source.strip() or len(told) > RULE_CHARACTERS_MAX:
        raise UnableToExchange(
            f"Rate and source are kept on the entry: name a source, in {RULE_CHARACTERS_MAX} characters with the rate."
        )
    # A debt is given up in the first currency; cash leaves it. The clearing account takes the other side of each leg.
    sign = 1 if kind == EntryKind.EXCHANGE_DEBT else -1
    return post(
        kind=kind,
        idem_key=f"{kind}:{reference}",
        effective=dated(at),
        lines=[
            (AccountKey(account, currency, owner), -sign * amount),
            (AccountKey("fx_clearing", currency), sign * amount),
            (AccountKey("fx_clearing", into), -sign * got),
            (AccountKey(account, into, owner), sign * got),
        ],
        reference=reference,
        rule_version=told,
    )
