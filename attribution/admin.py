"""A read-only window on the tables of this app. Changes go through operations, which check and leave a trace."""

from __future__ import annotations

from django.contrib import admin

from attribution.models import (
    Attribution,
    AttributionIndex,
    GatewayTally,
    Generation,
    ManifestWork,
    ModelName,
    ModelService,
    ModelVersion,
    ServiceKey,
    TrainingManifest,
    WaitingReport,
)
from people.admin import ReadOnlyAdmin


@admin.register(ModelService)
class ModelServiceAdmin(ReadOnlyAdmin):
    list_display = ("name", "active", "created_at")
    search_fields = ("name", "public_id")


@admin.register(ServiceKey)
class ServiceKeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "service", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
    list_select_related = ("service",)
    exclude = ("digest",)


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_display = ("name", "service", "adapter", "factory", "state", "trained_at")
    list_select_related = ("service",)
    list_filter = ("state",)


@admin.register(AttributionIndex)
class AttributionIndexAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "model_version", "method", "state", "serving", "weight_ppb", "created_at")
    list_select_related = ("model_version",)
    list_filter = ("state", "serving")


@admin.register(Generation)
class GenerationAdmin(ReadOnlyAdmin):
    list_display = ("id", "external_id", "service", "model_version", "state", "occurred_at")
    list_select_related = ("service", "model_version")
    search_fields = ("=id", "=external_id")
    # Counting millions of rows for a page of a hundred would be the page's whole cost.
    show_full_result_count = False
    exclude = ("prompt_text", "output_text", "token_ids")


@admin.register(Attribution)
class AttributionAdmin(ReadOnlyAdmin):
    list_display = ("id", "generation", "revision", "index", "weight_ppb", "unattributed_ppb", "created_at")
    list_select_related = ("generation", "index__model_version")
    search_fields = ("=generation__id",)
    show_full_result_count = False


admin.site.register([TrainingManifest, ManifestWork], ReadOnlyAdmin)


@admin.register(ModelName)
class ModelNameAdmin(ReadOnlyAdmin):
    list_display = ("pattern", "kind", "service", "model_version", "begins_at", "ends_at", "recorded_by")
    list_select_related = ("service", "model_version", "recorded_by")


@admin.register(WaitingReport)
class WaitingReportAdmin(ReadOnlyAdmin):
    list_display = ("external_id", "model_name", "service", "door", "occurred_at", "received_at", "error")
    list_select_related = ("service",)


@admin.register(GatewayTally)
class GatewayTallyAdmin(ReadOnlyAdmin):
    list_display = ("day", "service", "door", "outcome", "reason", "n")
    list_select_related = ("service",)
