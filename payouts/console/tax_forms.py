"""A tax form that came in on paper or by mail: compliance records its content, and the hold for a missing one ends."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from contributors.models import PPB, Contributor
from payouts.console import COMPLIANCE, actor_required
from payouts.forms.payees import TaxFormForm
from payouts.models import TaxProfile
from payouts.operations import tax_forms
from payouts.operations.accounts import tax_problem
from payouts.queries import payees
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, user_of
from people.console.presence import presence_of
from people.presentation import dates
from people.presentation.countries import COUNTRIES


@require_http_methods(["GET", "POST"])
@actor_required
@recently_authenticated
def record_tax_form(request: HttpRequest, public_id: UUID) -> HttpResponse:
    contributor = Contributor.objects.filter(public_id=public_id).first()
    if contributor is None:
        raise Http404
    now = timezone.now()
    form = TaxFormForm(request.POST or None, contributor=contributor, today=dates.today(now))
    may = user_of(request).has_role(COMPLIANCE)
    page = Act(
        f"Record a tax form of {contributor}",
        "Copy the entries of the form before you. A hold for a missing or an old form ends at once, and the "
        "next run withholds by this form. Of the tax number only the last four characters are kept; "
        "the form itself stays in your files.",
        "Record the form",
        reverse("payouts:payee_account", args=[public_id]),
        str(contributor),
        facts=[
            ("Legal name", contributor.legal_name),
            ("Registered country", COUNTRIES[contributor.country]),
            ("On record", in_words(payees.tax_form_of(contributor))),
        ],
        not_this_person="" if may else "Tax forms are recorded by compliance.",
    )

    def do(given: dict[str, object]) -> str:
        percent = given["withholding_percent"]
        assert isinstance(percent, Decimal)
        profile = tax_forms.record_tax_form(
            contributor=contributor,
            form=str(given["form"]),
            country=str(given["country"]),
            number=str(given["number"]),
            signed_on=given["signed_on"],  # type: ignore[arg-type]
            received_on=given["received_on"],  # type: ignore[arg-type]
            valid_until=given["valid_until"],  # type: ignore[arg-type]
            withholding_ppb=int(percent * PPB / 100),
            by=user_of(request),
            at=now,
            seen=presence_of(request),
        )
        sentence = f"{profile.get_form_display()} recorded; {_until(profile)}."
        stopped = [one.hold for one in payees.open_holds(contributor)]
        return sentence if stopped else f"{sentence} Nothing stops payments to {contributor} now."

    return act(request, page, form, do)


def in_words(profile: TaxProfile | None) -> str:
    """One line about the form that counts."""
    if profile is None or tax_problem(profile, at=timezone.now()) == "tax_form_missing":
        return "No form"
    number = f", number {profile.number_masked}" if profile.number_last4 else ""
    country = f" of {COUNTRIES.get(profile.country, profile.country)}" if profile.country else ""
    return f"{profile.get_form_display()}{country}{number}, {_until(profile)}"


def _until(profile: TaxProfile) -> str:
    return f"it counts until {dates.day(profile.valid_until)}" if profile.valid_until else "it does not run out"
