"""Limits of a rail: the least amount, and the multiple that an amount must be of. Data, not code.

Amounts here are minor units (cents; whole yen; fils). The remainder below a multiple stays owed in the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

# Stripe takes three-decimal currencies with a last digit of zero, and pays HUF and TWD only in whole units.
MULTIPLES = {"KWD": 10, "BHD": 10, "JOD": 10, "OMR": 10, "TND": 10, "HUF": 100, "TWD": 100, "ISK": 100, "UGX": 100}

# Our own least payout where no policy of the programme says otherwise.
MINIMUMS_DEFAULT = {
    "USD": 1000, "EUR": 1000, "GBP": 1000, "CHF": 1000, "CAD": 1000, "AUD": 1000, "SEK": 10000, "NOK": 10000,
    "DKK": 7000, "PLN": 4000, "JPY": 1500, "KRW": 13000, "HUF": 400000, "TWD": 30000, "KWD": 3000, "BHD": 4000,
}  # fmt: skip
MINIMUM_DEFAULT = 1000
MATURITY_DAYS_DEFAULT = 30

# The least bank payout that Stripe makes in a country's own currency (docs.stripe.com/payouts#minimum-payout-amounts,
# and special-requirements of connect/cross-border-payouts). Checked where we pay in that currency: below it the money
# would lie at Stripe instead of at the contributor's bank.
RAIL_MINIMUMS = {
    ("AL", "ALL"): 300000, ("AO", "AOA"): 2300000, ("AR", "ARS"): 460000, ("AU", "AUD"): 1, ("CA", "CAD"): 100,
    ("CH", "CHF"): 500, ("DK", "DKK"): 2000, ("GB", "GBP"): 100, ("HU", "HUF"): 40000, ("JP", "JPY"): 1,
    ("KR", "KRW"): 40000, ("NO", "NOK"): 2000, ("PL", "PLN"): 500, ("SE", "SEK"): 2000, ("TW", "TWD"): 80000,
    ("US", "USD"): 1,
}  # fmt: skip

# Below this a bank transfer costs more than it is worth: a fee of the bank for each order, and somebody's time.
BANK_MINIMUMS = {
    "EUR": 1000,
    "USD": 5000,
    "GBP": 2000,
    "CHF": 2000,
    "JPY": 5000,
    "KWD": 15000,
    "BHD": 15000,
    "JOD": 30000,
    "OMR": 15000,
    "TND": 100000,
}


# Minor units at Stripe (docs.stripe.com/currencies): none of these, three decimals of those, two of all others.
WITHOUT_DECIMALS = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF")
)
WITH_THREE_DECIMALS = frozenset(("BHD", "JOD", "KWD", "OMR", "TND"))


@dataclass(frozen=True)
class CurrencyAtStripe:
    """A currency in which Stripe pays banks; the ledger may keep no account in it."""

    code: str
    scale: int
    exponent: int


def currency_at_stripe(code: str) -> CurrencyAtStripe:
    exponent = 0 if code in WITHOUT_DECIMALS else 3 if code in WITH_THREE_DECIMALS else 2
    return CurrencyAtStripe(code, exponent, exponent)


def multiple(currency: str) -> int:
    return MULTIPLES.get(currency, 1)


def minimum_default(currency: str) -> int:
    return MINIMUMS_DEFAULT.get(currency, MINIMUM_DEFAULT)


def rail_minimum(country: str, currency: str, *, rail: str = "stripe_transfer") -> int:
    if rail == "manual_bank_file":
        return BANK_MINIMUMS.get(currency, 1)
    return RAIL_MINIMUMS.get((country, currency), 1)


def split(payable_minor: int, *, withholding_ppb: int, currency: str) -> tuple[int, int, int]:
    """(gross, tax, net) of the most that can be paid out of `payable_minor`: gross = tax + net, net a multiple.

    The tax is rounded down to the minor unit; the gross is lowered until the net is payable.
    """
    step = multiple(currency)
    tax = payable_minor * withholding_ppb // 1_000_000_000
    net = (payable_minor - tax) // step * step
    # The least gross that leaves exactly this net under the same rounding.
    gross = (net - 1) * 1_000_000_000 // (1_000_000_000 - withholding_ppb) + 1 if net else 0
    assert gross <= payable_minor
    return gross, gross - net, net
