"""The journal in other people's books: bean-check accepts it to the last digit, a spreadsheet reads it without harm."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import tracemalloc
from datetime import date, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from ledger import journal
from ledger.exports.journal import UnableToExport, journal_text, span_of
from ledger.journal import AccountKey, post
from ledger.models import Entry, Line
from ledger.money import format_amount
from ledger.operations import exchange, periods, verbs
from tests.worlds.programme import Programme
from tests.worlds.story import NOVEMBER, tell_story
from tests.worlds.world import CENT, World

pytestmark = pytest.mark.django_db
BEAN_CHECK = Path(sys.executable).parent / "bean-check"


@pytest.fixture
def world() -> World:
    """Two months with three currencies, a restatement, payouts of each end, and money that changed its currency."""
    told = tell_story(NOVEMBER)
    verbs.post_verb(
        verb="exchange_cash",
        amount=20_000 * CENT,
        currency="USD",
        into="EUR",
        rate="0.92",
        source="ECB 2026-11-20",
        reference="fx 1",
        at=told.at,
    )
    verbs.post_verb(verb="exchange_debt", contributor_id=told.contributors[1].pk, amount=3 * CENT, currency="USD",
        into="JPY",
                             rate="155.2", source='a "bank" \\ and = more', reference="fx 2", at=told.at)  # fmt: skip
    return told


def beancount(tmp_path: Path, **days: object) -> str:
    text = "".join(journal_text("beancount", span_of(**days)))  # type: ignore[arg-type]
    (tmp_path / "journal.beancount").write_text(text)
    return text


def checked(path: Path) -> str:
    """Return the objections of bean-check; nothing, when all is well."""
    done = subprocess.run([BEAN_CHECK, "--no-cache", path], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode == 0) == (not done.stderr.strip()), done.stderr
    return done.stderr


def test_bean_check_accepts_the_whole_journal(world: World, tmp_path: Path) -> None:
    text = beancount(tmp_path)
    assert checked(tmp_path / "journal.beancount") == ""
    assert len(re.findall(r"^  entry: [0-9]+\n  kind", text, re.M)) == Entry.objects.filter(n_lines__gt=0).count()
    assert len(re.findall(r"^  [A-Z]\S+  -?[0-9.]+ [A-Z]{3}$", text, re.M)) == Line.objects.count()
    assert {"USD", "EUR", "JPY"} <= set(re.findall(r"operating_currency\" \"([A-Z]{3})", text))
    assert 'rate: "0.92"\n  source: "ECB 2026-11-20"' in text
    assert "price USD 0.92 EUR" in text
    assert 'source: "a \\"bank\\" \\\\ and = more"' in text
    assert text.count(" balance ") >= 10


def test_bean_check_accepts_a_single_month_and_any_days_with_what_stood_before(world: World, tmp_path: Path) -> None:
    for days in ({"period": 202611}, {"period": 202610}, {"first": date(2026, 10, 26), "last": date(2026, 11, 19)}):
        text = beancount(tmp_path, **days)
        assert checked(tmp_path / "journal.beancount") == "", days
        assert "2026-1" in text
    assert "What stood before 2026-10-26" in text


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        (r"(  Assets:Bank:USD  -?[0-9]+\.[0-9]{8})([0-9])", lambda m: m[1] + str((int(m[2]) + 1) % 10)),
        (r"( balance Assets:StripeBalance:USD  -?[0-9]+\.[0-9]{8})([0-9])", lambda m: m[1] + str((int(m[2]) + 1) % 10)),
    ],
    ids=["a posting", "a balance"],
)
def test_bean_check_notices_a_billionth(world: World, tmp_path: Path, pattern: str, change: object) -> None:
    text = beancount(tmp_path)
    forged = re.sub(pattern, change, text, count=1)  # type: ignore[call-overload]
    assert forged != text
    (tmp_path / "forged.beancount").write_text(forged)
    assert checked(tmp_path / "forged.beancount") != ""


def test_no_two_accounts_share_a_name(world: World, tmp_path: Path) -> None:
    for contract in ("a b", "a/b", "a-b", "Ünïcode", "a-b-n7"):
        keys = AccountKey("advance", "USD", "contributor:1", contract), AccountKey("bank", "USD")
        post(kind="capital", idem_key=f"c{contract}", effective=NOVEMBER.date(), lines=[(keys[0], -5), (keys[1], 5)])
    text = beancount(tmp_path)
    opened = re.findall(r" open (\S+) ", text)
    assert len(opened) == len(set(opened)) >= 20
    assert checked(tmp_path / "journal.beancount") == ""


def test_the_csv_is_rfc_4180_and_runs_no_formula(world: World) -> None:
    evil = '=HYPERLINK("http://x")\n"quoted"'
    verbs.post_verb(verb="capital", amount=CENT, currency="USD", reference=evil, at=world.at)
    text = "".join(journal_text("csv", span_of()))
    assert text.startswith("\ufeff")
    text = text.removeprefix("\ufeff")
    assert "\r\n" in text
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert len(rows) == Line.objects.count()
    assert not [value for row in rows for value in row.values() if value.startswith(("=", "+", "@", "\t"))]
    assert any(row["reference"] == f"'{evil}" for row in rows)
    for code in ("USD", "EUR", "JPY"):
        sums = {side: sum_of(rows, code, side) for side in ("debit", "credit")}
        assert sums["debit"] == sums["credit"] > 0
    last = {row["account"]: row["balance_after"] for row in sorted(rows, key=lambda row: int(row["entry"]))}
    key = AccountKey("stripe_balance", "USD")
    assert last[str(journal.open_accounts([key])[0])] == format_amount(journal.balance(key), "USD")


def sum_of(rows: list[dict[str, str]], code: str, side: str) -> int:
    return sum(int(row[side].replace(".", "")) for row in rows if row["currency"] == code and row[side])


def test_the_command_writes_a_file_or_to_standard_output(world: World, tmp_path: Path) -> None:
    out = StringIO()
    call_command("export_journal", "--format", "csv", "--period", "2026-10", stdout=out)
    call_command("export_journal", "--format", "csv", "--from", "2026-10-01", "--to", "2026-10-31",
                 "--output", str(tmp_path / "j.csv"))  # fmt: skip
    assert (tmp_path / "j.csv").read_bytes().decode() == out.getvalue()
    for bad in (
        ["--period", "October"],
        ["--period", "2031-01"],
        ["--period", "2026-10", "--to", "2026-10-03"],
        ["--from", "2026-11-01", "--to", "2026-10-01"],
    ):
        with pytest.raises(CommandError):
            call_command("export_journal", *bad)


def test_an_empty_journal_and_an_unknown_format_are_named(at: datetime) -> None:
    with pytest.raises(UnableToExport, match="no entry yet"):
        span_of()
    periods.open_periods(at=at)
    verbs.post_verb(verb="capital", amount=1, currency="USD", reference="r", at=at)
    with pytest.raises(UnableToExport, match="is no format"):
        journal_text("xlsx", span_of())


def test_a_long_journal_is_exported_in_bounded_memory(at: datetime) -> None:
    """A transaction of documents may have thousands of lines; the journal has any number of them."""
    periods.open_periods(at=at)
    people = [AccountKey("contributor_accrued", "USD", f"contributor:{n}") for n in range(2000)]
    debit = (AccountKey("service_unbilled", "USD", "service:1"), -2000)
    for n in range(20):
        post(kind="collect", idem_key=f"k{n}", effective=at.date(), lines=[debit, *((key, 1) for key in people)])
    tracemalloc.start()
    try:
        size = sum(len(part) for part in journal_text("csv", span_of()))
        assert size > 8_000_000
        assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
    finally:
        tracemalloc.stop()


def test_staff_download_it_from_the_console(accrued: Programme) -> None:
    client = accrued.staff_client("auditor")
    page = client.get("/console/journal/").content.decode()
    assert "/console/journal/export/" in page
    answer = client.get("/console/journal/export/?format=csv&period=2026-10")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.getvalue().decode() == "".join(journal_text("csv", span_of(period=202610)))
    assert client.get("/console/journal/export/?format=beancount").status_code == 200
    assert client.get("/console/journal/export/?format=xlsx").status_code == 302
    assert client.get("/console/journal/export/?period=xx").status_code == 404


def test_what_an_exchange_rests_on_is_kept_whole_or_refused(world: World) -> None:
    for source in ("", " ", "x" * 60):
        with pytest.raises(exchange.UnableToExchange, match="name a source"):
            verbs.post_verb(verb="exchange_cash", amount=CENT, currency="USD", into="EUR", rate="0.9", source=source,
                                     reference=f"fx{len(source)}", at=world.at + timedelta(hours=1))  # fmt: skip
