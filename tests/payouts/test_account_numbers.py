"""Local account numbers of the bank rail: their forms, their check digits, and the file that names them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import pytest

from contributors.operations.people import UnableToRegisterContributor, register_contributor
from payouts.models import BankDetails, PayoutAccount
from payouts.operations import banks
from payouts.operations.accounts import hold_as_account_says
from payouts.queries import payees, standing
from payouts.rails.bank import numbers, pain
from tests.worlds.world import ADDRESS, World

# Made-up accounts, with right check digits where the country has a public rule.
ONE = Decimal("1.00")
RIGHT = {
    "AU": {"bsb": "082-902", "account_number": "1234 56789"},
    "BR": {"bank_code": "001", "branch": "1234-5", "account_number": "12345-X", "tax_number": "529.982.247-25"},
    "CA": {"institution_number": "003", "transit_number": "12345", "account_number": "1234567"},
    "GB": {"sort_code": "20-20-15", "account_number": "55555555"},
    "IN": {"ifsc": "hdfc0001234", "account_number": "50100123456789"},
    "JP": {"bank_code": "0005", "branch_code": "123", "account_type": "1", "account_number": "1234567"},
    "MX": {"clabe": "032 180 00011835971 9"},
    "NZ": {"account_number": "01-0902-0068389-00"},
    "SG": {"bank_code": "7171", "branch_code": "001", "account_number": "0012345678"},
    "US": {"routing_number": "021000021", "account_number": "123456789", "account_type": "CHECKING"},
}
WRONG = [
    ("AU", "bsb", "08290"), ("AU", "account_number", "1234"), ("AU", "account_number", "１２３４５６"),
    ("BR", "tax_number", "529.982.247-26"), ("BR", "tax_number", "111.111.111-11"), ("BR", "branch", "12"),
    ("BR", "tax_number", "11.222.333/0001-82"), ("CA", "transit_number", "1234"), ("CA", "institution_number", "3"),
    ("GB", "sort_code", "20-20-1"), ("GB", "account_number", "5555555"), ("IN", "ifsc", "HDFC1001234"),
    ("IN", "account_number", "12345678"), ("JP", "account_type", "3"), ("JP", "account_number", "123456"),
    ("MX", "clabe", "032180000118359718"), ("MX", "clabe", "03218000011835971"), ("NZ", "account_number", "01-0902-1"),
    ("SG", "bank_code", "717"), ("SG", "account_number", ""), ("US", "routing_number", "021000022"),
    ("US", "routing_number", "21000021"), ("US", "account_type", "BUSINESS"), ("US", "account_number", "12A45"),
]  # fmt: skip


def test_every_country_of_the_table_takes_a_right_number() -> None:
    assert set(RIGHT) == set(numbers.FORMATS)
    members = {country: numbers.checked(country, given).member for country, given in RIGHT.items()}
    assert members == {
        "AU": "082902", "BR": "", "CA": "000312345", "GB": "202015", "IN": "HDFC0001234", "JP": "0005123", "MX": "",
        "NZ": "010902", "SG": "7171001", "US": "021000021",
    }  # fmt: skip


@pytest.mark.parametrize(("country", "field", "value"), WRONG)
def test_a_wrong_number_is_refused_with_its_field(country: str, field: str, value: str) -> None:
    with pytest.raises(numbers.UnableToReadNumber) as refused:
        numbers.checked(country, RIGHT[country] | {field: value})
    assert refused.value.field == field


def test_a_company_of_brazil_gives_its_own_tax_number() -> None:
    assert numbers.checked("BR", RIGHT["BR"] | {"tax_number": "11.222.333/0001-81"})


def _named(world: World, country: str, bic: str = "") -> BankDetails:
    contributor = world.contributor(outcome=None, country="AU")
    return banks.record_bank_details(
        contributor=contributor,
        holder_name="Ada",
        local=numbers.checked(country, RIGHT[country]),
        bic=bic,
        address=ADDRESS,
        by=world.owner,
        at=world.at,
    )


def test_a_local_number_is_sealed_and_opened_as_the_same_account(world: World) -> None:
    for country, form in numbers.FORMATS.items():
        details = _named(world, country, "BCMRMXMMXXX" if form.needs_bic else "")
        number = numbers.checked(country, RIGHT[country])
        assert number.account.encode() not in bytes(details.sealed)
        assert (details.country, details.last4) == (country, number.account[-4:])
        assert details.fingerprint.startswith(f"acct_{country}{number.account[-4:]}_")
        party = banks.party_of(details)
        assert (party.local, party.iban) == (number, "")


def test_where_no_clearing_names_the_bank_its_bic_is_wanted(world: World) -> None:
    with pytest.raises(banks.UnableToRecordBankDetails, match="BIC"):
        _named(world, "MX")


def test_the_bank_file_names_local_accounts_as_the_schema_wants(world: World) -> None:
    orders = [
        pain.Order(
            f"I{place}",
            f"E{place}",
            pain.Party("Ada", "", "BCMRMXMMXXX" if form.needs_bic else "", local=number),
            ONE,
            "x",
        )
        for place, (country, form) in enumerate(sorted(numbers.FORMATS.items()))
        for number in [numbers.checked(country, RIGHT[country])]
    ]
    content = pain.pain_001(
        message_id="M1", made_at=world.at, execution_on=world.at.date(), currency="USD",
        debtor=pain.Party("Programme", "DE89370400440532013000", "COBADEFFXXX"), orders=orders,
    )  # fmt: skip
    root = ElementTree.fromstring(pain.checked(content))
    space = {"p": pain.NAMESPACE}
    told = [
        (
            one.findtext(".//p:CdtrAgt//p:ClrSysId/p:Cd", "", space),
            one.findtext(".//p:CdtrAgt//p:MmbId", "", space),
            one.findtext(".//p:CdtrAcct/p:Id/p:Othr/p:Id", "", space),
        )
        for one in root.iterfind(".//p:CdtTrfTxInf", space)
    ]
    numbers_of = [numbers.checked(country, RIGHT[country]) for country in sorted(RIGHT)]
    assert told == [(one.clearing, one.member, one.account) for one in numbers_of]


def test_the_way_out_that_is_told_is_the_right_one(world: World) -> None:
    """Nothing about Stripe for a payee by bank transfer, and no "no way" where an IBAN or a local number exists."""
    for country in ("TR", "BR", "EG", "KW", "AU", "IN"):
        contributor = world.contributor(outcome=None, country=country)
        account = banks.account_on_rail(contributor=contributor, at=world.at)
        hold_as_account_says(account, world.at)
        [hold] = payees.open_holds(contributor)
        assert hold.hold.reason == "bank_account_missing"
        assert "Stripe" not in hold.remedy
        told = contributor.notices.get(kind="hold_placed").words
        assert "bank account" in told
        task = standing.task_of(contributor)
        assert task is not None
        assert task.at_bank


def test_a_country_without_any_rail_is_told_so_at_registration(world: World) -> None:
    given: dict[str, Any] = {
        "user": world.owner,
        "kind": "person",
        "legal_name": "Kim",
        "display_name": "",
        "at": world.at,
    }
    with pytest.raises(UnableToRegisterContributor, match="cannot pay anybody in"):
        register_contributor(country="KR", **given)
    assert register_contributor(country="AU", **given).country == "AU"
    assert not PayoutAccount.objects.filter(country="KR").exists()
