"""The countries of each rail, read from a file that an operator can change (countries.toml, STRIPE_COUNTRIES_FILE)."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from django.conf import settings

DEFAULT = Path(__file__).with_name("countries.toml")
AGREEMENTS = ("full", "recipient")


class UnableToReadCountries(Exception):
    """The file is missing, is no TOML, or lacks a part; the words say which."""

    status = 500
    problem = "countries-not-read"


@dataclass(frozen=True)
class StripeCountries:
    """The countries and currencies that Stripe pays from the platform's country, with the source of the list."""

    platform: str
    countries: frozenset[str]
    recipient: frozenset[str]
    currencies: frozenset[str]
    source: str
    read_on: date

    def agreement(self, country: str) -> str:
        """Return the agreement between Stripe and an account of the country: full or recipient."""
        return "recipient" if country in self.recipient else "full"


def at_stripe() -> StripeCountries:
    """Return Stripe's list for the country of the platform's own account. Raises UnableToReadCountries."""
    return _read(Path(settings.STRIPE_COUNTRIES_FILE or DEFAULT), str(settings.STRIPE_PLATFORM_COUNTRY).upper())


@functools.lru_cache(maxsize=8)
def _read(path: Path, platform: str) -> StripeCountries:
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnableToReadCountries(
            f"The list of countries {path.name} could not be read: {error.strerror}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnableToReadCountries(f"The list of countries {path.name} is no TOML: {error}.") from error
    try:
        regions = [codes(one["countries"], 2) for one in given["regions"]]
        home = codes(given["home"]["countries"], 2)
        recipient = codes(given["agreements"]["recipient"], 2)
        currencies = codes(given["currencies"]["paid"], 3)
        source, read_on = given["source"], given["read_on"]
        if not isinstance(source, str) or type(read_on) is not date:
            raise ValueError("source is a text and read_on a day such as 2026-11-30")
    except (KeyError, TypeError, ValueError) as error:
        raise UnableToReadCountries(f"The list of countries {path.name} lacks a part: {error}.") from error
    countries = frozenset().union(*(region for region in regions if platform in region))
    if not countries and platform in home:
        countries = frozenset({platform})
    return StripeCountries(platform, countries, recipient, currencies, source, read_on)


def codes(given: Any, length: int) -> frozenset[str]:
    """Return the codes of a list. Raises ValueError for anything else than codes of capital letters."""
    wrong = [code for code in given if not re.fullmatch(rf"[A-Z]{{{length}}}", code)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no code of {length} capital letters")
    return frozenset(given)
