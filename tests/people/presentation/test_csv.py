"""CSV tables open right in a spreadsheet, and no cell runs as a formula."""

from __future__ import annotations

import ast
import csv as standard
import io
from datetime import date
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from people.presentation import csv


def opened_by_excel(data: bytes) -> list[list[str]]:
    """Read a file as Excel does: UTF-8 after a byte-order mark, else the local code page."""
    marked = data.startswith(b"\xef\xbb\xbf")
    text = data[3:].decode() if marked else data.decode("cp1252", errors="replace")
    return list(standard.reader(io.StringIO(text, newline=""), strict=True))


def written(*cells: object) -> list[str]:
    _, row = opened_by_excel(csv.table([f"c{n}" for n in range(len(cells))], [cells]))
    return row


@pytest.mark.parametrize("name", ["Müller", "Łukasz Żółć", "Юлія Коваленко", "李小龍", "محمد صلاح", "Ana 🎨"])
def test_a_name_reads_as_it_is_written(name: str) -> None:
    assert written(name) == [name]


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\x0b=1", "\xa0=1", "\u3000=1", "-1+1", "+1.2.3",
     "＝1+1", "＋1", "－1", "＠A1", " ＝1", "=cmd|'/C calc'!A0", "|calc", "%1", "\tplain", "\rplain"],
)  # fmt: skip
def test_a_formula_is_disarmed(cell: str) -> None:
    assert written(cell) == [f"'{cell}"]


@pytest.mark.parametrize(
    "cell", ["-0.50", "12.34", "", "Grant, U. S.", "a=b", "a|b", "O'Neil", '"quoted"', "two\nlines"]
)
def test_a_number_and_plain_text_stay_as_they_are(cell: str) -> None:
    assert written(cell) == [cell]


def test_values_of_other_types_are_written_plainly() -> None:
    assert written(None, 12, -12, Decimal("-1.50"), True) == ["", "12", "-12", "-1.50", "True"]


class Named:
    def __str__(self) -> str:
        return "＝1+1"


def test_the_text_of_an_object_is_guarded_as_well() -> None:
    assert written(Named(), date(2026, 11, 20), UUID(int=7)) == ["'＝1+1", "2026-11-20", str(UUID(int=7))]


# The only modules that may build a table for a spreadsheet, and the calls by which one is built.
WRITERS = {"people/presentation/csv.py": {"writer"}, "payouts/exports/tables.py": {"Workbook"}}
PRODUCT = ("people", "contributors", "attribution", "ledger", "payouts", "config", "influence", "stripe_sandbox")


def test_every_table_goes_through_the_one_guard() -> None:
    """No module writes CSV or XLSX by itself, and the workbook writes texts as texts."""
    found: dict[str, set[str]] = {}
    for path in (path for app in PRODUCT for path in Path(app).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"writer", "DictWriter", "Workbook", "to_csv"}:
                whole = ast.unparse(node)
                if whole.startswith(("csv.", "xlsxwriter.", "openpyxl.")) or node.attr == "to_csv":
                    found.setdefault(path.as_posix(), set()).add(node.attr)
    assert found == WRITERS
    tables = ast.parse(Path("payouts/exports/tables.py").read_text())
    calls = {
        node.attr for node in ast.walk(tables) if isinstance(node, ast.Attribute) and node.attr.startswith("write")
    }
    assert calls == {"write_string", "write_number"}


def test_every_answer_of_type_csv_is_made_by_the_one_writer() -> None:
    """A view that names the type of CSV calls this module, or a function of its app that returns a call of it."""
    told = {"table", "parts", "text_parts"}
    makers = {"csv_parts", *told}
    for path in (path for app in PRODUCT for path in Path(app).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(each, ast.Attribute) and ast.unparse(each) in {f"csv.{name}" for name in told}
                for each in ast.walk(node)
            ):
                makers.add(node.name)
    for path in (path for app in PRODUCT for path in Path(app).rglob("*.py")):
        text = path.read_text()
        if path.as_posix() == "people/presentation/csv.py":
            continue
        assert '"text/csv; ' not in text, f"{path} writes the type by hand"
        if "content_type=csv.CONTENT_TYPE" not in text:
            continue
        used = {
            (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call)
        }
        assert used & makers, path


def test_a_null_character_is_removed_and_hides_no_formula() -> None:
    assert written("a\x00b", "\x00=1+1") == ["ab", "'=1+1"]


def test_lines_end_as_rfc_4180_says_and_the_mark_stands_once() -> None:
    data = csv.table(["a", "b"], [[1, 2]])
    assert data == b"\xef\xbb\xbfa,b\r\n1,2\r\n"
    assert csv.table(["a"], []) == b"\xef\xbb\xbfa\r\n"


def test_a_long_table_comes_in_parts() -> None:
    rows = csv.ROWS_A_PART * 2 + 1
    parts = list(csv.parts(["n"], ([n] for n in range(rows))))
    assert len(parts) == 3
    assert [row for [row] in opened_by_excel(b"".join(parts))[1:]] == [str(n) for n in range(rows)]
    assert b"".join(parts).count(b"\xef\xbb\xbf") == 1


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), max_size=5))
def test_a_table_reads_back_rectangular_and_runs_nothing(rows: list[list[str]]) -> None:
    read = opened_by_excel(csv.table(["a", "b"], rows))
    assert read[0] == ["a", "b"]
    assert len(read) == len(rows) + 1
    for found, given_row in zip(read[1:], rows, strict=True):
        for cell, given_cell in zip(found, given_row, strict=True):
            assert not cell.lstrip().startswith(("=", "@", "+", "＝", "＋", "－", "＠"))
            kept = given_cell.replace("\x00", "")
            assert cell in (kept, f"'{kept}")
