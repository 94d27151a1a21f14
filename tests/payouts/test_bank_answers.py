"""The bank's answers in each of its formats: read once, never guessed, nothing doubled and nothing lost."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from datetime import date
from typing import Any

import openpyxl
import pytest

from contributors.models import Contributor
from ledger.money import from_minor
from payouts.models import BankFile, BankLine, Difference, Payout
from payouts.operations import approval, bank_files, bank_lines, bank_reports, banks, building, runs
from payouts.rails.bank import tables
from payouts.rails.bank.answers import UnableToReadReport
from payouts.rails.bank.tables import Choices
from payouts.reconciliation.banks import reconcile_bank_run
from tests.worlds.world import ADDRESS, SEEN, World

DEBTOR = "DE89370400440532013000"
DAY = "2026-11-20"
ID = "01a22cafb74d70369bcf3293ed9d34c1"
COLUMNS = list(bank_reports.COLUMNS)


@pytest.fixture(autouse=True)
def programme_accounts(settings: Any) -> None:
    settings.PROGRAMME_ACCOUNTS = {"USD": DEBTOR}


def payee(world: World, minor: int) -> Contributor:
    contributor = world.contributor(minor, outcome=None, country="BR")
    banks.record_bank_details(
        contributor=contributor, holder_name="Ada", iban="GB33BUKB20201555555555", address=ADDRESS, by=world.owner,
        at=world.at,
    )  # fmt: skip
    return contributor


@pytest.fixture
def two(world: World) -> list[Payout]:
    """Two orders of USD 70 and USD 80 in a file that the bank has."""
    for minor in (7000, 8000):
        payee(world, minor)
    run = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )
    run = world.approve(runs.submit_run(run=run, by=world.maker, at=world.at, seen=SEEN))
    run = approval.start_execution(run=run, by=world.checker, at=world.at, seen=SEEN)
    file = bank_files.export_bank_file(run=run, by=world.maker, at=world.at, seen=SEEN)
    bank_files.mark_bank_file_sent(file=file, by=world.maker, at=world.at, seen=SEEN)
    return list(run.payouts.order_by("amount_minor"))


def read(world: World, content: bytes | str, **choices: str) -> list[str]:
    """Record a report and return the outcome of each line."""
    given = content.encode() if isinstance(content, str) else content
    lines = bank_reports.report_of(given, Choices(**choices)).lines
    found = bank_lines.record_bank_lines(lines=lines, by=world.checker, at=world.at, seen=SEEN)
    return [str(result.outcome) for result in found]


def others(content: str) -> str:
    return " ".join(one.words for one in bank_reports.report_of(content.encode()).others)


def state_of(*payouts: Payout) -> list[str]:
    return [Payout.objects.get(pk=payout.pk).state for payout in payouts]


# --- texts of reports ---------------------------------------------------------------------------------------------
def tx(payout: Payout, kind: str = "DBIT", more: str = "", amount: str = "", reference: str = "") -> str:
    given = amount or f'<Amt Ccy="{payout.currency}">{payout.amount_minor / 100:.2f}</Amt>'
    ref = f"<AcctSvcrRef>{reference}</AcctSvcrRef>" if reference else ""
    return (
        f"<TxDtls><Refs>{ref}<EndToEndId>{payout.public_id.hex}</EndToEndId></Refs>{given}"
        f"<CdtDbtInd>{kind}</CdtDbtInd>{more}</TxDtls>"
    )


RETURN = "<RtrInf><Rsn><Cd>AC04</Cd></Rsn><AddtlInf>closed account</AddtlInf></RtrInf>"


def ntry(*details: str, kind: str = "DBIT", reference: str = "REF1", status: str = "BOOK", more: str = "") -> str:
    return (
        f'<Ntry><Amt Ccy="USD">150.00</Amt><CdtDbtInd>{kind}</CdtDbtInd><Sts><Cd>{status}</Cd></Sts>'
        f"<BookgDt><Dt>{DAY}</Dt></BookgDt><AcctSvcrRef>{reference}</AcctSvcrRef>"
        f"<NtryDtls>{more}{''.join(details)}</NtryDtls></Ntry>"
    )


def camt(*entries: str, form: str = "053", account: str = DEBTOR) -> str:
    outer, inner = {"053": ("BkToCstmrStmt", "Stmt"), "054": ("BkToCstmrDbtCdtNtfctn", "Ntfctn")}[form]
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.{form}.001.08">'
        f"<{outer}><GrpHdr><MsgId>N1</MsgId></GrpHdr><{inner}><Acct><Id><IBAN>{account}</IBAN></Id></Acct>"
        f"{''.join(entries)}</{inner}></{outer}></Document>"
    )


def pain_002(
    payouts: list[Payout], *, group: str = "PART", status: str = "RJCT", block: str = "", day: str = DAY
) -> str:
    file = BankFile.objects.get()
    each = "".join(
        f"<TxInfAndSts><OrgnlEndToEndId>{payout.public_id.hex}</OrgnlEndToEndId><TxSts>{status}</TxSts>"
        "<StsRsnInf><Rsn><Cd>AC01</Cd></Rsn></StsRsnInf></TxInfAndSts>"
        for payout in payouts
    )
    return (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt>'
        f"<GrpHdr><MsgId>S-1</MsgId><CreDtTm>{day}T10:00:00Z</CreDtTm></GrpHdr>"
        f"<OrgnlGrpInfAndSts><OrgnlMsgId>{file.message_id}</OrgnlMsgId><GrpSts>{group}</GrpSts></OrgnlGrpInfAndSts>"
        f"<OrgnlPmtInfAndSts><OrgnlPmtInfId>{file.message_id}</OrgnlPmtInfId>{block}{each}</OrgnlPmtInfAndSts>"
        "</CstmrPmtStsRpt></Document>"
    )


def mt940(*lines: str, closing: str = "850,00", account: str = "37040044/0532013000") -> str:
    return "\r\n".join(
        [":20:STARTUMSE", f":25:{account}", ":28C:00001/001", ":60F:C261119USD1000,00", *lines,
         f":62F:C261120USD{closing}", "-"]
    )  # fmt: skip


def swift(payout: Payout, mark: str = "D", code: str = "NTRF", text: str = "SVWZ+royalties", ref: str = "B1") -> str:
    own = payout.public_id.hex
    amount = f"{payout.amount_minor / 100:.2f}".replace(".", ",")
    return (
        f":61:2611201120{mark}{amount}{code}NONREF//{ref}\r\n"
        f":86:116?00SEPA CREDIT?20EREF+{own[:22]}?21{own[22:]}?22{text}?30DEUTDEFF?32ADA"
    )


def table(*rows: dict[str, str], delimiter: str = ",") -> str:
    lines = [delimiter.join(COLUMNS)] + [delimiter.join(row.get(name, "") for name in COLUMNS) for row in rows]
    return "\r\n".join(lines) + "\r\n"


def row(payout: Payout, **changes: str) -> dict[str, str]:
    return {
        "end_to_end_id": payout.public_id.hex, "amount": f"{payout.amount_minor / 100:.2f}", "currency": "USD",
        "outcome": "executed", "booked_on": DAY, "reference": f"T{payout.pk}", **changes,
    }  # fmt: skip


def workbook(*rows: list[Any]) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for one in ([*COLUMNS], *rows):
        sheet.append(one)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


# --- each format --------------------------------------------------------------------------------------------------
FORMATS: dict[str, Callable[[list[Payout]], str]] = {
    "camt.053": lambda two: camt(ntry(*map(tx, two))),
    "camt.054": lambda two: camt(ntry(*map(tx, two)), form="054"),
    "MT940": lambda two: mt940(*(swift(one) for one in two)),
    "table": lambda two: table(*map(row, two)),
}


@pytest.mark.parametrize("source", FORMATS)
def test_a_batch_is_matched_by_end_to_end_id_and_the_same_file_again_changes_nothing(
    world: World, two: list[Payout], source: str
) -> None:
    """Both orders share the bank's reference."""
    content = FORMATS[source](two)
    assert read(world, content) == ["recorded", "recorded"]
    assert state_of(*two) == ["settled", "settled"]
    assert read(world, content) == ["known", "known"]
    assert sorted(BankLine.objects.values_list("source", "amount_minor")) == [(source, 7000), (source, 8000)]
    assert not Difference.objects.exists()


def test_a_table_in_which_a_batch_shares_the_reference_is_read_line_by_line(world: World, two: list[Payout]) -> None:
    content = table(*(row(one, reference="BATCH 1") for one in two))
    assert read(world, content) == ["recorded", "recorded"]
    assert read(world, table(*(row(one, reference="BATCH 1") for one in reversed(two)))) == ["known", "known"]


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(FORMATS, 2)))
def test_the_same_bookings_in_another_report_of_the_day_are_known(
    world: World, two: list[Payout], first: str, second: str
) -> None:
    assert read(world, FORMATS[first](two)) == ["recorded", "recorded"]
    assert read(world, FORMATS[second](two).replace("REF1", "REF2")) == ["known", "known"]
    assert BankLine.objects.count() == 2
    assert not Difference.objects.exists()


def test_a_booking_of_the_whole_block_counts_for_each_order_where_its_sum_fits(world: World, two: list[Payout]) -> None:
    name = f"<Btch><PmtInfId>{BankFile.objects.get().message_id}</PmtInfId></Btch>"
    wrong = camt(ntry(more=name)).replace("150.00", "151.00")
    assert read(world, wrong) == ["refused"]
    assert read(world, camt(ntry(more=name))) == ["recorded", "recorded"]
    assert read(world, camt(ntry(more=name))) == ["known", "known"]
    assert state_of(*two) == ["settled", "settled"]


def test_a_transfer_booked_twice_in_one_statement_becomes_a_difference(world: World, two: list[Payout]) -> None:
    """Also where the notification told one of both already."""
    one = two[0]
    assert read(world, camt(ntry(tx(one), reference="A"), form="054")) == ["recorded"]
    for references in (("A", "B"), ("B", "A")):
        content = camt(*(ntry(tx(one), reference=reference) for reference in references))
        assert sorted(read(world, content)) == ["differs", "known"]
    # The next statement tells it under another reference: a second booking too.
    assert read(world, camt(ntry(tx(two[1]), reference="C"))) == ["recorded"]
    assert read(world, camt(ntry(tx(two[1]), reference="D"))) == ["differs"]
    assert BankLine.objects.count() == 2
    assert Difference.objects.filter(state="open").count() == 2
    # No comparison takes them off the list: a person decides.
    reconcile_bank_run(run=two[0].run, at=world.at)
    assert Difference.objects.filter(state="open").count() == 2


# --- rejected, returned -------------------------------------------------------------------------------------------
def test_a_rejection_of_one_order_is_payable_again_and_counts_once(world: World, two: list[Payout]) -> None:
    content = pain_002([two[0]])
    assert read(world, content) == ["recorded"]
    assert read(world, content.replace("S-1", "S-2")) == ["known"]
    assert state_of(*two) == ["held", "sending"]
    assert BankLine.objects.get().reason == "AC01"
    assert world.payable(two[0].contributor) == from_minor(7000, "USD")


@pytest.mark.parametrize("level", ["group", "block"])
def test_a_rejection_of_the_whole_file_or_block_rejects_each_order(world: World, two: list[Payout], level: str) -> None:
    whole = pain_002([], group="RJCT") if level == "group" else pain_002([], block="<PmtInfSts>RJCT</PmtInfSts>")
    assert read(world, whole) == ["recorded", "recorded"]
    assert read(world, whole) == ["known", "known"]
    assert state_of(*two) == ["held", "held"]


def test_a_status_that_is_no_outcome_books_nothing(world: World, two: list[Payout]) -> None:
    content = pain_002(two, status="ACSC", group="ACCP")
    assert read(world, content) == []
    assert "no outcome" in others(content)
    assert state_of(*two) == ["sending", "sending"]


def test_a_rejection_of_another_file_rejects_nothing(world: World, two: list[Payout]) -> None:
    name = BankFile.objects.get().message_id
    assert read(world, pain_002([two[0]]).replace(name, "another-1")) == ["refused"]
    assert read(world, pain_002([], group="RJCT").replace(name, "another-1")) == ["refused"]
    assert state_of(*two) == ["sending", "sending"]


@pytest.mark.parametrize("family", ["CAJT", "RIMB", "OTHR"])
def test_a_credit_that_may_be_for_a_fee_is_no_return(world: World, two: list[Payout], family: str) -> None:
    read(world, camt(ntry(tx(two[0]))))
    code = f"<BkTxCd><Domn><Fmly><SubFmlyCd>{family}</SubFmlyCd></Fmly></Domn></BkTxCd>"
    credit = camt(ntry(tx(two[0], "CRDT", code), kind="CRDT", reference="R2"))
    assert read(world, credit) == []
    assert "came in without a reason of return" in others(credit)
    assert state_of(two[0]) == ["settled"]


def test_a_sum_of_a_formula_is_read_with_the_digits_that_a_spreadsheet_shows(world: World, two: list[Payout]) -> None:
    amount = 69.8 + 0.1 + 0.1
    assert repr(amount) != "70.0"
    row = [two[0].public_id.hex, amount, "USD", "executed", DAY, "R1", ""]
    assert read(world, workbook(row)) == ["recorded"]
    assert state_of(two[0]) == ["settled"]


@pytest.mark.parametrize("form", ["053", "054"])
def test_a_return_with_its_reason_comes_back(world: World, two: list[Payout], form: str) -> None:
    content = camt(ntry(tx(two[0], "CRDT", RETURN), kind="CRDT", reference="REF1"), ntry(tx(two[0])), form=form)
    # The statement lists the return above its transfer, and with the same reference.
    assert read(world, content) == ["recorded", "recorded"]
    assert read(world, content) == ["known", "known"]
    assert state_of(two[0]) == ["reversed"]
    assert BankLine.objects.get(kind="returned").reason == "AC04 closed account"
    other = {"053": "054", "054": "053"}[form]
    assert read(world, camt(ntry(tx(two[0], "CRDT", RETURN), kind="CRDT", reference="Q"), form=other)) == ["known"]
    assert Payout.objects.get(pk=two[0].pk).reversed_minor == 7000


def test_a_return_in_mt940_comes_back(world: World, two: list[Payout]) -> None:
    back = swift(two[0], "C", "NRTI", "SVWZ+RETOURE AC04", "B2")
    content = mt940(swift(two[0]), back, closing="1000,00")
    assert read(world, content) == ["recorded", "recorded"]
    assert state_of(two[0]) == ["reversed"]
    plain = mt940(swift(two[1], "C"), closing="1080,00")
    assert read(world, plain) == []
    assert "without a mark of return" in others(plain)


def test_the_file_of_yesterday_after_that_of_today_loses_nothing(world: World, two: list[Payout]) -> None:
    today = camt(ntry(tx(two[0], "CRDT", RETURN), kind="CRDT", reference="R9"))
    yesterday = camt(ntry(*map(tx, two)))
    assert read(world, today) == ["differs"]
    assert read(world, today) == ["differs"]
    assert Difference.objects.get().type == "unexpected_reversal"
    assert read(world, yesterday) == ["recorded", "recorded"]
    assert read(world, today) == ["recorded"]
    assert Difference.objects.get().state == "resolved"
    assert state_of(*two) == ["reversed", "settled"]


# --- refused files ------------------------------------------------------------------------------------------------
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><Document>&c;</Document>'
)
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><Document>&x;</Document>'
REFUSED: list[tuple[str, bytes | str, str]] = [
    ("bomb", BOMB, "document type or entities"),
    ("outside", OUTSIDE, "document type or entities"),
    ("truncated XML", camt(ntry())[:200], "damaged or ends too early"),
    ("other XML", "<Document><CstmrCdtTrfInitn/></Document>", "is a CstmrCdtTrfInitn"),
    ("no statement", "<Document><BkToCstmrStmt/></Document>", "holds no statement"),
    ("wrong account", camt(ntry(), account="NL91ABNA0417164300"), "account … 4300; bank files are paid from DE … 3000"),
    ("wrong account, MT940", mt940(account="10010010/123456", closing="1000,00"), "account … 3456"),
    ("truncated MT940", mt940().partition(":62F:")[0], "ends too early"),
    ("MT940 with a line less", mt940(closing="900,00"), "Lines are missing"),
    ("status without its file", "<Document><CstmrPmtStsRpt/></Document>", "OrgnlMsgId"),
    ("empty", b"", "is empty"),
    ("no columns", "a;b\n1;2\n", "lacks these columns"),
    ("damaged workbook", b"PK\x03\x04 and nothing", "workbook is damaged"),
    ("no text", b"end_to_end_id,\x81\x8d\xff", "no text in UTF-8"),
]


@pytest.mark.parametrize(("content", "words"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_a_file_that_is_no_report_is_refused_in_words(content: bytes | str, words: str) -> None:
    given = content.encode() if isinstance(content, str) else content
    with pytest.raises(UnableToReadReport, match=words):
        bank_reports.report_of(given)


def test_another_currency_is_a_difference_and_books_nothing(world: World, two: list[Payout]) -> None:
    amount = '<Amt Ccy="EUR">70.00</Amt>'
    assert read(world, camt(ntry(tx(two[0], amount=amount)))) == ["differs"]
    assert Difference.objects.get().type == "currency"
    assert state_of(two[0]) == ["sending"]


def test_lines_that_are_not_ours_or_not_booked_are_listed(world: World, two: list[Payout]) -> None:
    stranger = tx(two[0]).replace(two[0].public_id.hex, "NOTPROVIDED")
    unclear = tx(two[0], "CRDT")
    content = camt(ntry(stranger), ntry(tx(two[0]), status="PDNG"), ntry(unclear, kind="CRDT"), ntry())
    assert read(world, content) == []
    told = others(content)
    for words in ("“notprovided”", "Not booked yet (PDNG)", "without a reason of return", "no end-to-end id"):
        assert words in told
    unknown = camt(ntry(tx(two[0]).replace(two[0].public_id.hex, ID)))
    assert read(world, unknown) == ["refused"]
    assert state_of(*two) == ["sending", "sending"]


# --- spreadsheets -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "choices", "encoding", "delimiter", "head"),
    [
        ({"amount": "70,00", "booked_on": "20.11.2026", "reason": "Müller"}, {}, "cp1252", ";", ""),
        ({"outcome": "Executed", "booked_on": "11/20/2026"}, {}, "utf-8", ",", ""),
        ({}, {}, "utf-8", ";", "sep=;\r\n"),
        ({}, {}, "utf-16", "\t", ""),
        ({"booked_on": "20/11/2026"}, {}, "utf-8-sig", ";", ""),
        ({"booked_on": "11-20-2026"}, {"days": "month"}, "utf-8", ",", ""),
        ({"amount": "70,0000", "booked_on": "20.11.2026"}, {"decimals": "comma", "days": "day"}, "cp1252", ";", ""),
    ],
)
def test_tables_as_spreadsheets_save_them_are_read(
    world: World, two: list[Payout], changes: dict[str, str], choices: dict[str, str], encoding: str, delimiter: str,
    head: str,
) -> None:  # fmt: skip
    text = head + table(row(two[0], **changes), delimiter=delimiter)
    upper = text.replace("end_to_end_id", "End_To_End_ID")
    assert read(world, upper.encode(encoding), **choices) == ["recorded"]
    assert BankLine.objects.get().booked_on == date(2026, 11, 20)


def test_a_workbook_is_read_with_its_own_numbers_and_days(world: World, two: list[Payout]) -> None:
    one, other = two
    content = workbook(
        [one.public_id.hex, 70, "USD", "executed", date(2026, 11, 20), "X1", ""],
        [other.public_id.hex, 80.0, "usd", "Executed", "2026-11-20", "X2", ""],
        [None] * 7,
    )
    assert read(world, content) == ["recorded", "recorded"]


@pytest.mark.parametrize(
    ("changes", "choices", "words"),
    [
        ({"booked_on": "03/04/2026"}, {}, "Line 2: “03/04/2026” has two readings: 2026-04-03 and 2026-03-04"),
        ({"booked_on": "11/20/2026"}, {"days": "day"}, "no date in this order"),
        ({"booked_on": "31.11.2026"}, {}, "no date in this order"),
        ({"booked_on": "20.11.26"}, {}, "no date such as"),
        ({"amount": "1.250"}, {}, "Line 2: the amount “USD 1.250” is none: .*two readings"),
        ({"amount": "70.00"}, {"decimals": "comma"}, "does not fit a decimal comma"),
        ({"amount": "70,00"}, {"decimals": "point"}, "does not fit a decimal point"),
        ({"outcome": "paid"}, {}, "not “paid”"),
    ],
)
def test_two_readings_are_refused_with_the_line(changes: dict[str, str], choices: dict[str, str], words: str) -> None:
    given = {"end_to_end_id": ID, "amount": "70.00", "currency": "USD", "outcome": "executed", "booked_on": DAY}
    content = table(given | {"reference": "R"} | changes, delimiter=";")
    with pytest.raises(UnableToReadReport, match=words):
        bank_reports.report_of(content.encode(), Choices(**choices))


@pytest.mark.parametrize(
    ("text", "choice", "minor"),
    [
        ("1.250", "comma", 125_000), ("1.250", "point", 125), ("1,250", "point", 125_000), ("1,250", "comma", 125),
        ("1.250,50", "comma", 125_050), ("1,250.50", "point", 125_050), ("1 250,50", "comma", 125_050),
        ("1'250.50", "point", 125_050), ("12,5", "comma", 1250),
    ],
)  # fmt: skip
def test_an_amount_is_read_by_the_clerks_choice(text: str, choice: str, minor: int) -> None:
    assert tables.minor_of(text, "USD", Choices(decimals=choice)) == minor


def test_a_date_is_read_by_the_clerks_choice() -> None:
    assert tables.day_of("03/04/2026", Choices(days="day")) == date(2026, 4, 3)
    assert tables.day_of("03/04/2026", Choices(days="month")) == date(2026, 3, 4)
