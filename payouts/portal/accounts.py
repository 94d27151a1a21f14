"""Show the destination of a contributor's payouts: the account at Stripe, or the bank account."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from contributors.models import Contributor
from contributors.portal.guard import contributor_required
from payouts.forms.portal import BankDetailsForm
from payouts.models import Rail
from payouts.operations import accounts, banks, ended_accounts
from payouts.portal import contributor_of
from payouts.queries import payees, standing, words
from payouts.queries.ended_accounts import why_replaced
from payouts.queries.policies import terms_in_force
from payouts.rails import choice
from payouts.rails.bank import numbers
from payouts.rails.choice import rail_of
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of
from people.console.refusals import explained
from people.presentation.countries import COUNTRIES


@require_http_methods(["GET", "POST"])
@contributor_required(change=True)
@recently_authenticated
def set_up(request: HttpRequest) -> HttpResponse:
    """Explain the steps at Stripe, then open the account there and lead over.

    The answer to the POST is a page and no redirect. The `form-action` of the content security policy would stop a form
    from ending up at another site.
    """
    contributor = contributor_of(request)
    account = payees.account_of(contributor)
    if rail_of(contributor, account) == Rail.MANUAL_BANK_FILE:
        return redirect("payouts:bank_details")
    why = why_replaced(account) if account else ""
    if request.method == "GET":
        return render(request, "payouts/portal/onboarding.html", {"account": account, "why": why})
    at, seen = timezone.now(), presence_of(request)
    begin = ended_accounts.set_up_again if why else accounts.open_payout_account
    with explained(request) as refused:
        account = begin(contributor=contributor, by=user_of(request), at=at, seen=seen)
        link = accounts.onboarding_link(account=account, by=user_of(request), at=at, seen=seen)
    if refused:
        return redirect("payouts:set_up")
    return render(request, "payouts/portal/onboarding_leave.html", {"link": link})


@require_GET
@contributor_required(change=True)
@recently_authenticated
def onboarding(request: HttpRequest) -> HttpResponse:
    """Lead to Stripe's form by a fresh single-use link; Stripe also sends people with an expired link here."""
    account = payees.account_of(contributor_of(request))
    if account is None or account.provider_account_id is None or why_replaced(account):
        return redirect("payouts:set_up")
    with explained(request) as refused:
        link = accounts.onboarding_link(
            account=account, by=user_of(request), at=timezone.now(), seen=presence_of(request)
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
    account = payees.account_of(contributor_of(request))
    if account is None or account.provider_account_id is None:
        return redirect("payouts:payouts")
    with explained(request) as refused:
        account = accounts.sync_account(account=account, at=timezone.now())
    if not refused:
        asked = standing.asked_by_stripe(account)
        if asked:
            messages.warning(request, f"Stripe still needs {words.listed(asked)}.")
        elif account.is_onboarded:
            messages.success(request, "Stripe has all it needs. You can be paid.")
        else:
            messages.info(request, "Stripe has your answers and is checking them. We read the account again by itself.")
    return redirect("payouts:payouts")


@require_http_methods(["GET", "POST"])
@contributor_required(change=True)
@recently_authenticated
def bank_details(request: HttpRequest) -> HttpResponse:
    """Name the account that bank transfers go to, for contributors that Stripe does not pay."""
    contributor, at = contributor_of(request), timezone.now()
    account = payees.account_of(contributor)
    if rail_of(contributor, account) != Rail.MANUAL_BANK_FILE:
        return redirect("payouts:set_up")
    country, by_iban = _format_of(request, contributor)
    form = BankDetailsForm(request.POST or None, acting_for=contributor, country=country, by_iban=by_iban)
    known = account.bank_details.order_by("-pk").first() if account else None
    status, refused = 200, None
    if request.method == "POST":
        status = 422
        if form.is_valid():
            with explained(request, silent=True) as refused:
                banks.record_bank_details(
                    contributor=contributor, by=user_of(request), at=at, seen=presence_of(request), **form.cleaned_data
                )
            if not refused:
                days = terms_in_force(contributor.currency).bank_change_days
                told = f" A changed account waits {days} days before it is paid." if known and days else ""
                messages.success(request, f"Your bank account is stored, sealed.{told}")
                return redirect("payouts:payouts")
            status = refused.status
    context = {
        "form": form,
        "known": known,
        "refused": refused,
        "country": country,
        "countries": sorted((code, name) for code, name in COUNTRIES.items() if choice.reaches(code)),
        "other_way": choice.takes_iban(country) and country in numbers.FORMATS,
        "is_reached": choice.reaches(contributor.country),
    }
    return render(request, "payouts/portal/bank_details.html", context, status=status)


def _format_of(request: HttpRequest, contributor: Contributor) -> tuple[str, bool]:
    """Return the country of the account, as the page asks for it, and whether it is named by an IBAN."""
    given = request.POST if request.method == "POST" else request.GET
    country = given.get("account_country", "").upper()
    if country not in COUNTRIES:
        country = contributor.country
    if country not in numbers.FORMATS or request.POST.get("iban"):
        return country, True
    by = given.get("by", "")
    return country, choice.takes_iban(country) if by not in ("iban", "local") else by == "iban"
