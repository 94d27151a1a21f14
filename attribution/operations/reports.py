"""Reports of model services: each generation is judged alone, stored once, and answered the same again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, FilteredRelation, Q
from django.utils.module_loading import import_string

from attribution.models import AttributionIndex, Generation, ModelService, ModelVersion, ReportStop
from attribution.operations.candidates import (
    PARTS,
    Candidate,
    Features,
    is_external_id,
    read_candidate,
)
from attribution.operations.fields import UnableToAccept
from attribution.operations.generations import insert_generations, insert_parts
from attribution.operations.stops import stops_in_force
from attribution.operations.tokens import decoder, difference
from attribution.queries.model_versions import why_held
from people.models import uuid7

BATCH_MAX = 1_000
# By adapter: models of which only text is read, and models of which only values of pictures and other media are.
READS_TEXT, READS_VALUES = frozenset({"causal_lm"}), frozenset({"diffusion", "classifier"})
PUSHED = "pushed"
# The columns of a serving index that a report's answer depends on.
INDEX_FIELDS = ("id", "public_id", "attributor", "feature_shape", "state", "base_pool_at")


class UnableToReport(Exception):
    """The batch as a whole is not one."""

    status = 422
    problem = "invalid-batch"


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The answer to one generation: 201 stored, 200 stored before with the same body, else a status with a problem."""

    external_id: str | None
    status: int
    id: str | None = None
    refusal: UnableToAccept | None = None
    # The reason for which a stored generation waits for its attribution; "" where it is next.
    held: str = ""
    notice: str = ""


def report_generations(
    *,
    service: ModelService,
    generations: Sequence[Any],
    at: datetime,
    may_push_features: bool = False,
    files: Mapping[str, bytes] | None = None,
    was_accepted: bool = False,
) -> list[ReportResult]:
    """Store the new and well-formed generations; answer each generation in the order given.

    `may_push_features`: whether the caller may report the features of its outputs itself (scope features:write).
    `files`: the files of a multipart body, to which outputs refer by name. `was_accepted`: a gateway took them before,
    so that no stop refuses them now.

    Idempotent per (service, external id), also between processes: the unique constraint decides the first report, and
    every later one is compared with the stored one. A repeated report is answered even when it would be refused as a
    new one (it has grown too old, its model version was retired). Raises UnableToReport for a batch of no generation or
    of more than BATCH_MAX.
    """
    if not 1 <= len(generations) <= BATCH_MAX:
        raise UnableToReport(f"A batch holds 1 to {BATCH_MAX} generations, not {len(generations)}.")
    read = [_read_or_refuse(generation, at=at, files=files) for generation in generations]
    candidates = [candidate for candidate in read if isinstance(candidate, Candidate)]
    with transaction.atomic():
        stops = {} if was_accepted else stops_in_force(service, at=at)
        rows = _rows(service, candidates, may_push_features=may_push_features, at=at, stops=stops)
        made = insert_generations([row for _, row in rows.values()])
        insert_parts({pk: rows[external_id][0].output.parts for external_id, pk in made.items()})
        stored = _stored(service, {candidate.external_id for candidate in candidates} - made.keys())
    for external_id, pk in made.items():
        candidate, _ = rows[external_id]
        stored[external_id] = Stored(pk, candidate.digest, candidate.parts, new=True)
    return [_answer(item, stored) if isinstance(item, Candidate) else item for item in read]


@dataclass(slots=True)
class Stored:
    """The stored report of an external id, as far as an answer needs it. `new`: by this call, and not yet answered."""

    pk: uuid.UUID
    digest: bytes
    parts: Mapping[str, str]
    new: bool = False


def _read_or_refuse(generation: Any, *, at: datetime, files: Mapping[str, bytes] | None) -> Candidate | ReportResult:
    try:
        return read_candidate(generation, at=at, files=files)
    except UnableToAccept as refusal:
        external_id = generation.get("external_id") if isinstance(generation, Mapping) else None
        known = isinstance(external_id, str) and is_external_id(external_id)
        return ReportResult(external_id if known else None, refusal.status, refusal=refusal)


def _answer(candidate: Candidate, stored: Mapping[str, Stored]) -> ReportResult:
    external_id = candidate.external_id
    found = stored.get(external_id)
    if found is None:
        assert candidate.refusal is not None, "A generation without a refusal is stored."
        return ReportResult(external_id, candidate.refusal.status, refusal=candidate.refusal)
    if found.digest != candidate.digest:
        differs = [part for part in PARTS if found.parts.get(part) != candidate.parts[part]]
        refusal = UnableToAccept(
            "body-differs", "This external id was reported before with another body.", status=409, differs=differs
        )
        return ReportResult(external_id, 409, refusal=refusal)
    status = 201 if found.new else 200
    notice = candidate.notice if found.new else ""
    found.new = False
    held = candidate.held if status == 201 else ""
    return ReportResult(external_id, status, str(found.pk), held=held, notice=notice)


# --- storing --------------------------------------------------------------------------------------------------------
def _rows(
    service: ModelService,
    candidates: Sequence[Candidate],
    *,
    may_push_features: bool,
    at: datetime,
    stops: Mapping[str, ReportStop],
) -> dict[str, tuple[Candidate, dict[str, Any]]]:
    """Give each candidate the refusal that its model version calls for; return the rows of the others, once an id."""
    names = {candidate.model_version for candidate in candidates}
    # Another service's model versions are as unknown as one that does not exist. With each comes the index that serves
    # it, in the same query: there is one at most.
    found = ModelVersion.objects.filter(service=service, name__in=names).annotate(
        serves=FilteredRelation("indexes", condition=Q(indexes__serving=True)),
        **{f"index_{name}": F(f"serves__{name}") for name in INDEX_FIELDS},
    )
    versions = {version.name: version for version in found}
    refusals = {name: _refusal_of(versions.get(name), name) for name in names}
    serving = {version.name: _index_of(version) for version in found}
    pushed = {name: index if index and index.attributor == PUSHED else None for name, index in serving.items()}
    held = {name: why_held(index) for name, index in serving.items()}
    received_at = at.isoformat()
    rows: dict[str, tuple[Candidate, dict[str, Any]]] = {}
    currencies = _KnownCurrencies()
    for candidate in candidates:
        candidate.refusal = candidate.refusal or refusals[candidate.model_version]
        if candidate.refusal is not None:
            continue
        index = pushed[candidate.model_version]
        version = versions[candidate.model_version]
        candidate.refusal = (
            _refusal_of_features(candidate.features, index, is_allowed=may_push_features)
            or _refusal_of_output(candidate, version)
            or _refusal_of_tokens(candidate, version)
            or currencies(candidate)
            or _refusal_of_stop(stops.get(candidate.currency))
        )
        if candidate.refusal is None and candidate.external_id not in rows:
            candidate.notice = _notice_of(candidate, version)
            row = _row(candidate, index)
            row["service_id"], row["model_version_id"] = service.pk, versions[candidate.model_version].pk
            row["received_at"] = received_at
            rows[candidate.external_id] = candidate, row
            candidate.held = held[candidate.model_version]
    return rows


def _index_of(version: Any) -> AttributionIndex | None:
    """Find the index that serves this model version, from the annotations of its query."""
    if version.index_id is None:
        return None
    return AttributionIndex(**{name: getattr(version, f"index_{name}") for name in INDEX_FIELDS})


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


def _refusal_of_tokens(candidate: Candidate, version: ModelVersion) -> UnableToAccept | None:
    """Refuse tokens that the model does not have, and tokens that are those of another text."""
    for field, token_ids in (
        ("prompt.token_ids", candidate.prompt_token_ids),
        ("output.token_ids", candidate.token_ids),
    ):
        if token_ids and version.vocabulary is not None and max(token_ids) >= version.vocabulary:
            place = next(at for at, token in enumerate(token_ids) if token >= version.vocabulary)
            detail = (
                f"{field}[{place}] is {token_ids[place]}: the model has the tokens 0 to {version.vocabulary - 1}. "
                "Leave out symbols that the model does not read."
            )
            return UnableToAccept("token-outside-vocabulary", detail, field=field, vocabulary=version.vocabulary)
    directory = version.directory
    if not candidate.token_ids or not candidate.output.text or not version.decoder or directory is None:
        return None
    decode = decoder(Path(settings.TRIBUTARY_DATA) / directory / version.decoder)
    if decode is None:
        # The worker compares, with the model's own tokeniser.
        return None
    if detail := difference(candidate.output.text, decode(candidate.token_ids)):
        return UnableToAccept("text-and-tokens-differ", detail, field="output.token_ids")
    return None


class _KnownCurrencies:
    """The currencies of royalty plans, asked for once a batch, and only where a gross is reported."""

    def __init__(self) -> None:
        self._known: frozenset[str] | None = None

    def __call__(self, candidate: Candidate) -> UnableToAccept | None:
        if candidate.gross is None:
            return None
        if self._known is None:
            self._known = import_string(settings.PLAN_CURRENCIES)()
        if candidate.currency in self._known:
            return None
        detail = f"No royalty plan has the currency {candidate.currency}; there is {', '.join(sorted(self._known))}."
        return UnableToAccept("unknown-currency", detail, field="gross.currency")


def _refusal_of_stop(stop: ReportStop | None) -> UnableToAccept | None:
    return UnableToAccept(stop.problem, stop.detail, status=402, **stop.facts) if stop else None


def _notice_of(candidate: Candidate, version: ModelVersion) -> str:
    """Say at once where it is known that a generation cannot be attributed, or that a part of it is not read."""
    if not (candidate.output.text or candidate.output.parts or candidate.token_ids or candidate.features):
        return (
            "The output is empty: it cannot be attributed. Its price goes to the base pool, unless the royalty plan "
            "leaves it free."
        )
    given = len(candidate.prompt_token_ids or ()) + len(candidate.token_ids or ())
    if version.context is not None and given > version.context:
        return f"Only the last {version.context} of {given} tokens are read: the model reads no more at a time."
    return ""


def _refusal_of(version: ModelVersion | None, name: str) -> UnableToAccept | None:
    where = "model_version"
    if version is None:
        return UnableToAccept("unknown-model-version", f"This service has no model version {name!r}.", field=where)
    if version.state == ModelVersion.State.REGISTERED:
        return UnableToAccept("no-manifest", f"Model version {name!r} has no training manifest yet.", field=where)
    if version.state == ModelVersion.State.RETIRED:
        return UnableToAccept("retired-model-version", f"Model version {name!r} is retired.", field=where)
    return None


def _refusal_of_output(candidate: Candidate, version: ModelVersion) -> UnableToAccept | None:
    """Refuse an output of which the model version's index could never measure anything."""
    output, adapter = candidate.output, version.adapter
    if adapter in READS_TEXT and output.parts and not output.has_text:
        detail = f"{version.name} writes text, and this output has none."
        return UnableToAccept("wrong-modality", detail, field="output")
    if adapter in READS_VALUES and not output.parts:
        detail = f"{version.name} makes pictures or other media: report output.media, or output.parts."
        return UnableToAccept("wrong-modality", detail, field="output.text")
    if adapter != PUSHED and adapter not in READS_TEXT and any(part.content is None for part in output.parts):
        detail = f"{version.name} is measured here, which takes the bytes of its outputs and not their digest alone."
        return UnableToAccept("missing-content", detail, field="output")
    return None


def _row(candidate: Candidate, index: AttributionIndex | None) -> dict[str, Any]:
    """Make the columns that the report itself decides (see insert_generations)."""
    return {
        "id": uuid7(),
        "external_id": candidate.external_id,
        "prompt_text": candidate.prompt,
        "prompt_token_ids": candidate.prompt_token_ids,
        "modality": candidate.output.modality,
        "output_text": candidate.output.text,
        "output_sha256": candidate.output.sha256,
        "token_ids": candidate.token_ids,
        "features": candidate.features.values if candidate.features else None,
        "features_index_id": index.pk if index and candidate.features else None,
        "occurred_at": candidate.moment,
        "gross": candidate.gross,
        "currency": candidate.currency,
        "request_sha256": candidate.digest,
        "request_parts": candidate.parts,
    }


def _stored(service: ModelService, external_ids: set[str]) -> dict[str, Stored]:
    """Find the reports that were stored before, or by another process a moment ago."""
    if not external_ids:
        return {}
    rows = Generation.objects.filter(service=service, external_id__in=external_ids)
    return {
        external_id: Stored(pk, bytes(digest), parts)
        for external_id, pk, digest, parts in rows.values_list("external_id", "pk", "request_sha256", "request_parts")
    }
