"""The read-only window on every table, for administrators and auditors with a second factor.

It is Django's admin site without its log-in and without any permission to change: changes go through operations.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from people.console.guard import second_factor_used_at
from people.queries.programme import on_trial


class TablesSite(AdminSite):
    site_header = site_title = "Tributary's tables"
    index_title = "Read only"
    enable_nav_sidebar = False

    def has_permission(self, request: HttpRequest) -> bool:
        user = request.user
        if isinstance(user, AnonymousUser):
            return False
        return user.has_role("admin", "auditor") and second_factor_used_at(request) > 0

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """The title says, as every page, where one person tries the programme out."""
        context: dict[str, Any] = super().each_context(request)
        if on_trial():
            context["site_header"] = f"{self.site_header} (one person tries this programme out)"
        return context

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:  # type: ignore[override]
        if request.user.is_authenticated:
            raise PermissionDenied("This page is for administrators and auditors with a second factor.")
        return redirect_to_login(request.get_full_path())
