"""Reads of model services and their keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Q

from attribution.models import (
    ModelService,
    ServiceKey,
)


@dataclass(frozen=True, slots=True)
class ServiceSummary:
    service: ModelService
    keys_in_force: int
    model_versions: int
    last_used_at: datetime | None


def services(*, at: datetime) -> list[ServiceSummary]:
    """List every service by name, with the columns of its list."""
    in_force = ServiceKey.objects.in_force(at)
    rows = ModelService.objects.annotate(
        n_keys=Count("keys", filter=Q(keys__in=in_force), distinct=True),
        n_versions=Count("model_versions", distinct=True),
        last_used_at=Max("keys__last_used_at"),
    )
    return [ServiceSummary(row, row.n_keys, row.n_versions, row.last_used_at) for row in rows.order_by("name")]


@dataclass(frozen=True, slots=True)
class KeyState:
    key: ServiceKey
    word: str
    in_force: bool


def keys_of(service: ModelService, *, at: datetime) -> list[KeyState]:
    """A service's keys, those in force first, each with the word for its state."""
    keys = ServiceKey.objects.filter(service=service).select_related("issued_by", "replaces").order_by("-pk")
    states = [KeyState(key, _word(key, at), key.in_force(at)) for key in keys]
    return sorted(states, key=lambda state: not state.in_force)


def _word(key: ServiceKey, at: datetime) -> str:
    if key.revoked_at and key.revoked_at <= at:
        return "revoked"
    if key.expires_at and key.expires_at <= at:
        return "expired"
    return "ending" if hasattr(key, "replaced_by") else "in force"
