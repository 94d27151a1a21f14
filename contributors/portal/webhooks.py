"""A contributor's webhook endpoints: registered, removed, resumed; messages sent again."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from contributors.forms.webhooks import EndpointForm
from contributors.portal.guard import ContributorRequest, contributor_required
from people.models import WebhookDelivery, WebhookEndpoint
from people.operations import webhooks as operations
from people.queries.webhooks import deliveries_of, endpoint_of, endpoints_of

DELIVERIES_SHOWN = 20


def _owner(request: ContributorRequest) -> str:
    return f"contributor:{request.contributor.pk}"


def _may_change(request: ContributorRequest) -> bool:
    return request.membership.role != "viewer"


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@contributor_required
def webhooks(request: ContributorRequest) -> HttpResponse:
    """The endpoints with their last deliveries. The answer to a registration is the only page that shows its secret."""
    form, secret, status = EndpointForm(request.POST or None), "", 200
    if request.method == "POST":
        status = 422
        if not _may_change(request):
            form.add_error(None, "A viewer changes nothing; ask an owner or a manager.")
        elif form.is_valid():
            try:
                _, secret = operations.register_endpoint(
                    owner=_owner(request),
                    url=form.cleaned_data["url"],
                    events=form.cleaned_data["events"],
                    at=timezone.now(),
                )
            except operations.UnableToRegisterEndpoint as reason:
                form.add_error("url", str(reason))
            else:
                form, status = EndpointForm(), 200
    context = {
        "form": form,
        "secret": secret,
        "may_change": _may_change(request),
        "endpoints": [
            (endpoint, deliveries_of(endpoint)[:DELIVERIES_SHOWN]) for endpoint in endpoints_of(_owner(request))
        ],
    }
    return render(request, "contributors/portal/webhooks.html", context, status=status)


@require_POST
@contributor_required
def change(request: ContributorRequest, public_id: uuid.UUID, *, what: str) -> HttpResponse:
    """Remove or resume an endpoint."""
    endpoint = _own(request, public_id)
    if what == "remove":
        operations.remove_endpoint(endpoint=endpoint, at=timezone.now())
        messages.success(request, f"{endpoint.url} gets nothing more.")
    else:
        operations.resume_endpoint(endpoint=endpoint, at=timezone.now())
        messages.success(request, f"New messages go to {endpoint.url} again.")
    return redirect("contributors:webhooks")


@require_POST
@contributor_required
def replay(request: ContributorRequest, delivery_id: uuid.UUID) -> HttpResponse:
    delivery = WebhookDelivery.objects.filter(public_id=delivery_id, endpoint__owner=_owner(request)).first()
    if delivery is None or not _may_change(request):
        raise Http404("There is no such message of yours.")
    try:
        operations.replay(delivery=delivery, at=timezone.now())
    except operations.UnableToReplay as reason:
        messages.error(request, str(reason))
    else:
        messages.success(request, "The message is sent again within seconds.")
    return redirect("contributors:webhooks")


def _own(request: ContributorRequest, public_id: uuid.UUID) -> WebhookEndpoint:
    endpoint = endpoint_of(_owner(request), public_id)
    if endpoint is None or not _may_change(request):
        raise Http404("There is no such endpoint of yours.")
    return endpoint
