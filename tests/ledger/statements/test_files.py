"""The files that a statement becomes, and the verifier that a payee runs on one of them."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import proof
from ledger.queries.credits import Credit
from ledger.statements.build import AccountStatement, JournalLine, ModelEarnings, Statement, WorkEarnings
from ledger.statements.csv import csv_parts, statement_csv
from ledger.statements.pdf import statement_pdf
from people.presentation.amounts import grouped, plain
from tests.ledger.statements.cases import sealed, statement_of, statements
from tests.people.presentation.papers import text_of

PROOF = Path(proof.__file__)


def a_statement(*, with_seal: bool = True) -> Statement:
    """A month with an accrual, its close and a payout with tax withheld."""
    credits = tuple(
        Credit(f"019e{number:04x}-0000-7000-8000-000000000000", 1, 3, amount)
        for number, amount in enumerate([4_000_000_001, 2_500_000_000, 1_234_567_899])
    )
    accrued = AccountStatement(
        "contributor_accrued USD contributor:7",
        "USD",
        9,
        0,
        (
            JournalLine(3, "accrue", "accrued", 7_734_567_900, "2026-10-31", "2026-10", "a3" * 32),
            JournalLine(5, "close", "closed", -7_734_567_900, "2026-10-31", "2026-10", "a5" * 32),
        ),
        credits,
        0,
        None,
    )
    payable = AccountStatement(
        "contributor_payable USD contributor:7",
        "USD",
        9,
        1_000_000_000,
        (
            JournalLine(5, "close", "closed", 7_734_567_900, "2026-10-31", "2026-10", "a5" * 32),
            JournalLine(6, "payout_reserve", "payouts", -8_730_000_000, "2026-10-31", "2026-10", "a6" * 32),
        ),
        (),
        4_567_900,
        None,
    )
    accounts, seal = sealed("2026-10", [accrued, payable]) if with_seal else ([accrued, payable], None)
    return statement_of(accounts, seal=seal, withheld={6: 2_619_000_000})


# --- the arithmetic -----------------------------------------------------------------------------------------------
@given(statements())
def test_opening_and_lines_make_the_closing_in_every_pot(statement: Statement) -> None:
    for pot in statement.pots:
        assert pot.opening + sum(line.amount for line in pot.lines) == pot.closing


@given(statements())
def test_the_pots_hold_every_account_once(statement: Statement) -> None:
    assert sum(pot.closing for pot in statement.pots if pot.currency == "USD") == sum(
        account.closing for account in statement.accounts if account.currency == "USD"
    )


def test_tax_withheld_is_told_apart_from_what_was_sent() -> None:
    (pot,) = a_statement().pots
    assert {line.kind: line.amount for line in pot.lines} == {
        "accrued": 7_734_567_900,
        "payouts": -6_111_000_000,
        "withholding": -2_619_000_000,
    }


@given(st.integers(-(10**18), 10**18), st.integers(0, 12))
def test_a_decimal_is_read_back_as_the_same_units(amount: int, scale: int) -> None:
    text = plain(amount, scale)
    assert int(text.replace(".", "")) == amount
    assert int(grouped(amount, scale).replace(",", "").replace(".", "").replace("−", "-")) == amount


# --- CSV ----------------------------------------------------------------------------------------------------------
@given(statements())
def test_the_csv_is_rectangular_crlf_and_runs_nothing(statement: Statement) -> None:
    data = statement_csv(statement)
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    assert {len(row) for row in rows} == {len(proof.COLUMNS)}
    assert data.endswith(b"\r\n")
    for row in rows:
        for column, value in zip(proof.COLUMNS, row, strict=True):
            if column == "amount":
                assert re.fullmatch(r"(-?\d+(\.\d+)?)?", value) or row[0] == "record"
            else:
                assert not value.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_every_figure_of_the_csv_is_the_statement_s() -> None:
    statement = a_statement()
    rows = list(csv.DictReader(io.StringIO(statement_csv(statement).decode("utf-8-sig"), newline="")))
    lines = {row["item"]: row["amount"] for row in rows if row["record"] == "line"}
    assert lines == {"accrued": "7.734567900", "payouts": "-6.111000000", "withholding": "-2.619000000"}
    assert [row["amount"] for row in rows if row["record"] == "credit"] == ["4.000000001", "2.500000000", "1.234567899"]


def test_a_spreadsheet_knows_the_file_by_its_mark_and_runs_no_title() -> None:
    statement = a_statement()
    title = replace(statement.works[0], title="=HYPERLINK(1)")
    data = statement_csv(replace(statement, works=(title, *statement.works[1:])))
    assert data.startswith(b"\xef\xbb\xbfrecord,period,")
    assert b",'=HYPERLINK(1)," in data
    assert proof.verify(data).root


# --- the verifier -------------------------------------------------------------------------------------------------
@given(statements())
def test_a_sealed_statement_is_verified(statement: Statement) -> None:
    assert statement.seal is not None
    verified = proof.verify(statement_csv(statement), root=statement.seal.root)
    assert verified.root == statement.seal.root
    assert verified.period == "2026-10"


@given(statements(with_seal=False))
def test_a_statement_without_a_seal_agrees_with_itself_and_proves_nothing(statement: Statement) -> None:
    assert proof.verify(statement_csv(statement)).root == ""


def test_a_file_is_verified_with_its_byte_order_mark_and_without_it() -> None:
    statement = a_statement()
    assert statement.seal is not None
    file = statement_csv(statement)
    bare = file.removeprefix(proof.BYTE_ORDER_MARK)
    assert file != bare
    for given_file in (file, bare):
        assert proof.verify(given_file, root=statement.seal.root).root == statement.seal.root
    with pytest.raises(proof.UnableToVerify, match="does not name the columns"):
        proof.verify(proof.BYTE_ORDER_MARK + file)


def test_a_file_of_before_the_mark_is_verified_and_one_changed_since_is_not() -> None:
    """Statements that payees keep were written without a mark, and say so in their digest row."""
    body, _, _ = statement_csv(a_statement()).removeprefix(proof.BYTE_ORDER_MARK).rpartition(b"digest,")
    words = b",,,,sha256 of every byte before this row,,"
    earlier = body + b"digest," + words + hashlib.sha256(body).hexdigest().encode() + b"\r\n"
    assert proof.verify(earlier).root
    with pytest.raises(proof.UnableToVerify, match="changed after it was made"):
        proof.verify(earlier.replace(b"Annual Message", b"Annual Massage"))


@settings(deadline=None)
@given(st.data())
def test_no_byte_of_a_file_can_be_changed(data: st.DataObject) -> None:
    file = bytearray(statement_csv(a_statement()))
    position = data.draw(st.integers(0, len(file) - 1))
    file[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(proof.UnableToVerify):
        proof.verify(bytes(file))


def forged(column: str, new: str, **where: str) -> bytes:
    """The file with one field of one row replaced and the digest made anew, as a forger would."""
    rows = list(csv.reader(io.StringIO(statement_csv(a_statement()).decode("utf-8-sig"), newline="")))[:-1]
    names = dict(zip(proof.COLUMNS, range(8), strict=True))
    (row,) = [r for r in rows if all(r[names[name]] == value for name, value in where.items())]
    row[names[column]] = new
    return with_digest(rows)


def with_digest(rows: list[list[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    body = buffer.getvalue().encode()
    return body + b"digest," + proof.digest_tail(body)


PAYABLE, ACCRUED = "contributor_payable USD contributor:7", "contributor_accrued USD contributor:7"


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (forged("amount", "1.000000001", record="opening"), "do not make the closing"),
        (forged("amount", "0.104567900", record="closing"), "do not make the closing"),
        (forged("amount", "7.734567901", record="line", item="accrued"), "do not make the closing"),
        (forged("amount", "-2.61900000", record="line", item="withholding"), "decimals"),
        (forged("amount", "1.100000000", record="account_opening", account=PAYABLE), "do not make the closing"),
        (forged("amount", "4.000000002", record="credit", amount="4.000000001"), "the credits of entry 3 sum to"),
        (forged("amount", "1.0", record="work", item="Annual Message"), "decimals"),
        (forged("amount", "1.000000000", record="work", item="Annual Message"), "earnings by work sum to"),
        (forged("amount", "9.000000000", record="model"), "earnings by model sum to"),
        (forged("reference", "4", record="journal", account=PAYABLE, item="closed"), "do not make the sealed leaf"),
        (forged("reference", "ff" * 32, record="leaf", account=PAYABLE), "do not make the sealed leaf"),
        (forged("hash", "ff" * 32, record="leaf", account=PAYABLE), "do not make the sealed leaf"),
        (forged("hash", "ff" * 32, record="tree"), "does not lead to the root"),
        (forged("hash", "ff" * 32, record="previous"), "do not make the root of the period"),
        (forged("hash", "ff" * 32, record="root"), "do not make the root of the period"),
        (forged("hash", "no", record="root"), "is no SHA-256"),
        (forged("item", "tributary-statement-9", record="statement"), "the format is"),
        (forged("period", "2026-11", record="root"), "speaks of period"),
        (forged("account", "bank USD ", record="leaf", account=PAYABLE), "no account of a contributor"),
        (forged("amount", "١.000000000", record="opening"), "is no amount"),
        (forged("amount", "1" * 40 + ".000000000", record="opening"), "is no amount"),
        (forged("reference", "1_0", record="journal", account=PAYABLE, item="closed"), "is no number"),
        (forged("item", "3 revision  1", record="credit", amount="4.000000001"), "is no number"),
        (forged("account", ACCRUED.replace("7", "8"), record="leaf", account=ACCRUED), "somebody else's account"),
        (forged("record", "account_opening", record="account_closing", account=PAYABLE), "stands there twice"),
        (forged("record", "tree", record="previous"), "stands there twice"),
        (forged("record", "line", record="closing"), "opening or closing is missing"),
        (forged("record", "bonus", record="account_closing", account=PAYABLE), "no such record"),
    ],
)
def test_a_forged_figure_is_named_even_under_a_new_digest(file: bytes, reason: str) -> None:
    with pytest.raises(proof.UnableToVerify, match=re.escape(reason)):
        proof.verify(file)


def test_a_file_cut_short_anywhere_is_refused_as_such() -> None:
    """At the end of any row, and in the middle of one."""
    file = statement_csv(a_statement())
    ends = [at + 2 for at in range(len(file)) if file[at : at + 2] == b"\r\n"][:-1]
    for end in [*ends, *(end + 7 for end in ends)]:
        with pytest.raises(proof.UnableToVerify):
            proof.verify(file[:end])
    with pytest.raises(proof.UnableToVerify, match="cut short"):
        proof.verify(file[: ends[-1]])


def test_two_statements_in_one_file_are_refused() -> None:
    file = statement_csv(a_statement())
    rows = list(csv.reader(io.StringIO(file.decode("utf-8-sig"), newline="")))[:-1]
    with pytest.raises(proof.UnableToVerify, match="a second one"):
        proof.verify(with_digest([*rows, rows[1]]))


def test_the_root_of_another_period_is_told_apart_from_that_of_the_file() -> None:
    statement = a_statement()
    assert statement.seal is not None
    with pytest.raises(proof.UnableToVerify, match="the published one is"):
        proof.verify(statement_csv(statement), root=statement.seal.previous)
    rows = list(csv.reader(io.StringIO(statement_csv(statement).decode("utf-8-sig"), newline="")))[:-1]
    earlier = [
        [value.replace("2026-10", "2026-09") if n == 1 else value for n, value in enumerate(row)] for row in rows
    ]
    with pytest.raises(proof.UnableToVerify, match="do not make the sealed leaf"):
        proof.verify(with_digest(earlier))


def test_what_is_no_statement_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = ",".join(proof.COLUMNS).encode() + b"\r\n"
    (tmp_path / "row.csv").write_bytes(header + b"x" * (proof.ROW_BYTES_MAX + 10))
    (tmp_path / "zip.csv").write_bytes(b"PK\x03\x04" + bytes(range(256)) * 20)
    (tmp_path / "nul.csv").write_bytes(header + b"\0" * 500)
    (tmp_path / "header.csv").write_bytes(header)
    with (tmp_path / "huge.csv").open("wb") as file:
        file.write(header)
        file.truncate(300 * 1024 * 1024)
    said = {}
    for name in ("row", "zip", "nul", "header", "huge", "missing", ""):
        assert proof.main([str(tmp_path / f"{name}.csv" if name else tmp_path)]) == 1
        said[name] = capsys.readouterr().err
        assert said[name].startswith("NOT VERIFIED: ")
        assert len(said[name]) < 400
        assert "Traceback" not in said[name]
    assert "too large" in said["row"]
    assert "too large" in said["huge"]


@pytest.mark.parametrize("credits", [60_000, pytest.param(1_000_000, marks=pytest.mark.full)])
def test_a_statement_of_very_many_generations_is_written_and_verified_in_bounded_memory(
    credits: int, tmp_path: Path
) -> None:
    """The credits are made as they are asked for, as those of a contributor are read."""
    accrued, payable = a_statement().accounts
    total = credits * (credits + 1) // 2
    journal = (replace(accrued.journal[0], amount=total), replace(accrued.journal[1], amount=-total))
    accrued = replace(accrued, credits=Many(credits), journal=journal, closing=accrued.opening)
    payable = replace(payable, journal=(replace(payable.journal[0], amount=total),), closing=payable.opening + total)
    statement = replace(
        statement_of([replace(accrued, credits=()), payable]),
        accounts=(accrued, payable),
        works=(WorkEarnings("USD", 9, "w1", "One", credits, total),),
        models=(ModelEarnings("USD", 9, "m1", "sotu-1", "Press", credits, total),),
    )
    path = tmp_path / "statement.csv"
    tracemalloc.start()
    try:
        with path.open("wb") as file:
            file.writelines(csv_parts(statement))
        with path.open("rb") as file:
            assert proof.verify_file(file).credits == credits
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()


class Many(Collection[Credit]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Credit]:
        return (Credit(f"019e0000-0000-7000-8000-{i:012x}", 1, 3, i) for i in range(1, self.count + 1))

    def __contains__(self, wanted: object) -> bool:
        return any(credit == wanted for credit in self)


def test_figures_that_agree_with_each_other_still_need_the_sealed_leaf() -> None:
    statement = a_statement()
    accrued, payable = statement.accounts
    richer = replace(payable, opening=payable.opening + 10**9, closing=payable.closing + 10**9)
    forged_one = statement_of([accrued, richer], seal=statement.seal, withheld={6: 2_619_000_000})
    with pytest.raises(proof.UnableToVerify, match="do not make the sealed leaf"):
        proof.verify(statement_csv(forged_one))


def test_a_whole_forged_tree_does_not_lead_to_the_published_root() -> None:
    statement = a_statement()
    assert statement.seal is not None
    accrued, payable = statement.accounts
    accounts, seal = sealed("2026-10", [accrued, replace(payable, opening=10**9 * 2, closing=payable.closing + 10**9)])
    file = statement_csv(statement_of(accounts, seal=seal, withheld={6: 2_619_000_000}))
    assert proof.verify(file).root == seal.root
    with pytest.raises(proof.UnableToVerify, match="the published one is"):
        proof.verify(file, root=statement.seal.root)


def test_a_missing_leaf_is_missed() -> None:
    rows = list(csv.reader(io.StringIO(statement_csv(a_statement()).decode("utf-8-sig"), newline="")))[:-1]
    kept = [row for row in rows if not (row[0] in {"leaf", "sibling"} and row[3] == PAYABLE)]
    with pytest.raises(proof.UnableToVerify, match="missing"):
        proof.verify(with_digest(kept))


def test_a_payee_runs_the_copied_file_alone(tmp_path: Path) -> None:
    """No package of ours, no installed package, no database: `python -I -S` sees the standard library only."""
    statement = a_statement()
    assert statement.seal is not None
    shutil.copy(PROOF, tmp_path / "verify_statement.py")
    (tmp_path / "statement.csv").write_bytes(statement_csv(statement))
    command = [sys.executable, "-I", "-S", "verify_statement.py", "statement.csv", "--root", statement.seal.root]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert statement.seal.root in done.stdout


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (statement_csv(a_statement(with_seal=False)), 2, "not sealed yet"),
        (forged("amount", "1.100000000", record="opening"), 1, "NOT VERIFIED: USD owed"),
        (b"\xff\xfe", 1, "no CSV in UTF-8"),
        (b"a,b\r\n1,2\r\n", 1, "does not name the columns"),
        (b"", 1, "does not name the columns"),
    ],
)
def test_the_exit_status_tells_proved_from_wrong_from_not_yet(
    content: bytes, status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "statement.csv"
    path.write_bytes(content)
    assert proof.main([str(path)]) == status
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


# --- the tree -----------------------------------------------------------------------------------------------------
@given(st.integers(1, 70), st.data())
def test_every_leaf_of_any_tree_leads_to_its_root(count: int, data: st.DataObject) -> None:
    leaves = [proof.leaf_hash(str(number)) for number in range(count)]
    position = data.draw(st.integers(0, count - 1))
    assert proof.climb(leaves[position], proof.siblings(leaves, position)) == proof.tree_root(leaves)


# --- PDF ----------------------------------------------------------------------------------------------------------
def test_the_pdf_shows_the_figures_of_the_statement() -> None:
    statement = a_statement()
    text = text_of(statement_pdf(statement))
    for amount in (1_000_000_000, 7_734_567_900, -6_111_000_000, -2_619_000_000, 4_567_900, 2_578_189_300):
        assert grouped(amount, 9) in text
    assert "Łukasz O'Brien & Söhne, Ltd." in text
    assert "October 2026" in text
    assert statement.seal is not None
    assert statement.seal.root in text.replace(" ", "")
    assert "Page 1 of" in text


def test_the_pdf_is_the_same_bytes_again() -> None:
    assert statement_pdf(a_statement()) == statement_pdf(a_statement())
    assert statement_csv(a_statement()) == statement_csv(a_statement())


@settings(max_examples=15, deadline=None)
@given(statements())
def test_any_statement_prints(statement: Statement) -> None:
    assert statement_pdf(statement).startswith(b"%PDF")
