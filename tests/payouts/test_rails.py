"""The countries that Stripe pays, compared with Stripe's own specification.

The specification has no list of them: it names the rule (an account's country is one of Stripe's markets or one that
cross-border payouts reach) and, for other purposes, every country code and the members of the European Union.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from payouts.checks import check_keys
from payouts.models import Rail
from payouts.rails import choice, countries
from people.presentation.countries import COUNTRIES
from stripe_sandbox.currencies import COUNTRY_CURRENCY
from tests.stripe_specification import specification

LISTED = countries.at_stripe()


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
    assert economic_area | {"US", "GB", "CA", "CH"} == LISTED.countries


def test_every_country_is_one_that_stripe_and_we_know_by_that_code() -> None:
    known = set(request("/v1/checkout/sessions", "shipping_address_collection", "allowed_countries")["items"]["enum"])
    assert known >= LISTED.countries
    assert set(COUNTRIES) >= LISTED.countries


def test_the_specification_still_leaves_the_list_to_the_documentation() -> None:
    """Should Stripe ever put the list into the specification, this fails, and the list is compared with it."""
    country = request("/v1/accounts", "country")
    assert "enum" not in country
    assert "cross-border-payouts" in country["description"]


def test_the_sandbox_opens_an_account_in_every_country_in_a_currency_that_is_paid() -> None:
    assert set(COUNTRY_CURRENCY) >= LISTED.countries
    assert {COUNTRY_CURRENCY[code].upper() for code in LISTED.countries} <= LISTED.currencies


@pytest.mark.parametrize(
    ("country", "rail"), [("LI", Rail.STRIPE_TRANSFER), ("JP", Rail.MANUAL_BANK_FILE), ("BR", Rail.MANUAL_BANK_FILE)]
)
def test_a_country_outside_the_regions_is_paid_by_bank_transfer(country: str, rail: Rail) -> None:
    assert choice.rail_of_country(country) == rail


@pytest.mark.parametrize(
    ("platform", "country", "rail"),
    [
        ("AU", "AU", Rail.STRIPE_TRANSFER), ("AU", "US", Rail.MANUAL_BANK_FILE), ("JP", "JP", Rail.STRIPE_TRANSFER),
        ("DE", "US", Rail.STRIPE_TRANSFER), ("DE", "AU", Rail.MANUAL_BANK_FILE), ("KR", "KR", Rail.MANUAL_BANK_FILE),
    ],
)  # fmt: skip
def test_the_list_is_that_of_the_platforms_own_country(settings: Any, platform: str, country: str, rail: Rail) -> None:
    settings.STRIPE_PLATFORM_COUNTRY = platform
    assert choice.rail_of_country(country) == rail


def test_an_operator_changes_the_list_and_the_agreement_by_a_file(settings: Any, tmp_path: Path) -> None:
    given = (
        countries.DEFAULT.read_text()
        .replace('"SK", "US",', '"SK", "US", "IN",')
        .replace("recipient = []", 'recipient = ["IN"]')
    )
    (tmp_path / "list.toml").write_text(given)
    settings.STRIPE_COUNTRIES_FILE = str(tmp_path / "list.toml")
    assert choice.rail_of_country("IN") == Rail.STRIPE_TRANSFER
    assert [countries.at_stripe().agreement(code) for code in ("IN", "DE")] == ["recipient", "full"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source = [", "no TOML"), ("", "lacks a part: 'regions'"),
        (countries.DEFAULT.read_text().replace('"AT"', '"Austria"'), "'Austria' is no code"),
    ],
)  # fmt: skip
def test_a_broken_list_is_named_by_the_check(settings: Any, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "list.toml").write_text(text)
    settings.STRIPE_COUNTRIES_FILE = str(tmp_path / "list.toml")
    assert any(words in str(one) for one in check_keys() if one.id == "payouts.E003")


# IBAN countries of which the library lists no banks, and some of which it does.
@pytest.mark.parametrize("country", ["TR", "BR", "EG", "KW", "JO", "QA", "TN", "LB", "MU", "DO", "GT", "OM", "UA"])
def test_every_country_with_an_iban_is_reached_by_a_bank_transfer(country: str) -> None:
    assert choice.takes_iban(country)
    assert choice.reaches(country)


def test_countries_without_any_rail_are_told_from_the_others() -> None:
    assert [choice.is_payable(code) for code in ("KR", "TH", "CN", "NG", "AU", "IN", "US")] == [False] * 4 + [True] * 3
