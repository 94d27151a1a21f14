"""Console pages of the books: trial balance, accounts, journal, entries, export."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from ledger.exports.journal import FORMATS, UnableToExport, journal_text, span_of
from ledger.journal import CHART
from ledger.models import Account, EntryKind, Line
from ledger.money import ASSETS, format_amount
from ledger.queries import books
from ledger.queries.account_words import kind_title, owners_in_words
from people.console.guard import staff_required
from people.presentation import csv

READERS = ("finance_maker", "finance_checker", "auditor", "admin")
ACCOUNTS_SHOWN_MAX = 200
SIDES = {"D": "debit", "C": "credit", "E": "either"}


def normal_sign(kind: str) -> int:
    """Return the factor that turns a balance positive on the normal side of its kind of account.

    The journal keeps credits positive. A page shows an asset that was debited as a positive sum.
    """
    return -1 if CHART[kind].normal_side == "D" else 1


# --- trial balance ------------------------------------------------------------------------------------------------
@staff_required(*READERS)
@require_GET
def trial_balance(request: HttpRequest) -> HttpResponse:
    as_of = _number(request.GET.get("as_of", ""))
    found = books.trial_balance(as_of)
    return render(
        request, "ledger/console/trial_balance.html", {"balance": found, "as_of": "" if as_of is None else as_of}
    )


@staff_required(*READERS)
@require_GET
def trial_balance_csv(request: HttpRequest) -> HttpResponse:
    found = books.trial_balance(_number(request.GET.get("as_of", "")))
    header = ("as_of_entry", "hash", "currency", "kind", "accounts", "debit", "credit")
    lines: list[tuple[object, ...]] = []
    for currency, rows, debits, credits, _ in found.totals:
        for row in rows:
            amounts = (format_amount(row.debit, currency), format_amount(row.credit, currency))
            lines.append((found.as_of, found.hash.hex(), currency, row.kind, row.accounts, *amounts))
        sums = (format_amount(debits, currency), format_amount(credits, currency))
        lines.append((found.as_of, found.hash.hex(), currency, "sum", "", *sums))
    response = HttpResponse(csv.table(header, lines), content_type=csv.CONTENT_TYPE)
    response["Content-Disposition"] = f'attachment; filename="trial-balance-{found.as_of}.csv"'
    return response


@dataclass(frozen=True, slots=True)
class AccountRow:
    account: Account
    owner: str
    balance: int


@staff_required(*READERS)
@require_GET
def accounts(request: HttpRequest, currency: str, kind: str) -> HttpResponse:
    if kind not in CHART or currency not in ASSETS:
        raise Http404("There is no such kind of account.")
    found = books.accounts_of_kind(kind, currency, limit=ACCOUNTS_SHOWN_MAX)
    owners = owners_in_words(account.owner for account, _ in found)
    sign = normal_sign(kind)
    context = {
        "title": kind_title(kind),
        "currency": currency,
        "side": SIDES[CHART[kind].normal_side],
        "accounts": [AccountRow(account, owners[account.owner], sign * posted) for account, posted in found],
        "cut": len(found) == ACCOUNTS_SHOWN_MAX,
    }
    return render(request, "ledger/console/journal_accounts.html", context)


# --- journal ------------------------------------------------------------------------------------------------------
@staff_required(*READERS)
@require_GET
def journal(request: HttpRequest) -> HttpResponse:
    if (number := _number(request.GET.get("entry", ""))) is not None:
        return redirect("ledger:entry", number)
    chosen = {"kind": request.GET.get("kind", ""), "period": request.GET.get("period", "")}
    account_id = _number(request.GET.get("account", ""))
    account = Account.objects.filter(pk=account_id).first() if account_id is not None else None
    if account_id is not None and account is None:
        raise Http404("There is no such account.")
    before = _number(request.GET.get("before", ""))
    found, next_before = books.entries(
        kind=chosen["kind"] if chosen["kind"] in EntryKind.values else "",
        period=books.period_number(chosen["period"]),
        account=account_id,
        before=before,
    )
    amounts = books.moved([entry.pk for entry in found])
    context = {
        "entries": [(entry, amounts.get(entry.pk, [])) for entry in found],
        "next_before": next_before,
        "before": before,
        "account": account,
        "chosen": chosen,
        "kinds": EntryKind.choices,
        "periods": books.periods(),
    }
    return render(request, "ledger/console/journal.html", context)


@dataclass(frozen=True, slots=True)
class ShownLine:
    account: Account
    title: str
    owner: str
    currency: str
    amount: int
    balance_after: int

    @property
    def absolute(self) -> int:
        return abs(self.amount)


@staff_required(*READERS)
@require_GET
def entry(request: HttpRequest, entry_id: int) -> HttpResponse:
    after = _uuid(request.GET.get("after", ""))
    found = books.entry_in_full(entry_id, after_document=after)
    if found is None:
        raise Http404("There is no such entry.")
    owners = owners_in_words(line.account.owner for line in found.lines)
    lines = [_shown(line, owners) for line in found.lines]
    return render(
        request, "ledger/console/entry.html", {"entry": found.entry, "found": found, "lines": lines, "after": after}
    )


def _shown(line: Line, owners: dict[str, str]) -> ShownLine:
    account = line.account
    return ShownLine(
        account,
        kind_title(account.kind),
        owners[account.owner],
        account.asset.code,
        line.amount,
        normal_sign(account.kind) * line.balance_after,
    )


@staff_required(*READERS)
@require_GET
def export_journal(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """The journal for other accounting programs, sent while it is read; all of it or one period."""
    form, code = request.GET.get("format", "beancount"), request.GET.get("period", "")
    number = books.period_number(code)
    if code and number is None:
        raise Http404("There is no such period.")
    try:
        parts = journal_text(form, span_of(period=number))
    except UnableToExport as error:
        messages.error(request, str(error))
        return redirect("ledger:journal")
    response = StreamingHttpResponse((part.encode() for part in parts), content_type=FORMATS[form])
    response["Content-Disposition"] = f'attachment; filename="journal-{code or "all"}.{form}"'
    response["Cache-Control"] = "private, no-store"
    return response


def _uuid(text: str) -> uuid.UUID | None:
    """An identifier from an address; None for anything else."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _number(text: str) -> int | None:
    """A number from an address; None for anything else, and for a number that no row can have."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
