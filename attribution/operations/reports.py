"""Reports of model services: each generation is judged alone, stored once, and answered the same again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, FilteredRelation, Q

from attribution.models import AttributionIndex, Generation, ModelService, ModelVersion
from attribution.operations.candidates import (
    PARTS,
    Candidate,
    Features,
    UnableToAccept,
    is_external_id,
    read_candidate,
)

BATCH_MAX = 1_000


class UnableToReport(Exception):
    """The batch as a whole is not one."""

    status = 422
    problem = "invalid-batch"


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The answer to one generation: 201 stored, 200 stored before with the same body, 409 or 422 with a problem."""

    external_id: str | None
    status: int
    id: str | None = None
    refusal: UnableToAccept | None = None


def report_generations(
    *, service: ModelService, generations: Sequence[Any], at: datetime, may_push_features: bool = False
) -> list[ReportResult]:
    """Store the new and well-formed generations; answer each generation in the order given.

    `may_push_features`: whether the caller may report the features of its outputs itself (scope features:write).

    Idempotent per (service, external id), also between processes: the unique constraint decides the first report, and
    every later one is compared with the stored one. A repeated report is answered even when it would be refused as a
    new one (it has grown too old, its model version was retired). Raises UnableToReport for a batch of no generation or
    of more than BATCH_MAX.
    """
    if not 1 <= len(generations) <= BATCH_MAX:
        raise UnableToReport(f"A batch holds 1 to {BATCH_MAX} generations, not {len(generations)}.")
    read = [_read_or_refuse(generation, at=at) for generation in generations]
    candidates = [candidate for candidate in read if isinstance(candidate, Candidate)]
    with transaction.atomic():
        _name_model_versions(service, candidates, may_push_features=may_push_features, at=at)
        _store(candidates)
        stored = _stored(service, candidates)
    answered: set[str] = set()
    return [_answer(item, stored, answered) if isinstance(item, Candidate) else item for item in read]


def _read_or_refuse(generation: Any, *, at: datetime) -> Candidate | ReportResult:
    try:
        return read_candidate(generation, at=at)
    except UnableToAccept as refusal:
        external_id = generation.get("external_id") if isinstance(generation, Mapping) else None
        known = isinstance(external_id, str) and is_external_id(external_id)
        return ReportResult(external_id if known else None, refusal.status, refusal=refusal)


def _answer(candidate: Candidate, stored: Mapping[str, Generation], answered: set[str]) -> ReportResult:
    external_id = candidate.external_id
    row = stored.get(external_id)
    if row is None:
        assert candidate.refusal is not None, "A generation without a refusal is stored."
        return ReportResult(external_id, candidate.refusal.status, refusal=candidate.refusal)
    if bytes(row.request_sha256) != candidate.digest:
        differs = [part for part in PARTS if row.request_parts.get(part) != candidate.parts[part]]
        refusal = UnableToAccept(
            "body-differs", "This external id was reported before with another body.", status=409, differs=differs
        )
        return ReportResult(external_id, 409, refusal=refusal)
    is_new = candidate.row is not None and candidate.row.pk == row.pk and external_id not in answered
    answered.add(external_id)
    return ReportResult(external_id, 201 if is_new else 200, str(row.pk))


# --- storing --------------------------------------------------------------------------------------------------------
def _name_model_versions(
    service: ModelService, candidates: Sequence[Candidate], *, may_push_features: bool, at: datetime
) -> None:
    """Give each candidate its row to be, or the refusal that its model version calls for."""
    names = {candidate.model_version for candidate in candidates}
    # Another service's model versions are as unknown as one that does not exist. With each comes the index that takes
    # features, in the same query: of those that serve there is one at most.
    takes = Q(indexes__serving=True, indexes__attributor=AttributionIndex.Attributor.PUSHED)
    found = ModelVersion.objects.filter(service=service, name__in=names).annotate(
        takes=FilteredRelation("indexes", condition=takes),
        index_pk=F("takes__pk"),
        index_public_id=F("takes__public_id"),
        index_shape=F("takes__feature_shape"),
    )
    versions = {version.name: version for version in found}
    refusals = {name: _refusal_of(versions.get(name), name) for name in names}
    pushed = {version.name: _index_of(version) for version in found}
    first: set[str] = set()
    for candidate in candidates:
        candidate.refusal = candidate.refusal or refusals[candidate.model_version]
        if candidate.refusal is not None:
            continue
        version = versions[candidate.model_version]
        index = pushed[candidate.model_version]
        candidate.refusal = _refusal_of_features(candidate.features, index, is_allowed=may_push_features)
        if candidate.refusal is None and candidate.external_id not in first:
            first.add(candidate.external_id)
            candidate.row = _row(candidate, service, version, index, at=at)


def _index_of(version: Any) -> AttributionIndex | None:
    """Find the serving index that takes features of this model version, from the annotations of its query."""
    if version.index_pk is None:
        return None
    return AttributionIndex(pk=version.index_pk, public_id=version.index_public_id, feature_shape=version.index_shape)


def _refusal_of_features(
    features: Features | None, index: AttributionIndex | None, *, is_allowed: bool
) -> UnableToAccept | None:
    if features is None:
        if index is None:
            return None
        detail = f"This model version is attributed by features that the service reports, for index {index.public_id}."
        return UnableToAccept("missing-features", detail, field="features", index=str(index.public_id))
    if not is_allowed:
        detail = "Only a key with the scope features:write may report features."
        return UnableToAccept("features-not-allowed", detail, field="features", scope="features:write")
    if index is None:
        detail = "No index of this model version takes features: report the output alone."
        return UnableToAccept("unexpected-features", detail, field="features")
    if features.index != index.public_id:
        detail = f"These features are for index {features.index}; index {index.public_id} serves."
        return UnableToAccept("foreign-features", detail, field="features.index", index=str(index.public_id))
    members, numbers = index.feature_shape or (0, 0)
    if len(features.values) != 4 * members * numbers:
        detail = f"The index takes {members} x {numbers} numbers, not {len(features.values) // 4}."
        return UnableToAccept("invalid-features", detail, field="features.values", shape=[members, numbers])
    return None


def _refusal_of(version: ModelVersion | None, name: str) -> UnableToAccept | None:
    where = "model_version"
    if version is None:
        return UnableToAccept("unknown-model-version", f"This service has no model version {name!r}.", field=where)
    if version.state == ModelVersion.State.REGISTERED:
        return UnableToAccept("no-manifest", f"Model version {name!r} has no training manifest yet.", field=where)
    if version.state == ModelVersion.State.RETIRED:
        return UnableToAccept("retired-model-version", f"Model version {name!r} is retired.", field=where)
    return None


def _row(
    candidate: Candidate,
    service: ModelService,
    version: ModelVersion,
    index: AttributionIndex | None,
    *,
    at: datetime,
) -> Generation:
    return Generation(
        service=service,
        external_id=candidate.external_id,
        model_version=version,
        prompt_text=candidate.prompt,
        output_text=candidate.output,
        output_sha256=hashlib.sha256(candidate.output.encode()).digest(),
        token_ids=candidate.token_ids,
        features=candidate.features.values if candidate.features else None,
        features_index=index if candidate.features else None,
        occurred_at=candidate.occurred_at,
        received_at=at,
        gross=candidate.gross,
        currency=candidate.currency,
        request_sha256=candidate.digest,
        request_parts=candidate.parts,
    )


def _store(candidates: Sequence[Candidate]) -> None:
    rows = [candidate.row for candidate in candidates if candidate.row is not None]
    # In one order everywhere: two reports of the same ids then wait for each other instead of locking crosswise.
    rows.sort(key=lambda row: row.external_id)
    Generation.objects.bulk_create(rows, ignore_conflicts=True)


def _stored(service: ModelService, candidates: Sequence[Candidate]) -> dict[str, Generation]:
    external_ids = {candidate.external_id for candidate in candidates}
    rows = Generation.objects.filter(service=service, external_id__in=external_ids)
    return {row.external_id: row for row in rows.only("external_id", "request_sha256", "request_parts")}
