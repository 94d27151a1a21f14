"""Reads of names of models, waiting reports and the counts of the doors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Max, Min, QuerySet, Sum

from attribution.models import GatewayTally, ModelName, ModelService, ModelVersion, WaitingReport

READY = ModelVersion.State.READY
TALLY_DAYS = 30


class NameBook:
    """Every name of a service's models: leads a gateway's name and a moment to a model version.

    The service's own name of a model version needs no entry. An exact entry counts before it, a prefix after it.
    """

    def __init__(self, service: ModelService) -> None:
        entries = ModelName.objects.filter(service=service).select_related("model_version")
        self._entries = sorted(entries, key=lambda entry: entry.kind != ModelName.Kind.EXACT)
        self._own = {version.name: version for version in ModelVersion.objects.filter(service=service)}

    def find(self, name: str, occurred_at: datetime) -> ModelVersion | None:
        """Return the model version that takes reports under this name; None while there is none that is ready."""
        found = [
            entry
            for entry in self._entries
            if entry.begins_at <= occurred_at
            and (entry.ends_at is None or occurred_at < entry.ends_at)
            and entry.matches(name)
        ]
        exact = next((entry.model_version for entry in found if entry.kind == ModelName.Kind.EXACT), None)
        prefix = next((entry.model_version for entry in found), None)
        version = exact or self._own.get(name) or prefix
        return version if version is not None and version.state == READY else None


def names_of(service: ModelService) -> QuerySet[ModelName]:
    """List the names of a service's models, those without an end first."""
    rows = ModelName.objects.filter(service=service).select_related("model_version", "recorded_by")
    return rows.order_by("-ends_at", "pattern", "-begins_at")


@dataclass(frozen=True, slots=True)
class WaitingName:
    """A name under which reports wait. `error` is the refusal of one of them, where they were tried."""

    service: ModelService
    name: str
    count: int
    since: datetime
    last: datetime
    error: str


def waiting_names(services: Iterable[ModelService] | None = None, *, limit: int) -> list[WaitingName]:
    """List the names under which reports wait, the oldest first."""
    rows = WaitingReport.objects.all()
    if services is not None:
        rows = rows.filter(service__in=services)
    found = rows.values("service", "model_name").annotate(
        n=Count("pk"), since=Min("received_at"), last=Max("received_at"), refusal=Max("error")
    )
    found = found.order_by("since", "model_name")[:limit]
    known = ModelService.objects.in_bulk({row["service"] for row in found})
    return [
        WaitingName(known[row["service"]], row["model_name"], row["n"], row["since"], row["last"], row["refusal"])
        for row in found
    ]


@dataclass(frozen=True, slots=True)
class Tally:
    door: str
    outcome: str
    reason: str
    n: int


def tallies_of(service: ModelService, *, at: datetime) -> list[Tally]:
    """Sum the counts of the last 30 days by door, outcome and reason."""
    since = (at - timedelta(days=TALLY_DAYS)).date()
    rows = GatewayTally.objects.filter(service=service, day__gte=since).values("door", "outcome", "reason")
    return [
        Tally(row["door"], row["outcome"], row["reason"], row["total"])
        for row in rows.annotate(total=Sum("n")).order_by("door", "outcome", "reason")
    ]
