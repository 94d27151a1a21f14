"""The countries that Stripe pays, compared with Stripe's own specification.

The specification has no list of them: it names the rule (an account's country is one of Stripe's markets or one that
cross-border payouts reach) and, for other purposes, every country code and the members of the European Union.
"""

from __future__ import annotations

from typing import Any

import pytest

from payouts.models import Rail
from payouts.rails import choice
from people.presentation.countries import COUNTRIES
from stripe_sandbox.currencies import COUNTRY_CURRENCY
from tests.stripe_specification import specification


def request(path: str, *names: str) -> dict[str, Any]:
    """The schema of a field of a POST request, by the names that lead to it."""
    content = specification()["paths"][path]["post"]["requestBody"]["content"]
    found: dict[str, Any] = content["application/x-www-form-urlencoded"]["schema"]
    for name in names:
        found = found["properties"][name]
    return found


def countries_of_the_union() -> set[str]:
    """Where Stripe registers for the one-stop shop of the Union: its members, by Stripe's own words."""
    options = request("/v1/tax/registrations", "country_options")["properties"]
    return {
        code.upper() for code, option in options.items() if "oss_union" in option["properties"]["type"].get("enum", [])
    }


def test_stripe_pays_the_regions_of_its_cross_border_payouts_and_no_other_country() -> None:
    union = countries_of_the_union()
    assert len(union) == 27
    economic_area = union | {"IS", "LI", "NO"}
    assert economic_area | {"US", "GB", "CA", "CH"} == choice.STRIPE_COUNTRIES


def test_every_country_is_one_that_stripe_and_we_know_by_that_code() -> None:
    known = set(request("/v1/checkout/sessions", "shipping_address_collection", "allowed_countries")["items"]["enum"])
    assert known >= choice.STRIPE_COUNTRIES
    assert set(COUNTRIES) >= choice.STRIPE_COUNTRIES


def test_the_specification_still_leaves_the_list_to_the_documentation() -> None:
    """Should Stripe ever put the list into the specification, this fails, and the list is compared with it."""
    country = request("/v1/accounts", "country")
    assert "enum" not in country
    assert "cross-border-payouts" in country["description"]


def test_the_sandbox_opens_an_account_in_every_country_in_a_currency_that_is_paid() -> None:
    assert set(COUNTRY_CURRENCY) >= choice.STRIPE_COUNTRIES
    assert {COUNTRY_CURRENCY[code].upper() for code in choice.STRIPE_COUNTRIES} <= choice.STRIPE_CURRENCIES


@pytest.mark.parametrize(
    ("country", "rail"), [("LI", Rail.STRIPE_TRANSFER), ("JP", Rail.MANUAL_BANK_FILE), ("BR", Rail.MANUAL_BANK_FILE)]
)
def test_a_country_outside_the_regions_is_paid_by_bank_transfer(country: str, rail: Rail) -> None:
    assert choice.rail_of_country(country) == rail
