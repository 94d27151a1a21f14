"""A read-only window on the tables of this app. Changes go through operations, which check and leave a trace."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from contributors.models import (
    Consent,
    Contributor,
    ContributorLink,
    Dataset,
    DuplicatePair,
    Holder,
    IdentifyingDetail,
    LinkedContributor,
    Membership,
    Split,
    User,
    Work,
)


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows to look at, in every app. Who may come in at all is decided by the site."""

    list_per_page = 50
    show_full_result_count = False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("email", "name", "is_active", "date_joined", "last_login")
    search_fields = ("email", "name")
    exclude = ("password",)


@admin.register(Contributor)
class ContributorAdmin(ReadOnlyAdmin):
    list_display = ("display_name", "kind", "country", "currency", "created_at")
    search_fields = ("display_name", "legal_name", "public_id")


@admin.register(Work)
class WorkAdmin(ReadOnlyAdmin):
    list_display = ("title", "modality", "dataset", "holder", "cluster", "created_at")
    list_select_related = ("dataset", "holder", "cluster")
    search_fields = ("title", "public_id")


@admin.register(Consent)
class ConsentAdmin(ReadOnlyAdmin):
    list_display = ("contributor", "scope", "value", "valid_from", "valid_to", "source")
    list_select_related = ("contributor",)
    list_filter = ("scope", "value")


admin.site.register(
    [Membership, Holder, Split, Dataset, DuplicatePair, ContributorLink, LinkedContributor, IdentifyingDetail],
    ReadOnlyAdmin,
)
