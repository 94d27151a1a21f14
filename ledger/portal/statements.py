"""Statements: the list, one month as a page, as CSV with its proof and as PDF, and the verifier itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_GET

from contributors.portal.guard import ContributorRequest, contributor_required
from ledger import proof
from ledger.models import Period
from ledger.portal.receipts import month_code
from ledger.queries import books, receipts
from ledger.queries.accounts import CREDITED_KIND, movements
from ledger.statements.build import EARNING_KINDS, PAYING_KINDS, Statement, build_statement
from ledger.statements.csv import csv_parts
from ledger.statements.pdf import statement_pdf
from people.presentation import csv, dates
from people.presentation.amounts import grouped
from people.queries.programme import legal_entity, legal_entity_line

LINES_SHOWN_MAX = 200
Response = TypeVar("Response", bound=HttpResponseBase)
OWED_KINDS = tuple(kind for kind, pot in proof.POTS.items() if pot == "owed")
RECEIPT_LINES = ("accrued", "prior_period", "restated", "prior_restated", "voided", "prior_voided")
TONES = {"open": "info", "closing": "warn", "closed": "neutral", "sealed": "good"}


@dataclass(frozen=True, slots=True)
class StatementRow:
    period: str
    month: str
    state: str
    tone: str
    currency: str
    currencies: int
    earned: int
    paid: int
    closing: int


@contributor_required
@require_GET
def statements(request: ContributorRequest) -> HttpResponse:
    found = movements(request.contributor.pk, OWED_KINDS, EARNING_KINDS, PAYING_KINDS)
    currencies = len({row.currency for row in found})
    rows = [
        StatementRow(
            period=month_code(row.period_id),
            month=dates.month_of_number(row.period_id),
            state=row.state.capitalize(),
            tone=TONES[row.state],
            currency=row.currency,
            currencies=currencies,
            earned=row.earned,
            paid=-row.paid,
            closing=row.closing,
        )
        for row in found
    ]
    return render(request, "ledger/portal/statements.html", {"statements": rows})


@contributor_required
@require_GET
def statement(request: ContributorRequest, period: str) -> HttpResponse:
    made = _statement(request, period)
    lines = made.journal
    context = {
        "statement": made,
        "tone": TONES[made.state],
        "sentence": _sentence(made),
        "lines": lines[:LINES_SHOWN_MAX],
        "hidden_lines": len(lines) if len(lines) > LINES_SHOWN_MAX else 0,
        "receipt_kinds": RECEIPT_LINES,
        "accrued": _accrued(made),
        "file_name": f"{_file_name(made)}.csv",
        "issuer": legal_entity(),
    }
    return render(request, "ledger/portal/statement.html", context)


@contributor_required
@require_GET
def statement_as_csv(request: ContributorRequest, period: str) -> StreamingHttpResponse:
    made = _statement(request, period)
    # As long as the contributor's generations are many: sent while it is made.
    response = StreamingHttpResponse(csv_parts(made, legal_entity_line()), content_type=csv.CONTENT_TYPE)
    return _for_its_owner(response, f"{_file_name(made)}.csv")


@contributor_required
@require_GET
def statement_as_pdf(request: ContributorRequest, period: str) -> HttpResponse:
    made = _statement(request, period)
    return _file(statement_pdf(made), "application/pdf", f"{_file_name(made)}.pdf")


@require_GET
def verifier(request: object) -> HttpResponse:
    """The verifier as it runs here: one file, which needs Python's standard library alone. Public, as the roots are."""
    return _file(Path(proof.__file__).read_bytes(), "text/x-python; charset=utf-8", "verify_statement.py")


def _statement(request: ContributorRequest, code: str) -> Statement:
    """The contributor's own statement. There is one for every month since its first entry, and none before."""
    number = books.period_number(code)
    months = receipts.months_of(request.contributor.pk)
    period = Period.objects.filter(pk=number).first() if number else None
    if period is None or not months or period.pk < months[-1]:
        raise Http404("You have no statement for this month.")
    return build_statement(contributor=request.contributor, period=period)


def _file(data: bytes, content_type: str, name: str) -> HttpResponse:
    return _for_its_owner(HttpResponse(data, content_type=content_type), name)


def _for_its_owner(response: Response, name: str) -> Response:
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    # A statement is its owner's alone: no cache on the way may keep it.
    response["Cache-Control"] = "private, no-store"
    return response


def _file_name(made: Statement) -> str:
    return f"statement-{made.period}"


def _accrued(made: Statement) -> list[tuple[str, int]]:
    return [
        (code, sum(account.accrued for account in made.accounts if account.currency == code))
        for code in sorted({account.currency for account in made.accounts if account.kind == CREDITED_KIND})
    ]


def _sentence(made: Statement) -> str:
    owed = [pot for pot in made.pots if pot.name == "owed"]
    if not owed:
        return "Nothing moved and nothing is owed."
    end = "so far" if made.state == "open" else "carried over"
    parts = [
        f"{pot.currency} {grouped(pot.opening, pot.scale)} at the beginning, "
        f"{pot.currency} {grouped(pot.closing, pot.scale)} {end}"
        for pot in owed
    ]
    return f"{'; '.join(parts)}."
