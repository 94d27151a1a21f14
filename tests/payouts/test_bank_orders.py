"""Payment orders in and outside SEPA: service level, bank, address, names, and the day of execution."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from contributors.models import Contributor
from payouts.models import BankFile, Hold, Payout, PayoutRun
from payouts.operations import approval, bank_files, bank_orders, banks, building, runs
from payouts.rails import countries, transfers
from payouts.rails.bank import numbers, pain
from payouts.rails.bank.pain import Address, Order, Party
from payouts.rails.countries import UnableToReadCountries
from tests.worlds.world import ADDRESS, SEEN, World, only

DEBTOR = "DE89370400440532013000"
SPACE = {"p": pain.NAMESPACE}
# Accounts outside SEPA, each with its BIC where the IBAN does not tell the bank.
OUTSIDE = {
    "TR330006100519786457841326": "OYAKTR2AXXX",
    "AE070331234567890123456": "",
    "BR1800360305000010009795493C1": "CEFXBRSPXXX",
    "UA213223130000026007233566001": "EXBSUAUXXXX",
    "PK36SCBL0000001123456702": "SCBLPKKXXXX",
}
INSIDE = "NL91ABNA0417164300"


@pytest.fixture(autouse=True)
def programme_accounts(settings: Any) -> None:
    settings.PROGRAMME_ACCOUNTS = {"EUR": DEBTOR, "USD": DEBTOR}


@pytest.fixture
def euros(world: World) -> World:
    world.currency = "EUR"
    world.policy(minimum_minor=1, probation_days=0)
    return world


def payee(world: World, iban: str, bic: str = "", **changes: Any) -> Contributor:
    contributor = world.contributor(outcome=None, country="BR")
    world.credit(contributor, 7000)
    given: dict[str, Any] = {"holder_name": "Ada Lovelace", "address": ADDRESS, "iban": iban, "bic": bic, **changes}
    banks.record_bank_details(contributor=contributor, by=world.owner, at=world.at, **given)
    Hold.objects.filter(contributor=contributor).update(released_at=world.at)
    return contributor


def executing(world: World) -> PayoutRun:
    run = building.build_run(
        currency=world.currency, rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )
    run = world.approve(runs.submit_run(run=run, by=world.maker, at=world.at, seen=SEEN))
    return approval.start_execution(run=run, by=world.checker, at=world.at, seen=SEEN)


def exported(world: World, run: PayoutRun, **options: Any) -> BankFile:
    return bank_files.export_bank_file(run=run, by=world.maker, at=world.at, seen=SEEN, **options)


def blocks_of(content: bytes) -> list[ElementTree.Element]:
    return ElementTree.fromstring(pain.checked(content)).findall(".//p:PmtInf", SPACE)


def told(element: ElementTree.Element, path: str) -> str:
    return element.findtext("/".join(f"p:{step}" for step in path.split("/")), "", SPACE)


def order(name: str, iban: str = INSIDE, **changes: Any) -> Order:
    return Order("I1", "E1", Party(name, iban), Decimal("1.00"), "x", **changes)


def written(*orders: Order, debtor: str = "Programme", **options: Any) -> bytes:
    moment = world_moment()
    return pain.pain_001(
        message_id="M1", made_at=moment, execution_on=moment.date(), currency="EUR", debtor=Party(debtor, DEBTOR),
        orders=orders, **options,
    )  # fmt: skip


def world_moment() -> Any:
    from datetime import UTC, datetime

    return datetime(2026, 11, 20, 12, tzinfo=UTC)


# --- blocks, banks, addresses -------------------------------------------------------------------------------------
def test_euro_to_accounts_outside_sepa_stands_in_a_block_without_its_service_level(euros: World) -> None:
    for iban, bic in OUTSIDE.items():
        payee(euros, iban, bic)
    payee(euros, INSIDE)
    file = exported(euros, executing(euros))
    content = bank_files.read_bank_file(file=file, by=euros.maker, at=euros.at, seen=SEEN)
    sepa, others = blocks_of(content)
    assert [told(one, "PmtTpInf/SvcLvl/Cd") for one in (sepa, others)] == ["SEPA", ""]
    assert [told(one, "ChrgBr") for one in (sepa, others)] == ["SLEV", "SHAR"]
    assert [told(one, "NbOfTxs") for one in (sepa, others)] == ["1", "5"]
    assert [told(one, "CtrlSum") for one in (sepa, others)] == ["70.00", "350.00"]
    assert [told(one, "PmtInfId") for one in (sepa, others)] == [file.message_id, f"{file.message_id}-2"]
    orders = others.findall("p:CdtTrfTxInf", SPACE)
    assert {told(one, "CdtrAcct/Id/IBAN") for one in orders} == set(OUTSIDE)
    for one in orders:
        assert told(one, "CdtrAgt/FinInstnId/BICFI")
        parts = ("StrtNm", "BldgNb", "PstCd", "TwnNm", "Ctry")
        assert [told(one, f"Cdtr/PstlAdr/{part}") for part in parts] == [
            "Rua da Aurora", "12", "50050-000", "Recife", "BR",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("currency", "accounts", "is_sepa"),
    [
        ("EUR", ("DE", "NL"), True), ("EUR", ("DE", "GB"), True), ("EUR", ("DE", "CH"), True),
        ("EUR", ("DE", "TR"), False), ("EUR", ("AE", "NL"), False), ("USD", ("DE", "NL"), False),
    ],
)  # fmt: skip
def test_sepa_is_euro_between_two_of_its_countries(currency: str, accounts: tuple[str, str], is_sepa: bool) -> None:
    assert transfers.is_sepa(currency, *accounts) is is_sepa


def test_the_other_service_level_comes_from_the_operators_file(settings: Any, tmp_path: Path) -> None:
    text = countries.DEFAULT.read_text()
    settings.STRIPE_COUNTRIES_FILE = str(tmp_path / "list.toml")
    (tmp_path / "list.toml").write_text(text.replace('other_service_level = ""', 'other_service_level = "NURG"'))
    level = transfers.rules().other_service_level
    [block] = blocks_of(written(order("Ada"), other_service_level=level))
    assert told(block, "PmtTpInf/SvcLvl/Cd") == "NURG"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('other_service_level = ""', 'other_service_level = "FAST"', "FAST"),
        ('EUR = "XECB"', 'EUR = "XXXX"', "XXXX"),
        ('"AD", "AL"', '"Andorra", "AL"', "Andorra"),
    ],
)
def test_a_broken_rule_is_named(settings: Any, tmp_path: Path, old: str, new: str, words: str) -> None:
    settings.STRIPE_COUNTRIES_FILE = str(tmp_path / "list.toml")
    (tmp_path / "list.toml").write_text(countries.DEFAULT.read_text().replace(old, new))
    with pytest.raises(UnableToReadCountries, match=words):
        transfers.rules()


def test_a_list_from_before_the_rules_gets_the_shipped_ones(settings: Any, tmp_path: Path) -> None:
    settings.STRIPE_COUNTRIES_FILE = str(tmp_path / "list.toml")
    (tmp_path / "list.toml").write_text(countries.DEFAULT.read_text().partition("[transfers]")[0])
    assert transfers.is_sepa("EUR", "DE", "NL")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"iban": "TR330006100519786457841326"}, "BIC"),
        ({"iban": "GB33BUKB20201555555555", "address": None}, "address with town and country"),
        ({"local": numbers.checked("GB", {"sort_code": "202015", "account_number": "55555555"}), "address": None},
         "address with town and country"),
        ({"iban": INSIDE, "address": Address("", "BR")}, "a town and a country"),
        ({"iban": INSIDE, "address": Address("Recife", "XX")}, "a town and a country"),
        ({"iban": INSIDE, "address": Address("R" * 36, "BR")}, "35 letters"),
        ({"iban": INSIDE, "holder_name": "🎨"}, "no letter that a bank takes"),
        ({"iban": INSIDE, "holder_name": "A" * 71}, "more than 70"),
        ({"iban": INSIDE, "holder_name": "Щ" * 30}, "has 120 letters; a bank takes 70"),
    ],
)  # fmt: skip
def test_an_account_that_a_bank_would_refuse_is_refused_in_words(
    world: World, given: dict[str, Any], words: str
) -> None:
    contributor = world.contributor(outcome=None, country="BR")
    given = {"holder_name": "Ada", "address": ADDRESS, **given}
    with pytest.raises(banks.UnableToRecordBankDetails, match=words):
        banks.record_bank_details(contributor=contributor, by=world.owner, at=world.at, **given)


def test_a_payee_without_the_wanted_address_is_held_out_of_the_file_with_the_reason(
    euros: World, settings: Any, tmp_path: Path
) -> None:
    """An operator's list may want an address where none was wanted when the account was named."""
    payee(euros, "DE89370400440532013000")
    lacking = payee(euros, INSIDE, address=None)
    run = executing(euros)
    settings.STRIPE_COUNTRIES_FILE = str(tmp_path / "list.toml")
    text = countries.DEFAULT.read_text()
    head, part = text.split("without_address = [")
    (tmp_path / "list.toml").write_text(head + "without_address = [" + part.replace(' "NL",', "", 1))
    file = exported(euros, run)
    assert file.n_payments == 1
    payout = run.payouts.get(contributor=lacking)
    assert (payout.state, payout.reason) == (Payout.State.HELD, "bank_details_incomplete")
    hold = Hold.objects.get(contributor=lacking, released_at__isnull=True)
    assert (hold.reason, "address with town and country" in hold.note) == ("bank_details_incomplete", True)
    given: dict[str, Any] = {"holder_name": "Ada Lovelace", "iban": INSIDE, "bic": "", "address": ADDRESS}
    banks.record_bank_details(contributor=lacking, by=euros.owner, at=euros.at, **given)
    assert not Hold.objects.filter(contributor=lacking, reason=hold.reason, released_at__isnull=True).exists()


# --- names --------------------------------------------------------------------------------------------------------
def test_names_within_the_limits_are_written_and_longer_ones_refused() -> None:
    [block] = blocks_of(written(order("Жук" * 20)))
    assert told(block, "CdtTrfTxInf/Cdtr/Nm") == "Zhuk" * 20
    assert blocks_of(written(order("A" * 140)))
    for name, sepa in (("A" * 141, False), ("A" * 71, True), ("Щ" * 20, True)):
        with pytest.raises(pain.UnableToOrder, match="a bank takes"):
            written(order(name, is_sepa=sepa))


def test_a_long_name_of_the_programme_is_refused_until_its_holder_is_set(euros: World, settings: Any) -> None:
    payee(euros, INSIDE)
    settings.PROGRAMME_NAME = "Programme of Generations " * 4
    run = executing(euros)
    with pytest.raises(bank_orders.UnableToExport, match=r"a bank takes 70.*PROGRAMME_ACCOUNTS=EUR=IBAN/BIC/HOLDER"):
        exported(euros, run)
    settings.PROGRAMME_ACCOUNTS = {"EUR": f"{DEBTOR}/COBADEFFXXX/Programme AG"}
    file = exported(euros, run)
    [block] = blocks_of(bank_files.read_bank_file(file=file, by=euros.maker, at=euros.at, seen=SEEN))
    assert (told(block, "Dbtr/Nm"), told(block, "DbtrAgt/FinInstnId/BICFI")) == ("Programme AG", "COBADEFFXXX")


# --- days ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("currency", "day", "found"),
    [
        ("EUR", "2026-11-20", "2026-11-20"), ("EUR", "2026-11-21", "2026-11-23"), ("EUR", "2026-12-25", "2026-12-28"),
        ("EUR", "2027-03-26", "2027-03-30"), ("EUR", "2027-01-01", "2027-01-04"), ("EUR", "2028-05-01", "2028-05-02"),
        # National holidays are working days of TARGET.
        ("EUR", "2028-10-03", "2028-10-03"), ("EUR", "2028-11-01", "2028-11-01"),
        ("USD", "2026-11-26", "2026-11-27"), ("USD", "2027-07-04", "2027-07-06"), ("GBP", "2027-12-27", "2027-12-29"),
        ("JPY", "2026-12-31", "2027-01-04"), ("KWD", "2026-12-04", "2026-12-06"), ("SEK", "2026-12-25", "2026-12-28"),
    ],
)  # fmt: skip
def test_a_day_without_banks_moves_to_the_next_banking_day(currency: str, day: str, found: str) -> None:
    assert transfers.banking_day(currency, date.fromisoformat(day)) == date.fromisoformat(found)


def test_orders_are_executed_on_a_banking_day(euros: World) -> None:
    payee(euros, INSIDE)
    run = executing(euros)
    with pytest.raises(bank_orders.UnableToExport, match=r"Banks move no EUR on 2026-11-22.*2026-11-23"):
        exported(euros, run, execution_on=date(2026, 11, 22))
    assert exported(euros, run).execution_on == transfers.banking_day("EUR", euros.at.date())
    assert only(run).state == Payout.State.SENDING
