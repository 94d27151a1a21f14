"""The staff's page of a service's limits: the charges of the month beside them."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from attribution.models import ModelService
from ledger.forms.limits import LimitForm
from ledger.models import SpendLimit
from ledger.operations import limits as operations
from ledger.operations.limits import ACTORS
from ledger.queries.limits import limits_of
from people.console.guard import recently_authenticated, staff_required, user_of
from people.models import FINANCE_ROLES

# The operation's name of a field, and the form's.
FIELDS = {"limit": "amount"}


@staff_required(*FINANCE_ROLES)
@recently_authenticated
@require_http_methods(["GET", "HEAD", "POST"])
def limits(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    service, at = get_object_or_404(ModelService, public_id=public_id), timezone.now()
    may_change = user_of(request).has_role(*ACTORS)
    form = LimitForm(request.POST or None)
    if request.method == "POST" and not may_change:
        raise PermissionDenied("A limit is set by a finance maker or an administrator.")
    if request.method == "POST" and form.is_valid():
        try:
            limit = operations.set_limit(service=service, by=user_of(request), at=at, **form.cleaned_data)
        except operations.UnableToSetLimit as reason:
            form.add_error(FIELDS.get(reason.members["field"], reason.members["field"]), str(reason))
        else:
            messages.success(request, f"The limit in {limit.currency} is set.")
            return redirect("ledger:limits", public_id)
    context = {"service": service, "rows": limits_of(service, at=at), "form": form, "may_change": may_change}
    return render(request, "ledger/console/limits.html", context, status=422 if form.errors else 200)


@staff_required(*ACTORS)
@recently_authenticated
@require_POST
def remove(request: HttpRequest, public_id: uuid.UUID, currency: str) -> HttpResponse:
    limit = get_object_or_404(
        SpendLimit.objects.select_related("service"), service__public_id=public_id, currency=currency
    )
    operations.remove_limit(limit=limit, by=user_of(request), at=timezone.now())
    messages.success(request, f"The limit in {currency} is removed. Reports are taken.")
    return redirect("ledger:limits", public_id)
