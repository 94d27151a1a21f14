"""The rail of each payee. Data, not code: countries that Stripe pays from here, and countries that a bank file reaches.

A contributor is paid on one rail, kept with the payout account. Stripe pays wherever it pays the country; a bank
transfer pays elsewhere, or where finance chose so.
"""

from __future__ import annotations

from contributors.models import Contributor
from payouts.models import PayoutAccount, Rail

# Self-serve cross-border payouts of a platform in the US, the UK, the EEA, Canada or Switzerland go to accounts in the
# same regions (docs.stripe.com/connect/cross-border-payouts). Elsewhere it takes an arrangement with Stripe. A country
# that is missing here is paid by bank transfer, so that a change at Stripe never sends money astray.
STRIPE_COUNTRIES = frozenset(
    {
        "AT", "BE", "BG", "CA", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU", "IE",
        "IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK", "US",
    }
)  # fmt: skip
# Currencies that a connected account there can be paid in; a transfer in another one would be refused.
STRIPE_CURRENCIES = frozenset(
    {
        "AUD", "BGN", "CAD", "CHF", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ISK", "JPY", "KRW", "KWD", "MXN",
        "NOK", "NZD", "PLN", "RON", "SEK", "SGD", "TWD", "USD",
    }
)  # fmt: skip
# A bank file names an IBAN, so it reaches the countries of the IBAN registry that schwifty knows.
RAIL_NAMES = {Rail.STRIPE_TRANSFER: "Stripe", Rail.MANUAL_BANK_FILE: "bank transfer"}


def rail_of_country(country: str) -> Rail:
    """Return the rail of a contributor in this country that was given no other."""
    return Rail.STRIPE_TRANSFER if country in STRIPE_COUNTRIES else Rail.MANUAL_BANK_FILE


def rail_of(contributor: Contributor, account: PayoutAccount | None) -> Rail:
    """Return the rail of a contributor: the account's, or the country's where there is none yet."""
    return Rail(account.rail) if account else rail_of_country(contributor.country)


def takes_iban(country: str) -> bool:
    """Tell whether accounts of the country have an IBAN, the number that a bank file can name."""
    from schwifty import registry

    return country in registry.get_countries()


def pays(rail: str, currency: str) -> bool:
    return rail == Rail.MANUAL_BANK_FILE or currency in STRIPE_CURRENCIES
