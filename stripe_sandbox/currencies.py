"""Currencies and countries as the sandbox knows them: data, in part simplified.

Exchange rates are fixed, so that a test can compute the result of a conversion. Units per US dollar.
"""

from __future__ import annotations

from fractions import Fraction

PER_USD: dict[str, Fraction] = {
    code: Fraction(rate)
    for code, rate in {
        "usd": "1", "eur": "0.92", "gbp": "0.79", "chf": "0.88", "cad": "1.36", "aud": "1.52", "nzd": "1.64",
        "jpy": "150", "krw": "1330", "huf": "360", "twd": "32", "sek": "10.5", "nok": "10.7", "dkk": "6.86",
        "pln": "4", "czk": "23", "ron": "4.58", "bgn": "1.8", "mxn": "17", "brl": "5", "inr": "83", "sgd": "1.34",
        "hkd": "7.8", "thb": "36", "isk": "138", "ugx": "3800", "kwd": "0.307", "bhd": "0.376", "jod": "0.709",
        "omr": "0.385", "tnd": "3.1", "clp": "920", "xof": "603", "all": "95", "ars": "850", "aoa": "830",
    }.items()
}  # fmt: skip

ZERO_DECIMAL = frozenset({
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf",
})  # fmt: skip
THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
# Amounts of these carry two decimals that must be zero, on the way to a bank.
WHOLE_UNITS_ON_PAYOUT = frozenset({"huf", "twd", "isk", "ugx"})
AMOUNT_MAX = 99_999_999

_EURO = (
    "AT", "BE", "CY", "DE", "EE", "ES", "FI", "FR", "GR", "HR", "IE", "IT", "LT", "LU", "LV", "MT", "NL", "PT", "SI",
    "SK",
)  # fmt: skip
COUNTRY_CURRENCY: dict[str, str] = {
    "US": "usd", "GB": "gbp", "CH": "chf", "CA": "cad", "AU": "aud", "NZ": "nzd", "JP": "jpy", "KR": "krw", "HU": "huf",
    "TW": "twd", "SE": "sek", "NO": "nok", "DK": "dkk", "PL": "pln", "CZ": "czk", "RO": "ron", "BG": "bgn", "MX": "mxn",
    "BR": "brl", "IN": "inr", "SG": "sgd", "HK": "hkd", "TH": "thb", "IS": "isk", "UG": "ugx", "KW": "kwd",
    "LI": "chf", "BH": "bhd", "JO": "jod", "OM": "omr", "TN": "tnd", "CL": "clp", "AL": "all", "AR": "ars", "AO": "aoa",
    **dict.fromkeys(_EURO, "eur"),
}  # fmt: skip


def minor_per_unit(currency: str) -> int:
    """Number of the API's minor units in one unit of the currency."""
    if currency in ZERO_DECIMAL:
        return 1
    return 1000 if currency in THREE_DECIMAL else 100


def convert(amount: int, currency: str, into: str) -> tuple[int, float | None]:
    """`amount` minor units in another currency, rounded down, and the rate (None where nothing was converted)."""
    if currency == into:
        return amount, None
    rate = PER_USD[into] / PER_USD[currency]
    converted = Fraction(amount, minor_per_unit(currency)) * rate * minor_per_unit(into)
    return int(converted), round(float(rate), 6)
