"""A person's own page: name, address, roles, and the links to the rest of the account."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from people.forms.joining import NameForm
from people.models import User
from people.operations import users


@login_required
@require_http_methods(["GET", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)
    form = NameForm(request.POST or None, initial={"name": user.name})
    if request.method == "POST" and form.is_valid():
        try:
            users.rename_user(user=user, name=form.cleaned_data["name"], at=timezone.now())
        except users.UnableToRegisterUser as refusal:
            form.add_error("name", str(refusal))
        else:
            messages.success(request, "Your name is changed.")
            return redirect("people:profile")
    context = {"form": form, "roles": sorted(user.role_names)}
    return render(request, "people/portal/profile.html", context, status=422 if form.errors else 200)
