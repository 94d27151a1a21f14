"""What finance staff see of the books: trial balance, journal, periods with close and seal, plans."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from contributors.console import recently_authenticated, staff_required
from contributors.models import Contributor
from ledger import queries
from ledger.forms import AnswerDisputeForm
from ledger.journal import CHART
from ledger.journal_export import FORMATS, UnableToExport, journal_text, span_of
from ledger.models import Account, EntryKind, Line, Period, ReceiptDispute
from ledger.money import ASSETS, format_amount
from ledger.operations import (
    UnableToAccrue,
    UnableToAnswerDispute,
    UnableToClose,
    UnableToSeal,
    answer_dispute,
    close_period,
    seal_period,
)  # fmt: skip
from ledger.operations.disputes import ANSWERERS
from people.presentation import csv

READERS = ("finance_maker", "finance_checker", "auditor", "admin")
ACCOUNTS_SHOWN_MAX = 200
DISPUTES_PAGE = 50
UNACCRUED_SHOWN_MAX = 200
PERIOD_TONES = {"open": "info", "closing": "warn", "closed": "neutral", "sealed": "good"}
SIDES = {"D": "debit", "C": "credit", "E": "either"}


def kind_title(kind: str) -> str:
    return kind.replace("_", " ").capitalize()


# --- trial balance ------------------------------------------------------------------------------------------------
@staff_required(*READERS)
@require_GET
def trial_balance(request: HttpRequest) -> HttpResponse:
    as_of = _number(request.GET.get("as_of", ""))
    found = queries.trial_balance(as_of)
    return render(request, "console/trial_balance.html", {"balance": found, "as_of": "" if as_of is None else as_of})


@staff_required(*READERS)
@require_GET
def trial_balance_csv(request: HttpRequest) -> HttpResponse:
    found = queries.trial_balance(_number(request.GET.get("as_of", "")))
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
    found = queries.accounts_of_kind(kind, currency, limit=ACCOUNTS_SHOWN_MAX)
    owners = owners_in_words(account.owner for account, _ in found)
    sign = -1 if CHART[kind].normal_side == "D" else 1
    context = {
        "title": kind_title(kind),
        "currency": currency,
        "side": SIDES[CHART[kind].normal_side],
        "accounts": [AccountRow(account, owners[account.owner], sign * posted) for account, posted in found],
        "cut": len(found) == ACCOUNTS_SHOWN_MAX,
    }
    return render(request, "console/journal_accounts.html", context)


def owners_in_words(owners: Iterable[str]) -> dict[str, str]:
    """Owners in words: a contributor by name, anything else as the account has it."""
    known = set(owners)
    numbers = {o: int(o.partition(":")[2]) for o in known if o.startswith("contributor:")}
    names = dict(Contributor.objects.filter(pk__in=numbers.values()).values_list("pk", "display_name"))
    return {o: names.get(numbers[o], o) if o in numbers else o.replace(":", " ") for o in known}


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
    found, next_before = queries.entries(
        kind=chosen["kind"] if chosen["kind"] in EntryKind.values else "",
        period=queries.period_number(chosen["period"]),
        account=account_id,
        before=before,
    )
    context = {
        "entries": found,
        "next_before": next_before,
        "before": before,
        "account": account,
        "chosen": chosen,
        "kinds": EntryKind.choices,
        "periods": queries.periods(),
    }
    return render(request, "console/journal.html", context)


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
    found = queries.entry_in_full(entry_id, after_document=after)
    if found is None:
        raise Http404("There is no such entry.")
    owners = owners_in_words(line.account.owner for line in found.lines)
    lines = [_shown(line, owners) for line in found.lines]
    return render(request, "console/entry.html", {"entry": found.entry, "found": found, "lines": lines, "after": after})


def _shown(line: Line, owners: dict[str, str]) -> ShownLine:
    account = line.account
    return ShownLine(
        account, kind_title(account.kind), owners[account.owner], account.asset.code, line.amount, line.balance_after
    )


@staff_required(*READERS)
@require_GET
def export_journal(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """The journal for other accounting programs, sent while it is read; all of it or one period."""
    form, code = request.GET.get("format", "beancount"), request.GET.get("period", "")
    number = queries.period_number(code)
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


# --- periods ------------------------------------------------------------------------------------------------------
@staff_required(*READERS)
@require_GET
def periods(request: HttpRequest) -> HttpResponse:
    found = list(queries.periods())
    return render(request, "console/periods.html", {"periods": [(row, PERIOD_TONES[row.state]) for row in found]})


@dataclass(frozen=True, slots=True)
class Action:
    title: str
    words: str
    url: str


@staff_required(*READERS)
@require_GET
def period(request: HttpRequest, code: str) -> HttpResponse:
    found = _period(code)
    waits = found.state in (Period.State.OPEN, Period.State.CLOSING)
    context: dict[str, Any] = {
        "period": found,
        "tone": PERIOD_TONES[found.state],
        "sentence": _sentence(found),
        "action": _action(found),
        "may_act": request.user.is_authenticated and request.user.has_role("finance_checker"),
        "waiting": queries.not_accrued(found) if waits else None,
        "unaccrued": queries.unaccrued_at_close(found.pk, limit=UNACCRUED_SHOWN_MAX),
        "floor_corrections": [(row, -sum(row.amounts)) for row in queries.floor_corrections(found.pk)],
        "floors": [(floor, sum(floor.amounts)) for floor in queries.floor_distributions(found.pk)],
    }
    return render(request, "console/period.html", context)


def _sentence(found: Period) -> str:
    match found.state:
        case Period.State.OPEN:
            return "Open: entries can be dated in it."
        case Period.State.CLOSING:
            return "The close has begun and is not finished; run it again to finish it."
        case Period.State.CLOSED:
            return "Closed: no entry can be dated in it any more. Seal it to publish its root."
    return "Closed and sealed: every statement of the month can be proved against the root."


def _action(found: Period) -> Action | None:
    """What can be done with the period now."""
    url = {"code": found.code}
    if found.state in (Period.State.OPEN, Period.State.CLOSING):
        if timezone.now().date() < found.ends:
            return None
        words = (
            "Accrues what is attributed, distributes the floor pools, makes what is left payable and lists what is not "
            "accrued. A close that was cut off goes on where it stood. It cannot be undone."
        )
        return Action(f"Close {found.code}", words, reverse("ledger:close_period", kwargs=url))
    if found.state == Period.State.CLOSED:
        words = (
            "Makes one leaf for each account, a Merkle tree above them, and chains its root to that of the period "
            "before. From then on every contributor can prove its statement offline. It cannot be undone."
        )
        return Action(f"Seal {found.code}", words, reverse("ledger:seal_period", kwargs=url))
    return None


@staff_required("finance_checker")
@require_POST
@recently_authenticated
def close(request: HttpRequest, code: str) -> HttpResponseRedirect:
    found = _period(code)
    try:
        closed = close_period(period=found.pk, at=timezone.now())
    except (UnableToClose, UnableToAccrue) as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"Period {closed.code} is closed.")
    return redirect("ledger:period", found.code)


@staff_required("finance_checker")
@require_POST
@recently_authenticated
def seal(request: HttpRequest, code: str) -> HttpResponseRedirect:
    found = _period(code)
    try:
        sealed = seal_period(period=found.pk, at=timezone.now())
    except UnableToSeal as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"Period {sealed.code} is sealed under {bytes(sealed.root or b'').hex()}.")
    return redirect("ledger:period", found.code)


def _period(code: str) -> Period:
    number = queries.period_number(code)
    found = queries.period(number) if number else None
    if found is None:
        raise Http404("There is no such period.")
    return found


# --- disputes -----------------------------------------------------------------------------------------------------
DISPUTE_READERS = (*READERS, "compliance")


@staff_required(*DISPUTE_READERS)
@require_GET
def disputes(request: HttpRequest) -> HttpResponse:
    chosen = request.GET.get("state", ReceiptDispute.State.OPEN)
    chosen = chosen if chosen in ReceiptDispute.State.values else ReceiptDispute.State.OPEN
    page = Paginator(queries.disputes(chosen), DISPUTES_PAGE).get_page(request.GET.get("page"))
    context = {
        "page_obj": page,
        "chosen": chosen,
        "states": [(value, label.capitalize()) for value, label in ReceiptDispute.State.choices],
    }
    return render(request, "console/disputes.html", context)


@staff_required(*DISPUTE_READERS)
@require_http_methods(["GET", "POST"])
def answer(request: HttpRequest, dispute_id: int) -> HttpResponse:
    found = queries.disputes().filter(pk=dispute_id).select_related("raised_by").first()
    if found is None:
        raise Http404("There is no such dispute.")
    user = request.user
    assert user.is_authenticated
    may_act = user.has_role(*ANSWERERS)
    form = AnswerDisputeForm(request.POST or None)
    if request.method == "POST" and not may_act:
        raise PermissionDenied(f"A dispute is answered by {' or '.join(ANSWERERS)}.")
    if request.method == "POST" and form.is_valid():
        try:
            answer_dispute(
                dispute=found, upheld=form.cleaned_data["decision"] == "upheld", words=form.cleaned_data["words"],
                by=user, at=timezone.now(),
            )  # fmt: skip
        except UnableToAnswerDispute as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "The answer stands on the contributor's receipt.")
            return redirect("ledger:disputes")
    context = {
        "dispute": found,
        "form": form,
        "may_act": may_act,
        "receipt": queries.receipt_for_contributor(found.generation_id, found.contributor_id),
    }
    return render(request, "console/dispute.html", context, status=422 if form.errors else 200)


def _uuid(text: str) -> uuid.UUID | None:
    """An identifier from an address; None for anything else."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _number(text: str) -> int | None:
    """A number from an address; None for anything else, and for what no row can have."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
