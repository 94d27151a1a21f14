"""The journal for other people's books: as plain-text accounting (beancount) or as CSV, streamed.

Decides how our accounts and signs are told there. Beancount counts debits positive, we count credits positive. Every
amount keeps all decimals of its asset; every entry keeps its number, its hash and, where it exchanges, rate and source.
Each month ends with the balances that the database sums. The reader's program compares them with the sums of the
entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db import connection

from ledger.journal import CHART
from ledger.models import Entry, EntryKind, Period
from ledger.money import format_amount
from people.presentation import csv
from people.queries.programme import legal_entity_line

FORMATS = {"beancount": "text/plain; charset=utf-8", "csv": csv.CONTENT_TYPE}
CHUNK = 2_000
# The root of beancount under which a kind of account stands, where the normal side does not tell it.
ROOTS = {
    "fees": "Expenses",
    "programme_cost": "Expenses",
    "platform_fee": "Income",
    "fx_gain_loss": "Income",
    "programme_equity": "Equity",
    "fx_clearing": "Equity",
    "suspense_cash": "Liabilities",
}
SIDE_ROOTS = {"D": "Assets", "C": "Liabilities"}
CSV_COLUMNS = (
    "entry", "effective", "posted_at", "period", "earned_period", "kind", "reference", "rule", "reverses", "account",
    "account_kind", "currency", "owner", "contract", "debit", "credit", "balance_after", "key", "hash",
)  # fmt: skip
EXCHANGES = (EntryKind.EXCHANGE_DEBT, EntryKind.EXCHANGE_CASH)
_UNNAMED = re.compile(r"[^A-Za-z0-9-]+")
_RATE = re.compile(r"(?P<rate>\S+) (?P<into>[A-Z]{3})/(?P<currency>[A-Z]{3}) (?P<source>.+)", re.DOTALL)
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")


class UnableToExport(Exception):
    """The format or the days make no export; the message names the fault."""

    status = 422
    problem = "export-invalid"


@dataclass(frozen=True, slots=True)
class Span:
    """The days of an export, both included, and the last entry that it tells of."""

    first: date
    last: date
    last_entry: int

    @property
    def after(self) -> date:
        return self.last + timedelta(days=1)


def span_of(*, period: int | None = None, first: date | None = None, last: date | None = None) -> Span:
    """The days of a month, or from a day to a day; all there are where nothing is said. Raises UnableToExport."""
    newest = Entry.objects.order_by("-id").values_list("id", flat=True).first() or 0
    if period is not None:
        if first is not None or last is not None:
            raise UnableToExport("Name a period, or days: not both.")
        month = Period.objects.filter(pk=period).first()
        if month is None:
            raise UnableToExport(f"There is no period {period}.")
        return Span(month.starts, month.last_day, newest)
    days = Entry.objects.order_by("effective").values_list("effective", flat=True)
    first, last = first or days.first(), last or days.last()
    if first is None or last is None:
        raise UnableToExport("The journal has no entry yet.")
    if last < first:
        raise UnableToExport(f"The last day, {last}, is before the first, {first}.")
    return Span(first, last, newest)


def journal_text(form: str, span: Span) -> Iterator[str]:
    """The export in parts of a few hundred kilobytes. `form` is one of FORMATS. Raises UnableToExport."""
    if form not in FORMATS:
        raise UnableToExport(f"{form!r} is no format; there are {' and '.join(FORMATS)}.")
    return _parts(_beancount(span)) if form == "beancount" else csv.text_parts(CSV_COLUMNS, _csv_rows(span))


def _parts(lines: Iterator[str]) -> Iterator[str]:
    held: list[str] = []
    for line in lines:
        held.append(line)
        if len(held) >= CHUNK:
            yield "".join(held)
            held.clear()
    yield "".join(held)


# --- from the database --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Line:
    entry: int
    effective: date
    posted_at: Any
    period: int
    earned: int
    kind: str
    reference: str
    rule: str
    reverses: int | None
    key: str
    hash: memoryview
    account: int
    account_kind: str
    currency: str
    owner: str
    contract: str
    amount: int
    balance_after: int


_LINES = """
SELECT e.id, e.effective, e.posted_at, e.period_id, e.earned_period_id, e.kind, e.reference, e.rule_version, e.reverses,
       e.idem_key, e.hash, a.id, a.kind, s.code, a.owner, a.contract, l.amount, l.balance_after
  FROM ledger_entry e
  JOIN ledger_line l ON l.entry_id = e.id
  JOIN ledger_account a ON a.id = l.account_id
  JOIN ledger_asset s ON s.id = a.asset_id
 WHERE e.period_id BETWEEN %(first_period)s AND %(last_period)s
   AND e.effective BETWEEN %(first)s AND %(last)s AND e.id <= %(last_entry)s
 ORDER BY e.effective, e.id, a.id"""
# The balances of accounts before a day: those that moved between two days, or all of them.
_BALANCES = """
SELECT a.id, a.kind, s.code, a.owner, a.contract, sum(l.amount)::bigint
  FROM ledger_line l
  JOIN ledger_entry e ON e.id = l.entry_id
  JOIN ledger_account a ON a.id = l.account_id
  JOIN ledger_asset s ON s.id = a.asset_id
 WHERE e.effective < %(before)s AND e.id <= %(last_entry)s
 GROUP BY a.id, s.code
HAVING {having}
 ORDER BY a.id"""
_MOVED = "bool_or(e.effective >= %(since)s)"


def _rows(sql: str, parameters: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    with connection.chunked_cursor() as cursor:
        cursor.execute(sql, parameters)
        while rows := cursor.fetchmany(CHUNK):
            yield from rows


def _lines(span: Span) -> Iterator[_Line]:
    parameters = {
        "first": span.first,
        "last": span.last,
        "last_entry": span.last_entry,
        "first_period": span.first.year * 100 + span.first.month,
        "last_period": span.last.year * 100 + span.last.month,
    }
    return (_Line(*row) for row in _rows(_LINES, parameters))


def _entries(span: Span) -> Iterator[list[_Line]]:
    """The lines of each entry, one entry at a time. (An entry of documents may have thousands.)"""
    held: list[_Line] = []
    for line in _lines(span):
        if held and line.entry != held[0].entry:
            yield held
            held = []
        held.append(line)
    if held:
        yield held


# --- beancount ----------------------------------------------------------------------------------------------------
def _beancount(span: Span) -> Iterator[str]:
    yield f"; The books of {legal_entity_line()}\n"
    yield 'option "title" "Tributary"\n'
    # Entries balance to the last digit: nothing is tolerated.
    yield 'option "inferred_tolerance_default" "*:0"\n'
    yield from (f'option "operating_currency" "{code}"\n' for code in _currencies())
    yield "\n"
    yield from _openings(span)
    ends = _month_ends(span)
    for lines in _entries(span):
        while ends and lines[0].effective >= ends[0]:
            yield from _assertions(span, ends.pop(0))
        yield from _transaction(lines)
    for end in ends:
        yield from _assertions(span, end)


def _currencies() -> list[str]:
    sql = (
        "SELECT code FROM ledger_asset s WHERE EXISTS (SELECT FROM ledger_balance b WHERE b.account_id %% 256 = s.id"
        " AND b.version > 0) ORDER BY s.id"
    )
    return [row[0] for row in _rows(sql, {})]


def _openings(span: Span) -> Iterator[str]:
    """Open every account that the export names on its first day, with its balance before that day."""
    for number, kind, currency, owner, contract, _ in _rows(
        _BALANCES.format(having="true"), {"before": span.after, "last_entry": span.last_entry}
    ):
        yield f"{span.first} open {_name(number, kind, currency, owner, contract)} {currency}\n  number: {number}\n"
    stood: dict[str, int] = {}
    for number, kind, currency, owner, contract, amount in _rows(
        _BALANCES.format(having="sum(l.amount) <> 0"), {"before": span.first, "last_entry": span.last_entry}
    ):
        if not stood:
            yield f'\n{span.first} * "What stood before {span.first}"\n'
        stood[currency] = stood.get(currency, 0) + amount
        yield _posting(_name(number, kind, currency, owner, contract), amount, currency)
    # Every currency balances by itself, so that nothing is left for an account of opening balances to take.
    assert not any(stood.values()), stood
    yield "\n"


def _month_ends(span: Span) -> list[date]:
    """The first day after each month that the export covers to its end, and after its last day."""
    months = Period.objects.filter(ends__gt=span.first, ends__lte=span.after).order_by("id")
    return sorted({*months.values_list("ends", flat=True), span.after})


def _assertions(span: Span, end: date) -> Iterator[str]:
    """Assert the database's sums up to the end of a month, for each account that moved in it."""
    since = max(span.first, (end - timedelta(days=1)).replace(day=1))
    parameters = {"before": end, "since": since, "last_entry": span.last_entry}
    yield f"\n; Balances at the end of {end - timedelta(days=1)}\n"
    for number, kind, currency, owner, contract, amount in _rows(_BALANCES.format(having=_MOVED), parameters):
        name = _name(number, kind, currency, owner, contract)
        yield f"{end} balance {name}  {format_amount(-amount, currency)} ~ 0 {currency}\n"
    yield "\n"


def _transaction(lines: Sequence[_Line]) -> Iterator[str]:
    head = lines[0]
    title = EntryKind(head.kind).label if head.kind in EntryKind.values else head.kind
    yield f"\n{head.effective} * {_quoted(title)} {_quoted(head.reference)}\n"
    yield f"  entry: {head.entry}\n  kind: {_quoted(head.kind)}\n  key: {_quoted(head.key)}\n"
    yield f'  earned: "{_code(head.earned)}"\n  posted: "{head.posted_at.isoformat()}"\n  hash: "{head.hash.hex()}"\n'
    if head.reverses is not None:
        yield f"  reverses: {head.reverses}\n"
    exchanged = _RATE.fullmatch(head.rule) if head.kind in EXCHANGES else None
    if exchanged:
        yield f"  rate: {_quoted(exchanged['rate'])}\n  source: {_quoted(exchanged['source'])}\n"
    elif head.rule:
        yield f"  rule: {_quoted(head.rule)}\n"
    for line in lines:
        name = _name(line.account, line.account_kind, line.currency, line.owner, line.contract)
        yield _posting(name, line.amount, line.currency)
    if exchanged and _DECIMAL.fullmatch(exchanged["rate"]):
        yield f"{head.effective} price {exchanged['currency']} {exchanged['rate']} {exchanged['into']}\n"
        yield f"  source: {_quoted(exchanged['source'])}\n  entry: {head.entry}\n"


def _posting(name: str, amount: int, currency: str) -> str:
    return f"  {name}  {format_amount(-amount, currency)} {currency}\n"


def _name(number: int, kind: str, currency: str, owner: str, contract: str) -> str:
    """Liabilities:ContributorPayable:USD:Contributor-42, the same for the same account in every export.

    A part that beancount cannot spell gets the account's number, so that no two accounts share a name.
    """
    root = ROOTS.get(kind) or SIDE_ROOTS[CHART[kind].normal_side]
    parts = [root, "".join(word.capitalize() for word in kind.split("_")), currency]
    word, _, rest = owner.partition(":")
    if owner:
        parts.append(_part(f"{word.capitalize()}-{rest}", number))
    if contract:
        parts.append(_part(f"Contract-{contract}", number))
    return ":".join(parts)


def _part(text: str, number: int) -> str:
    spelled = _UNNAMED.sub("-", text)
    return spelled if spelled == text and not re.search(r"-n[0-9]+$", text) else f"{spelled}-n{number}"


def _quoted(text: str) -> str:
    plain = "".join(character if character.isprintable() else " " for character in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _code(period: int) -> str:
    return f"{period // 100}-{period % 100:02d}"


# --- CSV ----------------------------------------------------------------------------------------------------------
def _csv_rows(span: Span) -> Iterator[tuple[object, ...]]:
    for line in _lines(span):
        shown = format_amount(abs(line.amount), line.currency)
        yield (
            line.entry, line.effective, line.posted_at.isoformat(), _code(line.period), _code(line.earned), line.kind,
            line.reference, line.rule, line.reverses or "", line.account, line.account_kind,
            line.currency, line.owner, line.contract, shown if line.amount < 0 else "",
            shown if line.amount > 0 else "", format_amount(line.balance_after, line.currency), line.key,
            line.hash.hex(),
        )  # fmt: skip
