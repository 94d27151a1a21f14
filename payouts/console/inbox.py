"""Events from Stripe: the inbox, one event in full, and taking a dead letter up again."""

from __future__ import annotations

import json

from django.core.paginator import Paginator
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from payouts.console import actor_required, done, reader_required
from payouts.models import IgnoredEvent, WebhookEvent
from payouts.reconciliation.inbox import replay_webhook
from people.console.guard import user_of
from people.console.presence import presence_of
from people.console.refusals import explained

PAGE = 50
IGNORED_SHOWN = 20


@require_GET
@reader_required
def inbox(request: HttpRequest) -> HttpResponse:
    state, search = request.GET.get("state", ""), request.GET.get("q", "").strip()
    events = WebhookEvent.objects.defer("payload").order_by("-pk")
    if state in WebhookEvent.State.values:
        events = events.filter(state=state)
    if search:
        events = events.filter(object_id=search) | events.filter(event_id=search) | events.filter(type=search)
    counts = WebhookEvent.objects.values("state").annotate(n=Count("pk")).order_by("state")
    return render(
        request,
        "payouts/console/inbox.html",
        {
            "page_obj": Paginator(events, PAGE).get_page(request.GET.get("page")),
            "counts": list(counts),
            "ignored": IgnoredEvent.objects.order_by("-last_at")[:IGNORED_SHOWN],
            "states": WebhookEvent.State.values,
            "chosen": state,
            "search": search,
        },
    )


@require_GET
@reader_required
def event(request: HttpRequest, event_id: int) -> HttpResponse:
    one = _event_or_404(event_id)
    try:
        payload = json.dumps(json.loads(one.payload), indent=2)
    except ValueError:
        payload = one.payload
    return render(request, "payouts/console/inbox_event.html", {"event": one, "payload": payload})


@require_POST
@actor_required
def replay(request: HttpRequest, event_id: int) -> HttpResponse:
    one = _event_or_404(event_id)
    with explained(request) as refused:
        replay_webhook(event=one, by=user_of(request), at=timezone.now(), seen=presence_of(request))
    if not refused:
        done(request, "It is tried again within seconds. Reload this page to see the result.")
    return redirect("payouts:event", event_id)


def _event_or_404(event_id: int) -> WebhookEvent:
    one = WebhookEvent.objects.filter(pk=event_id).first()
    if one is None:
        raise Http404
    return one
