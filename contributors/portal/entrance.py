"""From the log-in to the right pages: the fork after it, the registration of a contributor, the choice between two."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from contributors.forms.people import RegisterForm
from contributors.operations.people import UnableToRegisterContributor, register_contributor
from contributors.portal.guard import CHOSEN
from people.models import User
from people.portal.joining import AFTER_LOGIN

PORTAL, CONSOLE = "/portal/", "/console/"
"""Their pages belong to the app of the top layer; this one knows only where they are."""


@require_GET
@login_required
def after_login(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)
    if user.is_staff_member:
        # A new member of the staff that has just joined goes to the page of their first steps.
        return redirect(request.session.pop(AFTER_LOGIN, CONSOLE))
    return redirect(PORTAL if user.memberships.exists() else "contributors:register")


@login_required
def register(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)
    form = RegisterForm(request.POST or None)
    if form.is_valid():
        try:
            contributor = register_contributor(user=user, at=timezone.now(), **form.cleaned_data)
        except UnableToRegisterContributor as error:
            form.add_error(None, str(error))
        else:
            request.session[CHOSEN] = str(contributor.public_id)
            messages.success(request, f"{contributor} is registered. Next: the works, and their permitted uses.")
            return redirect("contributors:works")
    memberships = user.memberships.select_related("contributor").order_by("pk")
    context = {"form": form, "others": [f"{m.contributor} ({m.get_role_display()})" for m in memberships]}
    return render(request, "contributors/portal/register.html", context, status=422 if form.errors else 200)


@require_POST
@login_required
def choose(request: HttpRequest) -> HttpResponse:
    """Act for another contributor that the person is a member of."""
    user = request.user
    assert isinstance(user, User)
    wanted = request.POST.get("contributor", "")
    if wanted not in {str(pk) for pk in user.memberships.values_list("contributor__public_id", flat=True)}:
        raise Http404("You are no member of that contributor.")
    request.session[CHOSEN] = wanted
    return redirect(PORTAL)
