"""The contributor's payouts: the next one and the past ones, their papers, the threshold, and the pause."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from contributors.models import Contributor, Membership
from contributors.portal.guard import contributor_required
from ledger.money import asset
from ledger.typed_amounts import typed_of_minor
from payouts.exports import remittance, tables
from payouts.forms.portal import ThresholdForm
from payouts.models import HoldReason, Payout, PayoutAccount, Rail
from payouts.operations import accounts
from payouts.operations.holds import pause_own_payouts, resume_own_payouts
from payouts.portal import contributor_of, membership_of
from payouts.queries import payees, standing, words
from payouts.queries.ended_accounts import may_set_up_again
from payouts.queries.policies import terms_in_force
from payouts.rails import amounts as money
from payouts.rails.choice import rail_of
from people.console.confirmation import SecondLook, asked_again, is_sent
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of
from people.console.refusals import explained
from people.presentation import amounts, csv, dates


@require_GET
@contributor_required
def payouts(request: HttpRequest) -> HttpResponse:
    contributor, at = contributor_of(request), timezone.now()
    account = payees.account_of(contributor)
    return _payouts_page(request, _threshold_form(contributor, account), at=at)


@require_POST
@contributor_required(change=True)
@recently_authenticated
def threshold(request: HttpRequest) -> HttpResponse:
    contributor, at = contributor_of(request), timezone.now()
    account = payees.account_of(contributor)
    if account is None:
        return redirect("payouts:set_up")
    form = _threshold_form(contributor, account, request.POST)
    if not is_sent(request):
        return _payouts_page(request, form, at=at)
    if not form.is_valid():
        return _payouts_page(request, form, at=at, status=422)
    minimum_minor = form.cleaned_data["minimum_minor"]
    wanted = amounts.text_of_minor(minimum_minor, asset(contributor.currency))
    look = SecondLook("Pay you from this amount on?", "Yes, from this amount on", base="people/portal/base.html")
    if asked := asked_again(request, look, [("You are paid from", wanted)]):
        return asked
    with explained(request) as refused:
        accounts.set_own_threshold(
            account=account, minimum_minor=minimum_minor, by=user_of(request), at=at, seen=presence_of(request)
        )
    if not refused:
        messages.success(request, f"You are paid from {wanted} on.")
    return redirect("payouts:payouts")


@require_POST
@contributor_required(change=True)
@recently_authenticated
def pause(request: HttpRequest) -> HttpResponse:
    with explained(request) as refused:
        pause_own_payouts(
            contributor=contributor_of(request), by=user_of(request), at=timezone.now(), seen=presence_of(request)
        )
    if not refused:
        messages.success(request, "Your payouts are paused. Your earnings are kept for you until you resume them.")
    return redirect("payouts:payouts")


@require_POST
@contributor_required(change=True)
@recently_authenticated
def resume(request: HttpRequest) -> HttpResponse:
    with explained(request) as refused:
        resume_own_payouts(
            contributor=contributor_of(request), by=user_of(request), at=timezone.now(), seen=presence_of(request)
        )
    if not refused:
        messages.success(request, "Your payouts go on: the next run pays your balance.")
    return redirect("payouts:payouts")


@require_GET
@contributor_required
def remittance_pdf(request: HttpRequest, public_id: UUID) -> HttpResponse:
    payout = payees.payouts_of(contributor_of(request)).filter(public_id=public_id, state__in=Payout.PAID).first()
    if payout is None:
        raise Http404
    response = HttpResponse(remittance.pdf(payout), content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="remittance-{payout.public_id}.pdf"'
    return response


@require_GET
@contributor_required
def history_csv(request: HttpRequest) -> HttpResponse:
    contributor = contributor_of(request)
    response = HttpResponse(tables.history(payees.payouts_of(contributor)), content_type=csv.CONTENT_TYPE)
    response["Content-Disposition"] = 'attachment; filename="payouts.csv"'
    return response


def _payouts_page(request: HttpRequest, form: ThresholdForm, *, at: datetime, status: int = 200) -> HttpResponse:
    contributor = contributor_of(request)
    account = payees.account_of(contributor)
    asked = standing.asked_by_stripe(account) if account else []
    holds = payees.open_holds(contributor)
    later = standing.asked_later(account) if account else []
    return render(
        request,
        "payouts/portal/payouts.html",
        {
            "account": account,
            "purses": standing.purses_of(contributor, at=at),
            "asked": asked,
            "later": [what for what in later if what not in asked],
            "untold": payees.untold_bank_payouts(account) if account else [],
            "may_set_up_again": may_set_up_again(account),
            "checking": words.requirements(account.requirements.get("pending_verification", [])) if account else [],
            "holds": holds,
            "history": payees.payouts_of(contributor),
            "paid_states": Payout.PAID,
            "form": form,
            "by_bank": rail_of(contributor, account) == Rail.MANUAL_BANK_FILE,
            "bank": account.bank_details.order_by("-pk").first() if account else None,
            "is_paused": any(one.hold.reason == HoldReason.CONTRIBUTOR_PAUSED for one in holds),
            "latest_notices": payees.notices_of(contributor)[:3],
            **next_payout(request, at),
        },
        status=status,
    )


def next_payout(request: HttpRequest, at: datetime) -> dict[str, Any]:
    """Return the facts that both pages show of the next payout."""
    contributor = contributor_of(request)
    latest = payees.payouts_of(contributor).first()
    left_out = next(iter(payees.left_out_of(contributor)), None)
    if left_out is not None and latest is not None and latest.run.created_at >= left_out.run.created_at:
        left_out = None
    return {
        "task": standing.task_of(contributor),
        "may_change": membership_of(request).role != Membership.Role.VIEWER,
        "current": latest if latest is not None and latest.state in (*Payout.LIVE, Payout.State.READY) else None,
        "left_out": left_out,
        "next_run_on": _first_of_next_month(dates.today(at)),
        "closing_month": dates.month(at),
    }


def _threshold_form(contributor: Contributor, account: PayoutAccount | None, data: Any = None) -> ThresholdForm:
    currency = contributor.currency
    least_minor = max(
        terms_in_force(currency).minimum_minor,
        money.rail_minimum(
            account.country if account else contributor.country, currency, rail=rail_of(contributor, account)
        ),
    )
    own_minor = account.minimum_minor if account else 0
    shown = typed_of_minor(max(least_minor, own_minor), currency)
    return ThresholdForm(
        data,
        currency=currency,
        least_text=amounts.text_of_minor(least_minor, asset(currency)),
        initial={"minimum_minor": shown},
        auto_id="threshold_%s",
    )


def _first_of_next_month(today: date) -> date:
    return date(today.year + today.month // 12, today.month % 12 + 1, 1)
