"""The money that runs are paid from: the balance at Stripe, the needed amount, and topping it up."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from ledger.models import Account
from ledger.money import ASSETS, from_minor
from payouts.console import ADMIN, CHECKER, MAKER, actor_required, reader_required
from payouts.forms.runs import TopUpForm
from payouts.models import PayoutRun, Rail, TopUp
from payouts.operations import control
from payouts.operations import funding as operations
from payouts.operations.funding import fund_platform
from payouts.queries import balances
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of
from people.presentation import amounts, dates


@dataclass(frozen=True, slots=True)
class Funds:
    """One currency, in ledger units; `at_stripe` None where Stripe did not answer, for `why`."""

    currency: str
    ledger: int
    at_stripe: int | None
    why: str
    needed: int

    @property
    def short(self) -> int:
        return max(0, self.needed - (self.at_stripe if self.at_stripe is not None else self.ledger))


@require_GET
@reader_required
def funding(request: HttpRequest) -> HttpResponse:
    return render(
        request,
        "payouts/console/funding.html",
        {
            "funds": [_funds(code) for code in _currencies()],
            "top_ups": TopUp.objects.select_related("requested_by").order_by("-pk")[:50],
            "may_top_up": user_of(request).has_role(MAKER, CHECKER, ADMIN),
        },
    )


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def top_up(request: HttpRequest) -> HttpResponse:
    form = TopUpForm(request.POST or None, currencies=_currencies(), chosen=request.GET.get("currency", ""))
    page = Act(
        "Top up the balance at Stripe",
        "Money moves from the programme's bank account to its balance at Stripe, and is booked once Stripe has it. "
        "A top-up can take days to arrive; a run can be started when the balance suffices.",
        "Ask Stripe for the top-up",
        reverse("payouts:funding"),
        "Funding",
        promised=lambda given: [
            ("From the bank to Stripe", amounts.text_of_minor(given["amount_minor"], ASSETS[given["currency"]]))
        ],
    )

    def do(given: dict[str, object]) -> str:
        currency, minor = str(given["currency"]), int(str(given["amount_minor"]))
        made = fund_platform(
            currency=currency,
            amount_minor=minor,
            public_id=UUID(str(given["number"])),
            by=user_of(request),
            at=timezone.now(),
            seen=presence_of(request),
        )
        written = amounts.text_of_minor(minor, ASSETS[currency])
        if made.state == TopUp.State.SUCCEEDED:
            return f"{written} is at Stripe now, and booked."
        return f"Stripe has the request for {written}. It is booked as soon as Stripe reports that it arrived."

    return act(request, page, form, do)


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def book_top_up(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """Book money that somebody sent to Stripe by another road than this product."""
    topup = TopUp.objects.filter(public_id=public_id, requested_by=None).first()
    if topup is None:
        raise Http404
    written = amounts.text_of_minor(topup.amount_minor, ASSETS[topup.currency])
    page = Act(
        f"Book a top-up of {written}",
        "Somebody made it at Stripe. Booking it adds the amount to the ledger's balance at Stripe, so that both agree. "
        "Stripe is asked first whether the money is there.",
        f"Book {written}",
        reverse("payouts:funding"),
        "Funding",
        facts=[
            ("Amount", written),
            ("At Stripe", topup.provider_topup_id),
            ("Found", dates.moment(topup.requested_at)),
        ],
        not_this_person="" if topup.state == TopUp.State.FOUND else "This top-up is not waiting to be booked.",
    )

    def do(given: dict[str, object]) -> str:
        made = operations.book_top_up(topup=topup, by=user_of(request), at=timezone.now(), seen=presence_of(request))
        if made.state == TopUp.State.FAILED:
            return "Stripe reports that this top-up failed. Nothing was booked."
        return f"{written} is booked."

    return act(request, page, forms.Form(request.POST or None), do)


def _currencies() -> list[str]:
    used = Account.objects.filter(kind__in=["contributor_payable", "stripe_balance"]).values_list(
        "asset__code", flat=True
    )
    return sorted(set(used)) or [next(iter(ASSETS))]


def _funds(currency: str) -> Funds:
    open_runs = PayoutRun.objects.filter(
        currency=currency, rail=Rail.STRIPE_TRANSFER, state__in=[PayoutRun.State.IN_REVIEW, PayoutRun.State.APPROVED]
    )
    stripe = control.stripe_available(currency)
    needed = sum(from_minor(run.total_minor, currency) for run in open_runs)
    return Funds(currency, balances.ledger_stripe_balance(currency), stripe.available, stripe.why, needed)
