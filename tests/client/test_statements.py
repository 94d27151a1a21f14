"""Two verifiers of statements, written apart, come to the same verdict on real statements and on every tampering."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tributary.statements import StatementError, VerifiedStatement, verify_statement

from ledger import proof
from ledger.statements.build import Statement
from ledger.statements.csv import statement_csv
from tests.ledger.statements.cases import statements
from tests.ledger.statements.test_files import a_statement, with_digest

REPLACEMENTS = (
    "",
    "0",
    "1.000000001",
    "-1.000000001",
    "ff" * 32,
    "2026-11",
    "JPY",
    "statement",
    "leaf",
    "closing",
    "left",
)


def verdict(data: bytes, root: str = "") -> tuple[object, ...] | str:
    """Return the client's verdict: the verified figures, or the reason."""
    try:
        found: VerifiedStatement = verify_statement(data, root=root)
    except StatementError as reason:
        return str(reason)
    return (found.period, found.reference, found.accounts, found.credits, found.root)


def wanted(data: bytes, root: str = "") -> tuple[object, ...] | str:
    """Return the verdict of the programme's own verifier."""
    try:
        found = proof.verify(data, root=root)
    except proof.UnableToVerify as reason:
        return str(reason)
    return (found.period, found.reference, found.accounts, found.credits, found.root)


def rows_of(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))[:-1]


def tampered() -> Iterator[tuple[str, bytes]]:
    """Yield every field of every row changed, every row removed, doubled and moved, each under a new digest."""
    rows = rows_of(statement_csv(a_statement()))
    for place, row in enumerate(rows):
        for column, value in enumerate(row):
            for new in REPLACEMENTS:
                if new != value:
                    changed = [*rows[:place], [*row[:column], new, *row[column + 1 :]], *rows[place + 1 :]]
                    yield f"{place}.{column}={new}", with_digest(changed)
        yield f"{place} removed", with_digest([*rows[:place], *rows[place + 1 :]])
        yield f"{place} doubled", with_digest([*rows[:place], row, *rows[place:]])
        yield f"{place} last", with_digest([*rows[:place], *rows[place + 1 :], row])
        yield f"{place} shorter", with_digest([*rows[:place], row[:-1], *rows[place + 1 :]])


def test_both_come_to_the_same_verdict_on_every_tampering() -> None:
    refused = 0
    for name, data in tampered():
        ours, theirs = verdict(data), wanted(data)
        assert isinstance(ours, str) == isinstance(theirs, str), (name, ours, theirs)
        refused += isinstance(ours, str)
        if not isinstance(ours, str):
            assert ours == theirs, name
    assert refused > 1_500


@given(statements(), st.booleans())
@settings(deadline=None)
def test_both_prove_the_same_sealed_statement(statement: Statement, with_root: bool) -> None:
    data = statement_csv(statement)
    assert statement.seal is not None
    root = statement.seal.root if with_root else ""
    assert verdict(data, root) == wanted(data, root)
    assert verify_statement(data, root=root.upper()).is_proved


@given(statements(with_seal=False))
@settings(deadline=None)
def test_both_prove_nothing_of_a_month_that_is_not_sealed(statement: Statement) -> None:
    data = statement_csv(statement)
    assert verdict(data) == wanted(data)
    assert not verify_statement(data).is_proved
    assert verdict(data, "ab" * 32) == wanted(data, "ab" * 32)


@given(st.data())
@settings(deadline=None)
def test_no_byte_can_be_changed(data: st.DataObject) -> None:
    file = bytearray(statement_csv(a_statement()))
    position = data.draw(st.integers(0, len(file) - 1))
    file[position] ^= data.draw(st.integers(1, 255))
    assert isinstance(verdict(bytes(file)), str)
    assert isinstance(wanted(bytes(file)), str)


def test_reasons_are_told_in_the_same_words() -> None:
    file = statement_csv(a_statement())
    cases = [file[:-9], b"", b"\xff\xfe", b"a,b\r\n1,2\r\n", proof.BYTE_ORDER_MARK + file]
    cases += [file.replace(b"Annual", b"Annuel"), file.replace(b"7.734567900", b"7.734567901")]
    for case in cases:
        assert verdict(case) == wanted(case)
        assert isinstance(verdict(case), str)
    assert verdict(file, "ab" * 32) == wanted(file, "ab" * 32)


def test_a_file_is_verified_by_its_path_and_open(tmp_path: Path) -> None:
    path = tmp_path / "statement.csv"
    path.write_bytes(statement_csv(a_statement()))
    with path.open("rb") as file:
        assert verify_statement(file) == verify_statement(path) == verify_statement(str(path))
