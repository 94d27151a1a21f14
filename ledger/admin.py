"""The ledger in Django's admin: to look at, never to touch."""

from __future__ import annotations

from django.contrib import admin

from ledger.models import Account, Entry, FloorDistribution, Period, Refusal, RoyaltyPlan, Unaccrued
from people.admin import ReadOnlyAdmin


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "asset", "owner", "contract", "opened_at")
    list_filter = ("kind", "asset")
    search_fields = ("=owner",)


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "effective", "period", "earned_period", "posted_at", "n_lines", "n_docs", "reference")
    list_filter = ("kind",)
    ordering = ("-id",)


@admin.register(Period)
class PeriodAdmin(ReadOnlyAdmin):
    list_display = ("code", "state", "closed_at", "sealed_at")
    exclude = ("salt",)
    ordering = ("-id",)


@admin.register(RoyaltyPlan)
class RoyaltyPlanAdmin(ReadOnlyAdmin):
    list_display = ("currency", "version", "basis", "state", "effective_from", "proposed_by", "decided_by")


@admin.register(Refusal)
class RefusalAdmin(ReadOnlyAdmin):
    list_display = ("generation", "revision", "reason", "refused_at", "withdrawn_at")
    list_filter = ("reason",)


@admin.register(Unaccrued)
class UnaccruedAdmin(ReadOnlyAdmin):
    list_display = ("period", "generation", "reason", "listed_at")


@admin.register(FloorDistribution)
class FloorDistributionAdmin(ReadOnlyAdmin):
    list_display = ("period", "plan", "entry", "pool", "kept", "n_generations")
