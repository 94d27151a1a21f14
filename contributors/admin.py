"""A read-only window on the tables of this app. Changes go through operations, which check and leave a trace."""

from __future__ import annotations

from django.contrib import admin

from contributors.models import (
    Consent,
    Contributor,
    ContributorLink,
    Dataset,
    DuplicatePair,
    Holder,
    IdentifyingDetail,
    LinkedContributor,
    LinkEnd,
    Membership,
    Split,
    Work,
)
from people.admin import ReadOnlyAdmin


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
    [Membership, Holder, Split, Dataset, DuplicatePair, ContributorLink, LinkedContributor, LinkEnd, IdentifyingDetail],
    ReadOnlyAdmin,
)
