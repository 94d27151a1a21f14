"""The rail of each payee, by the data of the rails: the countries that Stripe pays (countries.toml), the IBAN registry,
and the local account numbers (bank/numbers.py).

A contributor is paid on one rail, kept with the payout account. Stripe pays wherever it pays the country; a bank
transfer pays elsewhere, or where finance chose so.
"""

from __future__ import annotations

from contributors.models import Contributor
from payouts.models import PayoutAccount, Rail
from payouts.rails import countries
from payouts.rails.bank import numbers

RAIL_NAMES = {Rail.STRIPE_TRANSFER: "Stripe", Rail.MANUAL_BANK_FILE: "bank transfer"}


def rail_of_country(country: str) -> Rail:
    """Return the rail of a contributor in this country that was given no other."""
    return Rail.STRIPE_TRANSFER if country in countries.at_stripe().countries else Rail.MANUAL_BANK_FILE


def rail_of(contributor: Contributor, account: PayoutAccount | None) -> Rail:
    """Return the rail of a contributor: the account's, or the country's where there is none yet."""
    return Rail(account.rail) if account else rail_of_country(contributor.country)


def takes_iban(country: str) -> bool:
    """Tell whether accounts of the country have an IBAN, by the registry of IBANs."""
    return numbers.has_iban(country)


def reaches(country: str) -> bool:
    """Tell whether a bank transfer can name an account of the country: by its IBAN, or by its local number."""
    return numbers.has_iban(country) or country in numbers.FORMATS


def is_payable(country: str) -> bool:
    """Tell whether any rail pays to the country."""
    return country in countries.at_stripe().countries or reaches(country)


def pays(rail: str, currency: str) -> bool:
    return rail == Rail.MANUAL_BANK_FILE or currency in countries.at_stripe().currencies
