"""Taking a paid transfer back, wholly or in part."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from ledger.money import asset
from payouts.console import ADMIN, CHECKER, actor_required, run_or_404
from payouts.forms.runs import ReverseForm
from payouts.models import Payout, PayoutAttempt, Rail
from payouts.operations import reversals
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of
from people.presentation import amounts


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def reverse_payout(request: HttpRequest, public_id: UUID, payout_id: UUID) -> HttpResponse:
    run = run_or_404(public_id)
    payout = run.payouts.select_related("contributor").filter(public_id=payout_id).first()
    if payout is None:
        raise Http404("This run has no such payout.")
    left = payout.amount_minor - payout.reversed_minor
    page = Act(
        f"Take money back from {payout.contributor}",
        "Stripe moves it from the contributor's balance there to the programme's. It first settles the "
        "contributor's debts; the rest becomes payable again. The contributor is told, with your reason.",
        "Take it back",
        reverse("payouts:payee", args=[public_id, payout_id]),
        str(payout.contributor),
        is_danger=True,
        not_this_person=_refusal(request, payout, left),
        promised=lambda given: [
            ("From", str(payout.contributor)),
            ("Taken back", _money(given["amount_minor"], payout.currency)),
        ],
        facts=[
            ("Paid", _money(payout.amount_minor, payout.currency)),
            ("Reversed so far", _money(payout.reversed_minor, payout.currency)),
            ("Can be reversed", _money(left, payout.currency)),
            ("Run", run),
        ],
    )
    form = ReverseForm(request.POST or None, currency=payout.currency, left_minor=left)

    def do(given: dict[str, object]) -> str:
        attempt = reversals.reverse_payout(
            payout=payout,
            amount_minor=int(str(given["amount_minor"])),
            by=user_of(request),
            reason=str(given["reason"]),
            known_left=int(str(given["known_left"])),
            at=timezone.now(),
            seen=presence_of(request),
        )
        if attempt.state == PayoutAttempt.State.SUCCEEDED:
            return "It was reversed and booked."
        if attempt.state == PayoutAttempt.State.REFUSED:
            return f"Stripe refused it: {attempt.error_message} Nothing was reversed."
        return "Stripe's answer is missing. It is looked up by itself until it is known; nothing is sent twice."

    return act(request, page, form, do)


def _refusal(request: HttpRequest, payout: Payout, left: int) -> str:
    if not user_of(request).has_role(CHECKER, ADMIN):
        return "Taking money back takes a finance checker."
    if payout.rail != Rail.STRIPE_TRANSFER:
        return "A bank transfer cannot be reversed from here. Record the bank's return if it comes back."
    if payout.state not in reversals.REVERSIBLE or left <= 0:
        return "There is nothing to take back: the payout was not paid, or came back already."
    return ""


def _money(minor: int, currency: str) -> str:
    return amounts.text_of_minor(minor, asset(currency))
