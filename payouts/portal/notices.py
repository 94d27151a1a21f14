"""Everything that the contributor was told, and which kinds come as mail as well."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from contributors.models import Membership
from contributors.portal.guard import contributor_required
from payouts.forms.portal import NoticesForm
from payouts.operations.notice_kinds import KINDS, OPTIONAL
from payouts.operations.notices import choose_notices
from payouts.portal import contributor_of, membership_of
from payouts.queries import payees
from people.console.guard import user_of
from people.console.refusals import explained
from people.presentation import codes

NOTICES_PAGE = 30


@require_http_methods(["GET", "POST"])
@contributor_required
def notices(request: HttpRequest) -> HttpResponse:
    """Everything that the contributor was told, and which kinds come as mail as well."""
    contributor = contributor_of(request)
    may_change = membership_of(request).role != Membership.Role.VIEWER
    muted = set(contributor.muted_notices.values_list("kind", flat=True))
    form = NoticesForm(request.POST or None, initial={"wanted": [name for name in OPTIONAL if name not in muted]})
    status = 200
    if request.method == "POST":
        if not may_change:
            raise PermissionDenied("Only an owner or manager chooses which mails are sent.")
        status = 422
        if form.is_valid():
            with explained(request) as refused:
                choose_notices(
                    contributor=contributor, muted=set(OPTIONAL) - set(form.cleaned_data["wanted"]), by=user_of(request)
                )
            if not refused:
                messages.success(request, "Saved. Notices of stopped money are always mailed.")
            return redirect("payouts:notices")
    page = Paginator(payees.notices_of(contributor), NOTICES_PAGE).get_page(request.GET.get("page"))
    rows = [
        (row.title or (KINDS[row.kind].subject if row.kind in KINDS else codes.spaced(row.kind).capitalize()), row)
        for row in page
    ]
    context = {
        "page_obj": page,
        "rows": rows,
        "form": form,
        "may_change": may_change,
        "always": [kind.label for kind in KINDS.values() if kind.essential],
    }
    return render(request, "payouts/portal/notices.html", context, status=status)
