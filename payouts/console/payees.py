"""Everybody that can be paid: the destination and the rail, the obstacles, and the past payments. Holds are placed and
released here."""

from __future__ import annotations

from uuid import UUID

from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from contributors.models import Contributor
from contributors.queries.links import linked_with
from payouts.console import actor_required, reader_required
from payouts.exports import tables
from payouts.forms.fields import ReasonForm
from payouts.forms.payees import ChooseRailForm, PlaceHoldForm
from payouts.models import Hold, HoldReason, Rail
from payouts.operations import banks, ended_accounts
from payouts.operations import holds as holds_operations
from payouts.operations.details import DECIDERS
from payouts.queries import balances, standing
from payouts.queries.ended_accounts import Why, why_replaced
from payouts.queries.hold_reasons import RULES, Owner, why_not_release
from payouts.queries.payees import (
    ExplainedHold,
    account_of,
    left_out_of,
    notices_of,
    open_holds,
    payouts_of,
    tax_form_of,
    untold_bank_payouts,
)
from payouts.rails.choice import RAIL_NAMES, rail_of
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of
from people.presentation import csv, dates, names
from people.queries import audit as audit_queries

PAGE = 50


@require_GET
@reader_required
def payees(request: HttpRequest) -> HttpResponse:
    search = names.composed(request.GET.get("q", ""))
    found = Contributor.objects.select_related("payout_account").annotate(
        n_holds=Count("holds", filter=Q(holds__released_at__isnull=True))
    )
    if search:
        found = found.filter(
            Q(display_name__icontains=search) | Q(legal_name__icontains=search) | Q(public_id__icontains=search)
        )
    page = Paginator(found.order_by("display_name", "pk"), PAGE).get_page(request.GET.get("page"))
    rows = [(one, *_account_of(one)) for one in page]
    return render(request, "payouts/console/payees.html", {"page_obj": page, "rows": rows, "search": search})


def _account_of(contributor: Contributor) -> tuple[str, bool]:
    """Describe in words the way a contributor is paid, and whether they are ready for it."""
    account = getattr(contributor, "payout_account", None)
    rail = rail_of(contributor, account)
    return RAIL_NAMES[rail], bool(account and account.is_onboarded)


@require_GET
@reader_required
def payee_account(request: HttpRequest, public_id: UUID) -> HttpResponse:
    contributor = _contributor_or_404(public_id)
    account = account_of(contributor)
    rail = rail_of(contributor, account)
    details = account.bank_details.order_by("-pk").first() if account else None
    return render(
        request,
        "payouts/console/payee_account.html",
        {
            "contributor": contributor,
            "account": account,
            "rail": rail,
            "rail_name": RAIL_NAMES[rail],
            "details": details,
            "tax": tax_form_of(contributor),
            "purses": standing.purses_of(contributor, at=timezone.now()),
            "counted_as_one": linked_with(contributor, timezone.now()),
            "holds": [(one, not why_not_release(one.hold, user_of(request))) for one in open_holds(contributor)],
            "ended": Hold.objects.filter(contributor=contributor, released_at__isnull=False).order_by("-pk")[:20],
            "history": payouts_of(contributor)[:20],
            "left_out": left_out_of(contributor)[:10],
            "notices": notices_of(contributor)[:20],
            "events": audit_queries.audit_events(f"contributor:{contributor.pk}")[:20],
            "members": contributor.memberships.select_related("user").order_by("pk"),
            "may_reset": user_of(request).has_role("compliance", "admin"),
            "former": contributor.former_details.order_by("-until")[:20],
            "details_waiting": contributor.details_changes.filter(state="proposed"),
            "may_change_details": user_of(request).has_role(*DECIDERS),
            "may_act": user_of(request).has_role("finance_maker", "finance_checker", "compliance", "admin"),
            "may_record_tax": user_of(request).has_role("compliance"),
            "may_choose": user_of(request).has_role("finance_checker", "admin"),
            "untold": untold_bank_payouts(account) if account else [],
            "ended_accounts": account.ended.select_related("ended_by").order_by("-pk") if account else [],
            "may_retire": user_of(request).has_role("finance_checker", "compliance", "admin"),
            "asked": standing.asked_by_stripe(account) if account else [],
            "asked_in_future": standing.asked_in_future(account) if account else [],
            "deadline": standing.deadline_of(account) if account else None,
        },
    )


@require_GET
@reader_required
def holds(request: HttpRequest) -> HttpResponse:
    """List every open hold, the oldest first: the reason, the payee, the start, and the role that has to act."""
    reason, owner = request.GET.get("reason", ""), request.GET.get("owner", "")
    found = Hold.objects.filter(released_at__isnull=True).select_related("contributor", "placed_by", "payout__run")
    if reason in HoldReason.values:
        found = found.filter(reason=reason)
    if owner in list(Owner):
        found = found.filter(reason__in=[name for name, rule in RULES.items() if rule.owner == owner])
    page = Paginator(found.order_by("placed_at", "pk"), PAGE).get_page(request.GET.get("page"))
    rows = [
        (ExplainedHold(hold, RULES[HoldReason(hold.reason)]), hold, not why_not_release(hold, user_of(request)))
        for hold in page
    ]
    counted = Hold.objects.filter(released_at__isnull=True).values("reason").annotate(n=Count("pk"))
    counts = {row["reason"]: row["n"] for row in counted}
    return render(
        request,
        "payouts/console/holds.html",
        {
            "page_obj": page,
            "rows": rows,
            "reasons": [(name, counts[name]) for name in HoldReason.values if name in counts],
            "owners": list(Owner),
            "chosen": reason,
            "chosen_owner": owner,
            "may_act": user_of(request).has_role("finance_maker", "finance_checker", "compliance", "admin"),
            "rules": [(str(name), rule) for name, rule in RULES.items()],
        },
    )


@require_GET
@reader_required
def unclaimed(request: HttpRequest) -> HttpResponse:
    """List debts to people that have not been heard of for three years, for the report on unclaimed property."""
    months = _months(request)
    rows = balances.dormant(at=timezone.now(), months=months)
    return render(request, "payouts/console/unclaimed.html", {"rows": rows, "months": months})


@require_GET
@reader_required
def unclaimed_csv(request: HttpRequest) -> HttpResponse:
    content = tables.dormant(balances.dormant(at=timezone.now(), months=_months(request)))
    response = HttpResponse(content, content_type=csv.CONTENT_TYPE)
    response["Content-Disposition"] = 'attachment; filename="unclaimed.csv"'
    return response


def _months(request: HttpRequest) -> int:
    given = request.GET.get("months", "")
    return min(max(int(given), 1), 600) if given.isdecimal() and len(given) < 4 else balances.DORMANT_MONTHS


@require_http_methods(["GET", "POST"])
@actor_required
def place_hold(request: HttpRequest, public_id: UUID) -> HttpResponse:
    contributor = _contributor_or_404(public_id)
    form = PlaceHoldForm(request.POST or None, may_list=user_of(request).has_role("compliance"), today=timezone.now())
    page = Act(
        f"Stop payments to {contributor}",
        "Nothing is sent to this person until the hold is released. Debts stay owed, and payouts under way are "
        "followed to their end. The person is told the reason in plain words, and your note is not shown to them.",
        "Place the hold",
        reverse("payouts:payee_account", args=[public_id]),
        str(contributor),
        is_danger=True,
    )

    def do(given: dict[str, object]) -> str:
        holds_operations.place_hold(
            contributor=contributor,
            reason=str(given["reason"]),
            note=str(given["note"]),
            ends_at=given["ends_at"],  # type: ignore[arg-type]
            by=user_of(request),
            at=timezone.now(),
            seen=presence_of(request),
        )
        return f"Payments to {contributor} are stopped, and the contributor was told why."

    return act(request, page, form, do)


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def release_hold(request: HttpRequest, hold_id: int) -> HttpResponse:
    hold = Hold.objects.select_related("contributor", "placed_by").filter(pk=hold_id).first()
    if hold is None:
        raise Http404
    rule = RULES[HoldReason(hold.reason)]
    back = reverse("payouts:payee_account", args=[hold.contributor.public_id])
    refusal = why_not_release(hold, user_of(request))
    page = Act(
        f"Release the hold on {hold.contributor}",
        "If no other hold is open, the next run pays the balance, and the contributor is told.",
        "Release the hold",
        back,
        str(hold.contributor),
        not_this_person=refusal,
        facts=[
            ("Reason", rule.words),
            ("Note", hold.note or "–"),
            ("Placed", dates.moment(hold.placed_at)),
            ("By", hold.placed_by or "The system"),
            ("Who acts", str(rule.owner).capitalize()),
            ("Released by", str(rule.release).capitalize()),
        ],
    )
    form = ReasonForm(request.POST or None, label="Why it can be released")

    def do(given: dict[str, object]) -> str:
        holds_operations.release_hold(
            hold=hold, by=user_of(request), at=timezone.now(), note=str(given["reason"]), seen=presence_of(request)
        )
        return "The hold is released."

    return act(request, page, form, do)


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def choose_rail(request: HttpRequest, public_id: UUID) -> HttpResponse:
    contributor = _contributor_or_404(public_id)
    account = account_of(contributor)
    now = rail_of(contributor, account)
    other = Rail.MANUAL_BANK_FILE if now == Rail.STRIPE_TRANSFER else Rail.STRIPE_TRANSFER
    may = user_of(request).has_role("finance_checker", "admin")
    page = Act(
        f"Pay {contributor} by {RAIL_NAMES[other]}",
        f"Today it is {RAIL_NAMES[now]}. From the next run on it is {RAIL_NAMES[other]}; payouts that are approved "
        "already go where they were approved to go. The contributor then has to "
        + ("name a bank account." if other == Rail.MANUAL_BANK_FILE else "set up an account at Stripe."),
        f"Change to {RAIL_NAMES[other]}",
        reverse("payouts:payee_account", args=[public_id]),
        str(contributor),
        not_this_person="" if may else "Changing how somebody is paid takes a finance checker.",
    )
    form = ChooseRailForm(request.POST or None, initial={"rail": other})

    def do(given: dict[str, object]) -> str:
        rail = Rail(str(given["rail"]))
        banks.choose_rail(
            contributor=contributor,
            rail=rail,
            by=user_of(request),
            reason=str(given["reason"]),
            at=timezone.now(),
            seen=presence_of(request),
        )
        return f"{contributor} is paid by {RAIL_NAMES[rail]} from the next run on."

    return act(request, page, form, do)


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def retire_account(request: HttpRequest, public_id: UUID) -> HttpResponse:
    """End the account at Stripe, so that the payee opens a new one."""
    contributor = _contributor_or_404(public_id)
    account = account_of(contributor)
    if account is None or account.provider_account_id is None:
        raise Http404
    why = why_replaced(account)
    roles = ("compliance",) if why == Why.REJECTED else ("finance_checker", "compliance", "admin")
    page = Act(
        f"Open a new Stripe account for {contributor}",
        "The present account is never paid again, and stays on record for the payments that went to it. Payouts that "
        "are approved and not sent yet are held; the next run pays them. The contributor gets a mail and sets up the "
        "new account.",
        "End the present account",
        reverse("payouts:payee_account", args=[public_id]),
        str(contributor),
        is_danger=True,
        facts=[
            ("Present account", account.provider_account_id),
            ("Country", f"{account.country}; the contributor's is {contributor.country}"),
            ("Found", Why(why).label if why else "It can still be paid"),
        ],
        not_this_person=""
        if user_of(request).has_role(*roles)
        else "After Stripe's rejection this takes compliance."
        if why == Why.REJECTED
        else "This takes a finance checker or compliance.",
    )
    form = ReasonForm(request.POST or None, label="Why a new account is needed")

    def do(given: dict[str, object]) -> str:
        ended_accounts.retire_account(
            contributor=contributor,
            reason=str(given["reason"]),
            by=user_of(request),
            at=timezone.now(),
            seen=presence_of(request),
        )
        return f"The old account is on record as ended. {contributor} was asked to set up a new one."

    return act(request, page, form, do)


def _contributor_or_404(public_id: UUID) -> Contributor:
    contributor = Contributor.objects.filter(public_id=public_id).first()
    if contributor is None:
        raise Http404
    return contributor
