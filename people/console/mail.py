"""The page of the mail settings, with a test."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from people.actor import ADMIN
from people.console.guard import staff_required, user_of
from people.console.refusals import explained
from people.operations.mail import send_test_mail
from people.queries.mail import destination


@require_http_methods(["GET", "POST"])
@staff_required(ADMIN)
def mail(request: HttpRequest) -> HttpResponse:
    """Say where mails go, and send one to the reader."""
    user = user_of(request)
    if request.method == "POST":
        with explained(request) as refused:
            send_test_mail(by=user, at=timezone.now())
        if not refused:
            messages.success(request, f"A mail to {user.email} was handed over. Look whether it arrived.")
        return redirect("people:mail")
    context = {"destination": destination(), "sender": settings.DEFAULT_FROM_EMAIL, "address": user.email}
    return render(request, "people/console/mail.html", context)
