"""The rules of bank transfers, read from countries.toml: the area of SEPA, wanted addresses, days that banks work."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import holidays
from django.conf import settings

from payouts.rails.countries import DEFAULT, UnableToReadCountries, codes

SERVICE_LEVELS = ("", "NURG")
# Longer than the longest row of holidays, so that a calendar without a banking day ends the search.
DAYS_MAX = 30


@dataclass(frozen=True)
class Rules:
    """`sepa`: the countries of SEPA. `without_address`: accounts there want neither an address nor a BIC."""

    sepa: frozenset[str]
    without_address: frozenset[str]
    other_service_level: str
    calendars: dict[str, str]


def rules() -> Rules:
    """Return the rules of the operator's file, or of the shipped one. Raises UnableToReadCountries."""
    return _read(Path(settings.STRIPE_COUNTRIES_FILE or DEFAULT))


def is_sepa(currency: str, *accounts: str) -> bool:
    """Tell whether a transfer between IBANs of these countries is a SEPA transfer."""
    return currency == "EUR" and all(country in rules().sepa for country in accounts)


def wants_address(country: str) -> bool:
    """Tell whether a transfer to an account of the country names the payee's address and the bank's number."""
    return country not in rules().without_address


def banking_day(currency: str, day: date) -> date:
    """Return the day itself, or the next one on which banks move the currency.

    Raises UnableToReadCountries for a calendar without one.
    """
    calendar = _calendar(rules().calendars.get(currency, ""))
    for ahead in range(DAYS_MAX):
        found = day + timedelta(days=ahead)
        if calendar.is_working_day(found):
            return found
    raise UnableToReadCountries(f"The calendar of {currency} has no banking day after {day}.")


@functools.lru_cache(maxsize=64)
def _calendar(name: str) -> holidays.HolidayBase:
    """Return the calendar of a market or country, with the holidays of its banks. Raises NotImplementedError."""
    if not name:
        return holidays.HolidayBase()
    if len(name) == 4:
        return holidays.financial_holidays(name)
    plain = holidays.country_holidays(name)
    wanted = {"public", "bank"} & set(plain.supported_categories)
    return holidays.country_holidays(name, categories=wanted)


@functools.lru_cache(maxsize=8)
def _read(path: Path) -> Rules:
    try:
        given: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        part = given.get("transfers") or tomllib.loads(DEFAULT.read_text(encoding="utf-8"))["transfers"]
        found = Rules(
            sepa=codes(part["sepa"], 2),
            without_address=codes(part["without_address"], 2),
            other_service_level=part["other_service_level"],
            calendars=dict(part["calendars"]),
        )
        if found.other_service_level not in SERVICE_LEVELS:
            raise ValueError(f"other_service_level is one of {SERVICE_LEVELS}, not {found.other_service_level!r}")
        for name in found.calendars.values():
            _calendar(name)
    except OSError as error:
        raise UnableToReadCountries(
            f"The list of countries {path.name} could not be read: {error.strerror}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnableToReadCountries(f"The list of countries {path.name} is no TOML: {error}.") from error
    except (KeyError, TypeError, ValueError, NotImplementedError) as error:
        raise UnableToReadCountries(f"The part transfers of {path.name} lacks something: {error}.") from error
    return found
