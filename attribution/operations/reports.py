"""Taking in what a model service reports: each generation is judged alone, stored once, and answered the same again.

Decides what a well-formed generation is. Whether the plan in force wants a gross, and in which currency, is the
ledger's to know.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F, FilteredRelation, Q

from attribution.features import read_features
from attribution.models import AttributionIndex, Generation, ModelService, ModelVersion

BATCH_MAX = 1_000
EXTERNAL_ID_CHARACTERS_MAX = 200
MODEL_VERSION_CHARACTERS_MAX = 100
PROMPT_BYTES_MAX = 64 * 1024
OUTPUT_BYTES_MAX = 256 * 1024
TOKEN_IDS_MAX = 8_192
TOKEN_ID_MAX = 2**31 - 1
AGE_MAX = timedelta(days=35)
CLOCK_SKEW_MAX = timedelta(minutes=5)
PARTS = ("model_version", "occurred_at", "prompt", "output", "gross")

# Up to a billion, in billionths: what fits the column and every currency's scale.
_AMOUNT = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,9})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class UnableToReport(Exception):
    """The batch as a whole is not one."""

    status = 422
    problem = "invalid-batch"


class UnableToAccept(Exception):
    """One generation of a batch was not stored. `problem` names the reason, `members` what belongs to it."""

    def __init__(self, problem: str, detail: str, *, status: int = 422, **members: Any) -> None:
        super().__init__(detail)
        self.problem = problem
        self.status = status
        self.members = members


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The answer to one generation: 201 stored, 200 stored before with the same body, 409 or 422 with a problem."""

    external_id: str | None
    status: int
    id: str | None = None
    refusal: UnableToAccept | None = None


@dataclass(frozen=True, slots=True)
class _Features:
    """Numbers that the service computed, little-endian float32, and the public id of the index they are meant for."""

    index: uuid.UUID
    values: bytes


@dataclass(slots=True)
class _Candidate:
    """A generation that is well formed. `refusal` is a reason that holds only if it is not stored already."""

    external_id: str
    model_version: str
    occurred_at: datetime
    prompt: str
    output: str
    token_ids: list[int] | None
    features: _Features | None
    gross: int | None
    currency: str
    parts: dict[str, str]
    digest: bytes
    refusal: UnableToAccept | None = None
    row: Generation | None = field(default=None)


def report_generations(
    *, service: ModelService, generations: Sequence[Any], at: datetime, may_push_features: bool = False
) -> list[ReportResult]:
    """Store what is new and well formed; answer each generation in the order given.

    `may_push_features`: whether the caller may say itself what its outputs drew on (scope features:write).

    Idempotent per (service, external id), also between processes: the unique constraint decides who was first, and
    whoever comes second is compared with what is stored. A repeated report is answered even when it would be refused
    as a new one (it has grown too old, its model version was retired).
    """
    if not 1 <= len(generations) <= BATCH_MAX:
        raise UnableToReport(f"A batch holds 1 to {BATCH_MAX} generations, not {len(generations)}.")
    read = [_read_or_refuse(generation, at=at) for generation in generations]
    candidates = [candidate for candidate in read if isinstance(candidate, _Candidate)]
    with transaction.atomic():
        _name_model_versions(service, candidates, may_push_features=may_push_features, at=at)
        _store(candidates)
        stored = _stored(service, candidates)
    answered: set[str] = set()
    return [_answer(item, stored, answered) if isinstance(item, _Candidate) else item for item in read]


def _read_or_refuse(generation: Any, *, at: datetime) -> _Candidate | ReportResult:
    try:
        return _read(generation, at=at)
    except UnableToAccept as refusal:
        external_id = generation.get("external_id") if isinstance(generation, Mapping) else None
        known = isinstance(external_id, str) and _is_external_id(external_id)
        return ReportResult(external_id if known else None, refusal.status, refusal=refusal)


def _answer(candidate: _Candidate, stored: Mapping[str, Generation], answered: set[str]) -> ReportResult:
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
    service: ModelService, candidates: Sequence[_Candidate], *, may_push_features: bool, at: datetime
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
    """The serving index that takes features of this model version, from what its query was annotated with."""
    if version.index_pk is None:
        return None
    return AttributionIndex(pk=version.index_pk, public_id=version.index_public_id, feature_shape=version.index_shape)


def _refusal_of_features(
    features: _Features | None, index: AttributionIndex | None, *, is_allowed: bool
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
    candidate: _Candidate,
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


def _store(candidates: Sequence[_Candidate]) -> None:
    rows = [candidate.row for candidate in candidates if candidate.row is not None]
    # In one order everywhere: two reports of the same ids then wait for each other instead of locking crosswise.
    rows.sort(key=lambda row: row.external_id)
    Generation.objects.bulk_create(rows, ignore_conflicts=True)


def _stored(service: ModelService, candidates: Sequence[_Candidate]) -> dict[str, Generation]:
    external_ids = {candidate.external_id for candidate in candidates}
    rows = Generation.objects.filter(service=service, external_id__in=external_ids)
    return {row.external_id: row for row in rows.only("external_id", "request_sha256", "request_parts")}


# --- reading one generation -----------------------------------------------------------------------------------------
def _read(generation: Any, *, at: datetime) -> _Candidate:
    body = _object(generation, "", required=("external_id", "model_version", "occurred_at", "output"),
                   optional=("prompt", "features", "gross"))  # fmt: skip
    external_id = body["external_id"]
    if not isinstance(external_id, str) or not _is_external_id(external_id):
        raise _invalid("external_id", f"must be 1 to {EXTERNAL_ID_CHARACTERS_MAX} printable characters.")
    model_version = _text(body["model_version"], "model_version", MODEL_VERSION_CHARACTERS_MAX * 4)
    occurred_at = _moment(body["occurred_at"], "occurred_at")
    prompt_body = _object(body.get("prompt", {"text": ""}), "prompt", required=("text",))
    prompt = _text(prompt_body["text"], "prompt.text", PROMPT_BYTES_MAX)
    output_body = _object(body["output"], "output", required=("text",), optional=("token_ids",))
    output = _text(output_body["text"], "output.text", OUTPUT_BYTES_MAX)
    token_ids = _token_ids(output_body.get("token_ids"))
    features = _features(body.get("features"))
    gross, currency = _gross(body.get("gross"))
    told: list[Any] = [output, token_ids]
    if features is not None:
        told += [str(features.index), hashlib.sha256(features.values).hexdigest()]
    parts = {
        "model_version": _digest(model_version),
        "occurred_at": _digest(occurred_at.isoformat()),
        "prompt": _digest(prompt),
        # What the service says of an output belongs to it; an output without features keeps the digest it always had.
        "output": _digest(told),
        "gross": _digest([gross, currency]),
    }
    return _Candidate(
        external_id=external_id,
        model_version=model_version,
        occurred_at=occurred_at,
        prompt=prompt,
        output=output,
        token_ids=token_ids,
        features=features,
        gross=gross,
        currency=currency or "USD",
        parts=parts,
        digest=hashlib.sha256("".join(parts[name] for name in PARTS).encode()).digest(),
        refusal=_refusal_of_date(occurred_at, at=at),
    )


def _refusal_of_date(occurred_at: datetime, *, at: datetime) -> UnableToAccept | None:
    if occurred_at > at + CLOCK_SKEW_MAX:
        return UnableToAccept("date-out-of-range", "occurred_at lies in the future.", field="occurred_at")
    if occurred_at < at - AGE_MAX:
        detail = f"occurred_at lies more than {AGE_MAX.days} days in the past."
        return UnableToAccept("date-out-of-range", detail, field="occurred_at")
    return None


def _invalid(name: str, requirement: str) -> UnableToAccept:
    return UnableToAccept("invalid-field", f"{name or 'A generation'} {requirement}", field=name)


def _object(value: Any, name: str, *, required: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _invalid(name, "must be an object.")
    path = f"{name}." if name else ""
    for key in required:
        if key not in value:
            raise UnableToAccept("missing-field", f"{path}{key} is missing.", field=f"{path}{key}")
    for key in value:
        # A misspelt field would otherwise be money silently left out.
        if key not in required and key not in optional:
            known = ", ".join([*required, *optional])
            raise UnableToAccept("unknown-field", f"{name or 'A generation'} takes only {known}.", field=name)
    return value


def _is_external_id(value: str) -> bool:
    fits = 1 <= len(value) <= EXTERNAL_ID_CHARACTERS_MAX
    return fits and not _CONTROL.search(value) and not _UNSTORABLE.search(value)


def _text(value: Any, name: str, bytes_max: int) -> str:
    if not isinstance(value, str):
        raise _invalid(name, "must be a string.")
    if len(value) > bytes_max:
        raise _too_long(name, bytes_max)
    if _UNSTORABLE.search(value):
        raise UnableToAccept("malformed-text", f"{name} holds a NUL or half a surrogate pair.", field=name)
    if len(value.encode()) > bytes_max:
        raise _too_long(name, bytes_max)
    return value


def _too_long(name: str, bytes_max: int) -> UnableToAccept:
    detail = f"{name} takes at most {bytes_max} bytes of UTF-8."
    return UnableToAccept("text-too-long", detail, field=name, bytes_max=bytes_max)


def _moment(value: Any, name: str) -> datetime:
    requirement = "must be a date and time of RFC 3339 with its offset, as 2026-10-03T10:00:00Z."
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise _invalid(name, requirement)
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _invalid(name, requirement) from None


def _token_ids(value: Any) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(token) is int for token in value):
        raise _invalid("output.token_ids", "must be a list of integers.")
    if len(value) > TOKEN_IDS_MAX:
        detail = f"output.token_ids takes at most {TOKEN_IDS_MAX} tokens."
        raise UnableToAccept("too-many-tokens", detail, field="output.token_ids", tokens_max=TOKEN_IDS_MAX)
    if value and not (min(value) >= 0 and max(value) <= TOKEN_ID_MAX):
        raise _invalid("output.token_ids", f"must lie between 0 and {TOKEN_ID_MAX}.")
    return value


def _features(value: Any) -> _Features | None:
    if value is None:
        return None
    body = _object(value, "features", required=("index", "values"))
    try:
        index = uuid.UUID(body["index"]) if isinstance(body["index"], str) else None
    except ValueError:
        index = None
    if index is None:
        raise _invalid("features.index", "must be the id of an index, as GET /api/v1/model-versions gives it.")
    if not isinstance(body["values"], str):
        raise _invalid("features.values", "must be a string: base64 of little-endian float32 numbers.")
    try:
        values = read_features(body["values"])
    except ValueError as reason:
        raise UnableToAccept("invalid-features", f"features.values {reason}.", field="features.values") from None
    return _Features(index, values)


def _gross(value: Any) -> tuple[int | None, str]:
    """Billionths of the currency, and the currency; (None, "") when no gross was given."""
    if value is None:
        return None, ""
    body = _object(value, "gross", required=("amount", "currency"))
    amount, currency = body["amount"], body["currency"]
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise UnableToAccept(
            "invalid-currency", "gross.currency must be a code of ISO 4217, as USD.", field="gross.currency"
        )
    if not isinstance(amount, str) or not _AMOUNT.fullmatch(amount):
        requirement = 'must be a decimal string, as "0.05": at most 9 digits before the point and 9 after it.'
        raise UnableToAccept("invalid-amount", f"gross.amount {requirement}", field="gross.amount")
    nanos = int(Decimal(amount).scaleb(9))
    if nanos == 0:
        raise UnableToAccept("invalid-amount", "gross.amount must be more than zero.", field="gross.amount")
    return nanos, currency


def _digest(part: Any) -> str:
    """128 bits are enough to name what differs; whether anything does, the full digest over all parts decides."""
    return hashlib.sha256(json.dumps(part).encode()).hexdigest()[:32]
