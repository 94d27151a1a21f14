"""Names of models: the staff lead a gateway's name to a model version, from a moment on."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Q

from attribution.models import ModelName, ModelService, ModelVersion, WaitingReport
from attribution.operations.candidates import AGE_MAX
from people.actor import logged
from people.models import User

PATTERN_CHARACTERS_MAX = 200


class UnableToNameModel(Exception):
    """The pattern is no name, is ambiguous beside another, or begins or ends at a moment that it cannot."""

    status = 409
    problem = "unable-to-name-model"


@logged("service", "kind", "pattern", "model_version.name", "begins_at", key="service.public_id")
def name_model(
    *,
    service: ModelService,
    kind: str,
    pattern: str,
    model_version: ModelVersion,
    at: datetime,
    begins_at: datetime | None = None,
    by: User | None = None,
) -> ModelName:
    """Lead a name to a model version for generations from `begins_at` on. Waiting reports follow within a minute.

    Without `begins_at` a pattern that had an earlier entry begins where that one ended; a new one begins so early that
    it covers every waiting report. Raises UnableToNameModel.
    """
    pattern = pattern.strip()
    if not 1 <= len(pattern) <= PATTERN_CHARACTERS_MAX or not pattern.isprintable():
        raise UnableToNameModel(f"A name has 1 to {PATTERN_CHARACTERS_MAX} printable characters.")
    if kind not in ModelName.Kind.values:
        raise UnableToNameModel(f"The kind is one of {', '.join(ModelName.Kind.values)}.")
    if model_version.service_id != service.pk:
        raise UnableToNameModel(f"{model_version.name} belongs to another service.")
    if model_version.state == ModelVersion.State.RETIRED:
        raise UnableToNameModel(f"{model_version.name} is retired. Choose a model version that takes reports.")
    with transaction.atomic():
        # The service's row is the lock under which its names are compared.
        ModelService.objects.select_for_update(no_key=True).get(pk=service.pk)
        entries = list(ModelName.objects.filter(service=service).select_related("model_version"))
        begins = _beginning(entries, kind, pattern, begins_at, at)
        if begins > at:
            raise UnableToNameModel("A name cannot begin in the future.")
        _refuse_ambiguous(entries, kind, pattern, model_version, begins)
        made = ModelName.objects.create(
            service=service,
            kind=kind,
            pattern=pattern,
            model_version=model_version,
            begins_at=begins,
            recorded_at=at,
            recorded_by=by,
        )
        matching = Q(model_name__startswith=pattern) if kind == ModelName.Kind.PREFIX else Q(model_name=pattern)
        WaitingReport.objects.filter(matching, service=service).exclude(error="").update(error="")
        return made


def _beginning(entries: list[ModelName], kind: str, pattern: str, begins_at: datetime | None, at: datetime) -> datetime:
    ends = [entry.ends_at for entry in entries if (entry.kind, entry.pattern) == (kind, pattern) and entry.ends_at]
    if begins_at is None:
        return max(ends, default=at - 2 * AGE_MAX)
    if ends and begins_at < max(ends):
        raise UnableToNameModel(
            f"An earlier entry of this name ended {max(ends):%Y-%m-%d %H:%M} UTC; begin then, or later."
        )
    return begins_at


def _refuse_ambiguous(
    entries: list[ModelName], kind: str, pattern: str, version: ModelVersion, begins: datetime
) -> None:
    """Refuse a second entry of the same name, and two prefixes that claim one name for two model versions."""
    for entry in entries:
        if entry.kind != kind or (entry.ends_at is not None and entry.ends_at <= begins):
            continue
        if entry.pattern == pattern:
            raise UnableToNameModel(f"{entry} leads to {entry.model_version.name} already. End that entry first.")
        overlap = entry.pattern.startswith(pattern) or pattern.startswith(entry.pattern)
        if kind == ModelName.Kind.PREFIX and overlap and entry.model_version_id != version.pk:
            raise UnableToNameModel(
                f"{pattern}* and {entry} would both claim a name, for {version.name} and {entry.model_version.name}. "
                "Use exact names, or prefixes of which none begins with another."
            )


class UnableToEndName(Exception):
    """The entry has ended."""

    status = 409
    problem = "unable-to-end-name"


@logged("service", "kind", "pattern", "model_version.name", "ends_at", key="service.public_id")
def end_name(*, name: ModelName, at: datetime, by: User | None = None) -> ModelName:
    """End an entry now: later generations under this name wait, earlier ones keep their model version.

    Raises UnableToEndName.
    """
    if not ModelName.objects.filter(pk=name.pk, ends_at__isnull=True).update(ends_at=at):
        raise UnableToEndName(f"{name} has ended already.")
    name.ends_at = at
    return name
