"""The page of the programme's name and legal entity."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from people.actor import ADMIN
from people.console.acts import Act, act
from people.console.guard import recently_authenticated, staff_required, user_of
from people.console.presence import presence_of
from people.forms.staff import ProgrammeForm
from people.models import FINANCE_ROLES
from people.operations.programme import describe_programme
from people.queries.programme import programme as row_of_the_programme

SETUP = "/console/setup/"


@require_http_methods(["GET", "POST"])
@staff_required(*FINANCE_ROLES)
@recently_authenticated
def programme(request: HttpRequest) -> HttpResponse:
    """Show and change the name and the legal entity; an administrator changes them."""
    row, user = row_of_the_programme(), user_of(request)
    page = Act(
        "Programme and legal entity",
        "Statements, remittance advices, exports, invoices and bank files name the legal entity; mails carry the name.",
        "Store",
        SETUP,
        "Set up",
        facts=[
            ("Name", row.shown_name),
            ("Legal entity", row.legal_name or "not entered yet"),
            ("Address", ", ".join(row.address_lines) or "not entered yet"),
            ("Country", row.country or "not entered yet"),
            ("Tax number", row.tax_number or "not entered yet"),
        ],
        not_this_person="" if user.has_role(ADMIN) else "Only an administrator changes this.",
    )
    initial = {name: getattr(row, name) for name in ("name", "legal_name", "address", "country", "tax_number")}

    def do(given: dict[str, Any]) -> str:
        describe_programme(**given, by=user, at=timezone.now(), seen=presence_of(request))
        return "The programme and its legal entity are stored."

    return act(request, page, ProgrammeForm(request.POST or None, initial=initial), do)
