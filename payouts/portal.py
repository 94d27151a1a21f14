"""The contributor's home, the account at Stripe, the history of payouts. One domain call a view, then translation."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from attribution.models import ManifestWork
from contributors.console import recently_authenticated
from contributors.models import Contributor, Membership
from contributors.portal import ContributorRequest, contributor_required
from contributors.queries import consent_matrix, linked_with, works_of
from contributors.templatetags.charts import BarChart, Series
from ledger import queries as ledger_queries
from ledger.money import asset, format_amount, from_minor
from payouts import exports, money, operations, queries, remittance, standing, words
from payouts.forms import BankDetailsForm, NoticesForm, ThresholdForm
from payouts.models import HoldReason, Payout, PayoutAccount, Rail
from payouts.notices import KINDS, OPTIONAL
from payouts.presence import presence_of
from payouts.rails import rail_of_country
from payouts.refusals import explained

MONTHS_SHOWN = 12
RECEIPTS_SHOWN = 5
WORKS_SHOWN = 5
NOTICES_PAGE = 30


@require_GET
@contributor_required
def home(request: HttpRequest) -> HttpResponse:
    contributor, at = _contributor(request), timezone.now()
    purses = standing.purses_of(contributor, at=at)
    months = ledger_queries.earnings_by_month(contributor.pk)
    return render(
        request,
        "portal/home.html",
        {
            "purses": purses,
            "has_earned": any(purse.earned for purse in purses),
            "charts": [_chart(months, purse.currency, at.date()) for purse in purses] if months else [],
            "empty": None if months else _first_step(contributor),
            "receipts": ledger_queries.receipts_of(contributor.pk, limit=RECEIPTS_SHOWN).rows,
            "consents": _consents(contributor, at),
            "counted_as_one": linked_with(contributor, at),
            **_next_payout(request, at),
        },
    )


@require_GET
@contributor_required
def top_works(request: HttpRequest) -> HttpResponse:
    """A part of the home page that is fetched by itself: it reads the evidence of a whole month."""
    contributor = _contributor(request)
    months = ledger_queries.earnings_by_month(contributor.pk)
    period = months[-1].period_id if months else None
    rows = ledger_queries.earnings_by_work(contributor.pk, period) if period else []
    named = [row for row in rows if row.work is not None and row.amount > 0]
    month = f"{date(period // 100, period % 100, 1):%B %Y}" if period else ""
    return render(request, "portal/home_works.html", {"rows": named[:WORKS_SHOWN], "month": month})


@require_GET
@contributor_required
def payouts(request: HttpRequest) -> HttpResponse:
    contributor, at = _contributor(request), timezone.now()
    account = queries.account_of(contributor)
    return _payouts_page(request, _threshold_form(contributor, account), at=at)


@require_http_methods(["GET", "POST"])
@contributor_required(change=True)
@recently_authenticated
def set_up(request: HttpRequest) -> HttpResponse:
    """Say what happens at Stripe, then open the account there and lead over.

    The answer to the POST is a page and no redirect: `form-action` of the content security policy would stop a form
    from ending up at another site.
    """
    contributor = _contributor(request)
    if _rail_of(contributor) == Rail.MANUAL_BANK_FILE:
        return redirect("payouts:bank_details")
    if request.method == "GET":
        account = queries.account_of(contributor)
        return render(request, "portal/onboarding.html", {"account": account})
    at, seen = timezone.now(), presence_of(request)
    with explained(request) as refused:
        account = operations.open_payout_account(contributor=contributor, by=_user(request), at=at, seen=seen)
        link = operations.onboarding_link(account=account, by=_user(request), at=at, seen=seen)
    if refused:
        return redirect("payouts:set_up")
    return render(request, "portal/onboarding_leave.html", {"link": link})


@require_GET
@contributor_required(change=True)
@recently_authenticated
def onboarding(request: HttpRequest) -> HttpResponse:
    """A fresh single-use link to Stripe's form; also where Stripe sends somebody whose link had run out."""
    account = queries.account_of(_contributor(request))
    if account is None or account.provider_account_id is None:
        return redirect("payouts:set_up")
    with explained(request) as refused:
        link = operations.onboarding_link(
            account=account, by=_user(request), at=timezone.now(), seen=presence_of(request)
        )
    return redirect("payouts:payouts" if refused else link)


@require_GET
@contributor_required
def returned(request: HttpRequest) -> HttpResponse:
    """Back from Stripe. Arriving here means nothing: the account is read again."""
    return _read_account_again(request)


@require_POST
@contributor_required
def read_account(request: HttpRequest) -> HttpResponse:
    return _read_account_again(request)


def _read_account_again(request: HttpRequest) -> HttpResponse:
    account = queries.account_of(_contributor(request))
    if account is None or account.provider_account_id is None:
        return redirect("payouts:payouts")
    with explained(request) as refused:
        account = operations.sync_account(account=account, at=timezone.now())
    if not refused:
        asked = standing.asked_by_stripe(account)
        if asked:
            messages.warning(request, f"Stripe still needs {words.listed(asked)}.")
        elif account.is_onboarded:
            messages.success(request, "Stripe has all it needs. You can be paid.")
        else:
            messages.info(request, "Stripe has your answers and is checking them. We read the account again by itself.")
    return redirect("payouts:payouts")


@require_POST
@contributor_required(change=True)
@recently_authenticated
def threshold(request: HttpRequest) -> HttpResponse:
    contributor, at = _contributor(request), timezone.now()
    account = queries.account_of(contributor)
    if account is None:
        return redirect("payouts:set_up")
    form = _threshold_form(contributor, account, request.POST)
    if not form.is_valid():
        return _payouts_page(request, form, at=at, status=422)
    minimum_minor = form.cleaned_data["minimum_minor"]
    with explained(request) as refused:
        operations.set_own_threshold(
            account=account, minimum_minor=minimum_minor, by=_user(request), at=at, seen=presence_of(request)
        )
    if not refused:
        written = format_amount(from_minor(minimum_minor, contributor.currency), contributor.currency, decimals=2)
        messages.success(request, f"You are paid from {contributor.currency} {written} on.")
    return redirect("payouts:payouts")


@require_http_methods(["GET", "POST"])
@contributor_required(change=True)
@recently_authenticated
def bank_details(request: HttpRequest) -> HttpResponse:
    """Name the account that bank transfers go to: for whom Stripe does not pay."""
    contributor, at = _contributor(request), timezone.now()
    if _rail_of(contributor) != Rail.MANUAL_BANK_FILE:
        return redirect("payouts:set_up")
    form = BankDetailsForm(request.POST or None, acting_for=contributor)
    account = queries.account_of(contributor)
    known = account.bank_details.order_by("-pk").first() if account else None
    status, refused = 200, None
    if request.method == "POST":
        status = 422
        if form.is_valid():
            with explained(request, silent=True) as refused:
                operations.record_bank_details(
                    contributor=contributor, by=_user(request), at=at, seen=presence_of(request), **form.cleaned_data
                )
            if not refused:
                days = operations.terms_in_force(contributor.currency).bank_change_days
                told = f" A changed account waits {days} days before it is paid." if known and days else ""
                messages.success(request, f"Your bank account is stored, sealed.{told}")
                return redirect("payouts:payouts")
            status = refused.status
    context = {"form": form, "known": known, "refused": refused}
    return render(request, "portal/bank_details.html", context, status=status)


@require_POST
@contributor_required(change=True)
@recently_authenticated
def pause(request: HttpRequest) -> HttpResponse:
    with explained(request) as refused:
        operations.pause_own_payouts(
            contributor=_contributor(request), by=_user(request), at=timezone.now(), seen=presence_of(request)
        )
    if not refused:
        messages.success(request, "Your payouts are paused. What you earn is kept for you until you resume them.")
    return redirect("payouts:payouts")


@require_POST
@contributor_required(change=True)
@recently_authenticated
def resume(request: HttpRequest) -> HttpResponse:
    with explained(request) as refused:
        operations.resume_own_payouts(
            contributor=_contributor(request), by=_user(request), at=timezone.now(), seen=presence_of(request)
        )
    if not refused:
        messages.success(request, "Your payouts go on: the next run pays what you are owed.")
    return redirect("payouts:payouts")


@require_http_methods(["GET", "POST"])
@contributor_required
def notices(request: HttpRequest) -> HttpResponse:
    """Everything that the contributor was told, and which kinds come as mail as well."""
    contributor = _contributor(request)
    may_change = _membership(request).role != Membership.Role.VIEWER
    muted = set(contributor.muted_notices.values_list("kind", flat=True))
    form = NoticesForm(request.POST or None, initial={"wanted": [name for name in OPTIONAL if name not in muted]})
    status = 200
    if request.method == "POST":
        if not may_change:
            raise PermissionDenied("Only an owner or manager chooses which mails are sent.")
        status = 422
        if form.is_valid():
            with explained(request) as refused:
                operations.choose_notices(
                    contributor=contributor, muted=set(OPTIONAL) - set(form.cleaned_data["wanted"]), by=_user(request)
                )
            if not refused:
                messages.success(request, "Saved. What stops your money is always mailed.")
            return redirect("payouts:notices")
    page = Paginator(queries.notices_of(contributor), NOTICES_PAGE).get_page(request.GET.get("page"))
    rows = [
        (KINDS[row.kind].subject if row.kind in KINDS else words.spaced(row.kind).capitalize(), row) for row in page
    ]
    context = {
        "page_obj": page, "rows": rows, "form": form, "may_change": may_change,
        "always": [kind.label for kind in KINDS.values() if kind.essential],
    }  # fmt: skip
    return render(request, "portal/notices.html", context, status=status)


def _rail_of(contributor: Contributor) -> Rail:
    account = queries.account_of(contributor)
    return Rail(account.rail) if account else rail_of_country(contributor.country)


@require_GET
@contributor_required
def remittance_pdf(request: HttpRequest, public_id: UUID) -> HttpResponse:
    payout = queries.payouts_of(_contributor(request)).filter(public_id=public_id, state__in=Payout.PAID).first()
    if payout is None:
        raise Http404
    response = HttpResponse(remittance.pdf(payout), content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="remittance-{payout.public_id}.pdf"'
    return response


@require_GET
@contributor_required
def history_csv(request: HttpRequest) -> HttpResponse:
    contributor = _contributor(request)
    response = HttpResponse(exports.history(queries.payouts_of(contributor)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="payouts.csv"'
    return response


def _payouts_page(request: HttpRequest, form: ThresholdForm, *, at: datetime, status: int = 200) -> HttpResponse:
    contributor = _contributor(request)
    account = queries.account_of(contributor)
    asked = standing.asked_by_stripe(account) if account else []
    holds = queries.open_holds(contributor)
    later = words.requirements(account.requirements.get("eventually_due", [])) if account else []
    return render(
        request,
        "portal/payouts.html",
        {
            "account": account,
            "purses": standing.purses_of(contributor, at=at),
            "asked": asked,
            "later": [what for what in later if what not in asked],
            "checking": words.requirements(account.requirements.get("pending_verification", [])) if account else [],
            "holds": holds,
            "history": queries.payouts_of(contributor),
            "paid_states": Payout.PAID,
            "form": form,
            "by_bank": _rail_of(contributor) == Rail.MANUAL_BANK_FILE,
            "bank": account.bank_details.order_by("-pk").first() if account else None,
            "is_paused": any(one.hold.reason == HoldReason.CONTRIBUTOR_PAUSED for one in holds),
            "latest_notices": queries.notices_of(contributor)[:3],
            **_next_payout(request, at),
        },
        status=status,
    )


def _next_payout(request: HttpRequest, at: datetime) -> dict[str, Any]:
    """What both pages say of the payout that comes next."""
    contributor = _contributor(request)
    latest = queries.payouts_of(contributor).first()
    left_out = next(iter(queries.left_out_of(contributor)), None)
    if left_out is not None and latest is not None and latest.run.created_at >= left_out.run.created_at:
        left_out = None
    return {
        "task": standing.task_of(contributor),
        "may_change": _membership(request).role != Membership.Role.VIEWER,
        "current": latest if latest is not None and latest.state in (*Payout.LIVE, Payout.State.READY) else None,
        "left_out": left_out,
        "next_run_on": _first_of_next_month(at.date()),
        "closing_month": f"{at:%B %Y}",
    }


def _threshold_form(contributor: Contributor, account: PayoutAccount | None, data: Any = None) -> ThresholdForm:
    currency = contributor.currency
    least_minor = max(
        operations.terms_in_force(currency).minimum_minor,
        money.rail_minimum(account.country if account else contributor.country, currency, rail=_rail_of(contributor)),
    )
    own_minor = account.minimum_minor if account else 0
    shown = format_amount(
        from_minor(max(least_minor, own_minor), currency), currency, decimals=asset(currency).exponent
    )
    least = format_amount(from_minor(least_minor, currency), currency, decimals=asset(currency).exponent)
    return ThresholdForm(
        data,
        currency=currency,
        least_text=f"{currency} {least}",
        initial={"minimum_minor": shown},
        auto_id="threshold_%s",
    )


def _chart(months: list[ledger_queries.MonthEarnings], currency: str, today: date) -> BarChart:
    """The last twelve months, this one last. A month in which more was taken back than earned shows no bar."""
    found = {row.period_id: row for row in months if row.currency == currency}
    numbers = []
    year, month = today.year, today.month
    for _ in range(MONTHS_SHOWN):
        numbers.append(year * 100 + month)
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    numbers.reverse()
    kinds = {"By attribution": "direct", "Floor pool": "floor", "Other": "other"}
    series = [
        Series(name, [max(0, getattr(found[n], kind)) if n in found else 0 for n in numbers])
        for name, kind in kinds.items()
    ]
    used = [one for one in series if any(one.values)]
    labels = [f"{date(number // 100, number % 100, 1):%b %Y}" for number in numbers]
    return BarChart(
        title="Earned per month", labels=labels, series=used or series[:1], currency=currency,
        scale=asset(currency).scale, places=asset(currency).exponent,
    )  # fmt: skip


def _consents(contributor: Contributor, at: datetime) -> list[tuple[str, str]]:
    """For each scope its label and what is said of it: `all`, `some` (of the datasets) or `none`."""
    everything, *datasets = consent_matrix(contributor, at)
    found = []
    for i, state in enumerate(everything.states):
        said = [row.states[i].current.value for row in datasets if row.states[i].current]  # type: ignore[union-attr]
        general = state.current.value if state.current else ""
        if general == "deny" or (general == "" and "allow" not in said):
            answer = "none"
        else:
            answer = "all" if general == "allow" and "deny" not in said else "some"
        found.append((state.label, answer))
    return found


def _first_step(contributor: Contributor) -> dict[str, str]:
    """Why nothing is earned yet, and what has to happen first."""
    trained = ManifestWork.objects.filter(work__dataset__contributor=contributor)
    newest = trained.select_related("manifest__model_version").order_by("-manifest__created_at", "-pk").first()
    n_works = works_of(contributor).count()
    if newest is not None:
        n_trained = trained.filter(manifest=newest.manifest).count()
        return {
            "title": "No earnings yet",
            "sentence": f"{n_trained} of your works {'is' if n_trained == 1 else 'are'} in the training set of "
            f"{newest.manifest.model_version}. The first royalties appear after it has served a generation that "
            "drew on them.",
        }
    if n_works:
        return {
            "title": "No earnings yet",
            "sentence": f"{n_works} of your works {'is' if n_works == 1 else 'are'} registered; no model has been "
            "trained on them yet. A model may be, once you allow it.",
            "action": "See what you allow",
            "url": reverse("contributors:consent"),
        }
    return {
        "title": "Begin with your works",
        "sentence": "Register what you made and say what may be done with it. Royalties follow when a model that was "
        "trained on it generates something.",
        "action": "Register works",
        "url": reverse("contributors:works"),
    }


def _first_of_next_month(today: date) -> date:
    return date(today.year + today.month // 12, today.month % 12 + 1, 1)


def _contributor(request: HttpRequest) -> Contributor:
    return cast(ContributorRequest, request).contributor


def _membership(request: HttpRequest) -> Membership:
    return cast(ContributorRequest, request).membership


def _user(request: HttpRequest) -> Any:
    return request.user
