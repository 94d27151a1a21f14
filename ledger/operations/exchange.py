"""Money that changes its currency: two legs through a clearing account, each currency balanced by itself."""

from __future__ import annotations

import re
from fractions import Fraction

from ledger.journal import AccountKey
from ledger.money import UNITS_MAX, asset

# As much as an entry keeps of the rule that it was made by.
RULE_CHARACTERS_MAX = 60
_RATE = re.compile(r"[0-9]{1,19}(\.[0-9]{1,19})?")


class UnableToExchange(Exception):
    """The rate or the currencies make no exchange."""

    status = 422
    problem = "exchange-invalid"


def converted(amount: int, *, currency: str, into: str, rate: str) -> int:
    """`amount` units of `currency` in units of `into`, rounded down, at `rate` of `into` for one of `currency`."""
    # Fraction alone would also read 1e3, 1_000, 1/3 and the digits of other scripts.
    if not _RATE.fullmatch(rate):
        raise UnableToExchange(f"{rate!r} is no rate, such as 0.9214.")
    price = Fraction(rate)
    if price <= 0 or currency == into:
        raise UnableToExchange(f"{currency} at {rate} into {into} is no exchange.")
    units = int(amount * price * asset(into).one / asset(currency).one)
    if not 0 < units <= UNITS_MAX:
        raise UnableToExchange(f"The exchange gives {units} units of {into}.")
    return units


def exchange_lines(
    debit: AccountKey, credit: AccountKey, *, amount: int, into: str, rate: str, source: str
) -> tuple[list[tuple[AccountKey, int]], str]:
    """Return the lines of an exchange and the rule (rate and source) that its entry keeps.

    One of the two accounts is the clearing account: a debt is debited, given up in the first currency; cash is
    credited, and leaves it. The second leg is the first one mirrored. Raises UnableToExchange, UnableToParseAmount.
    """
    currency = asset(debit.asset).code
    got = converted(amount, currency=currency, into=into, rate=rate)
    told = f"{rate} {into}/{currency} {source}"
    if not source.strip() or len(told) > RULE_CHARACTERS_MAX:
        raise UnableToExchange(
            f"Rate and source are kept on the entry: name a source, in {RULE_CHARACTERS_MAX} characters with the rate."
        )
    lines = [
        (debit, -amount),
        (credit, amount),
        (AccountKey(credit.kind, into, credit.owner), -got),
        (AccountKey(debit.kind, into, debit.owner), got),
    ]
    return lines, told
