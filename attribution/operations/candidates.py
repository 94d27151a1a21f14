"""One generation as a service reports it: read, judged by itself, and digested, before anything is looked up or stored.

Decides whether a generation is well formed. The ledger decides whether the plan in force wants a gross, and in which
currency.
"""

from __future__ import annotations

import functools
import hashlib
import re
import uuid
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson

from attribution.operations.fields import UnableToAccept, invalid, read_object, read_text
from attribution.operations.outputs import Output, read_parts
from influence.features import read_features

EXTERNAL_ID_CHARACTERS_MAX = 200
MODEL_VERSION_CHARACTERS_MAX = 100
PROMPT_BYTES_MAX = 1024 * 1024
OUTPUT_BYTES_MAX = 1024 * 1024
TOKEN_IDS_MAX = 131_072
# A prompt of a megabyte has more tokens than an output may have.
PROMPT_TOKEN_IDS_MAX = 1_048_576
TOKEN_ID_MAX = 2**31 - 1
AGE_MAX = timedelta(days=35)
CLOCK_SKEW_MAX = timedelta(minutes=5)
PARTS = ("model_version", "occurred_at", "prompt", "output", "gross")

# Up to a billion, in billionths: this fits the column and every currency's scale.
_AMOUNT = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,9})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class MalformedLine:
    """A line of a body that is not JSON, in the place of its generation."""

    number: int
    detail: str


@dataclass(frozen=True, slots=True)
class Features:
    """Numbers that the service computed, little-endian float32, and the public id of the index they are meant for."""

    index: uuid.UUID
    values: bytes


@dataclass(slots=True)
class Candidate:
    """A generation that is well formed. `refusal` is a reason that holds only if it is not stored already."""

    external_id: str
    model_version: str
    # In UTC, as ISO 8601.
    moment: str
    prompt: str
    prompt_token_ids: list[int] | None
    output: Output
    token_ids: list[int] | None
    features: Features | None
    gross: int | None
    currency: str
    parts: dict[str, str]
    digest: bytes
    refusal: UnableToAccept | None = None
    held: str = ""
    notice: str = ""
    """Something that the service should know of a stored generation."""


def read_candidate(generation: Any, *, at: datetime, files: Mapping[str, bytes] | None = None) -> Candidate:
    """Read one generation; `files` came beside it, by name. Raises UnableToAccept when it is not well formed."""
    if isinstance(generation, MalformedLine):
        raise UnableToAccept("malformed-line", generation.detail, line=generation.number)
    body = read_object(
        generation,
        "",
        required=("external_id", "model_version", "occurred_at", "output"),
        optional=("prompt", "features", "gross"),
    )
    external_id = body["external_id"]
    if not isinstance(external_id, str) or not is_external_id(external_id):
        raise invalid("external_id", f"must be 1 to {EXTERNAL_ID_CHARACTERS_MAX} printable characters.")
    model_version = read_text(body["model_version"], "model_version", MODEL_VERSION_CHARACTERS_MAX * 4)
    occurred_at = _moment(body["occurred_at"], "occurred_at")
    prompt, prompt_token_ids = _prompt(body.get("prompt", {"text": ""}))
    output, token_ids = _output(body["output"], files)
    moment = occurred_at.isoformat()
    features = _features(body.get("features"))
    gross, currency = _gross(body.get("gross"))
    told: list[Any] = [output.text, token_ids]
    if output.parts:
        told.append([part.told for part in output.parts])
    if features is not None:
        told += [str(features.index), hashlib.sha256(features.values).hexdigest()]
    parts = {
        "model_version": _digest_again(model_version),
        "occurred_at": _digest_again(moment),
        # Likewise a prompt without tokens.
        "prompt": _digest(prompt if prompt_token_ids is None else [prompt, prompt_token_ids]),
        # Reported features belong to their output. An output without features keeps the digest it always had.
        "output": _digest(told),
        "gross": _digest_again((gross, currency)),
    }
    return Candidate(
        external_id=external_id,
        model_version=model_version,
        moment=moment,
        prompt=prompt,
        prompt_token_ids=prompt_token_ids,
        output=output,
        token_ids=token_ids,
        features=features,
        gross=gross,
        currency=currency or "USD",
        parts=parts,
        digest=hashlib.sha256("".join(parts[name] for name in PARTS).encode()).digest(),
        refusal=_refusal_of_date(occurred_at, at=at),
    )


def _output(value: Any, files: Mapping[str, bytes] | None) -> tuple[Output, list[int] | None]:
    if isinstance(value, Mapping) and ("media" in value or "parts" in value):
        body = read_object(value, "output", required=("parts",) if "parts" in value else ("media",))
        return read_parts(body, text_bytes_max=OUTPUT_BYTES_MAX, files=files or {}), None
    if isinstance(value, Mapping) and "text" not in value:
        raise UnableToAccept(
            "missing-field", "output.text is missing, or output.media, or output.parts.", field="output.text"
        )
    body = read_object(value, "output", required=("text",), optional=("token_ids",))
    token_ids = _token_ids(body.get("token_ids"), "output.token_ids", TOKEN_IDS_MAX)
    return Output(_text_beside(body["text"], token_ids, "output", OUTPUT_BYTES_MAX), (), "text"), token_ids


def _refusal_of_date(occurred_at: datetime, *, at: datetime) -> UnableToAccept | None:
    if occurred_at > at + CLOCK_SKEW_MAX:
        return UnableToAccept("date-out-of-range", "occurred_at lies in the future.", field="occurred_at")
    if occurred_at < at - AGE_MAX:
        detail = f"occurred_at lies more than {AGE_MAX.days} days in the past."
        return UnableToAccept("date-out-of-range", detail, field="occurred_at")
    return None


def is_external_id(value: str) -> bool:
    if not 1 <= len(value) <= EXTERNAL_ID_CHARACTERS_MAX:
        return False
    # Nearly every id is plain ASCII, and known to be good without the slower patterns.
    is_plain = value.isascii() and value.isprintable()
    return is_plain or not (_CONTROL.search(value) or _SURROGATE.search(value))


def _moment(value: Any, name: str) -> datetime:
    requirement = "must be a date and time of RFC 3339 with its offset, as 2026-10-03T10:00:00Z."
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise invalid(name, requirement)
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(name, requirement) from None


def _prompt(value: Any) -> tuple[str, list[int] | None]:
    """Read the prompt's text and its tokens; with tokens the text may be missing."""
    body = read_object(value, "prompt", required=(), optional=("text", "token_ids"))
    token_ids = _token_ids(body.get("token_ids"), "prompt.token_ids", PROMPT_TOKEN_IDS_MAX)
    if "text" not in body and token_ids is None:
        raise UnableToAccept("missing-field", "prompt.text is missing.", field="prompt.text")
    return _text_beside(body.get("text"), token_ids, "prompt", PROMPT_BYTES_MAX), token_ids


def _text_beside(value: Any, token_ids: list[int] | None, name: str, bytes_max: int) -> str:
    """Read a text; null, as of a tool call, counts as none where its tokens are reported."""
    if value is None and token_ids:
        return ""
    if value is None:
        raise invalid(f"{name}.text", f"must be a string; null is taken only beside {name}.token_ids.")
    return read_text(value, f"{name}.text", bytes_max)


def _token_ids(value: Any, name: str, tokens_max: int) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(token) is int for token in value):
        raise invalid(name, "must be a list of integers.")
    if len(value) > tokens_max:
        detail = f"{name} takes at most {tokens_max} tokens."
        raise UnableToAccept("too-many-tokens", detail, field=name, tokens_max=tokens_max)
    if value and not (min(value) >= 0 and max(value) <= TOKEN_ID_MAX):
        raise invalid(name, f"must lie between 0 and {TOKEN_ID_MAX}.")
    return value


def _features(value: Any) -> Features | None:
    if value is None:
        return None
    body = read_object(value, "features", required=("index", "values"))
    try:
        index = uuid.UUID(body["index"]) if isinstance(body["index"], str) else None
    except ValueError:
        index = None
    if index is None:
        raise invalid("features.index", "must be the id of an index, as GET /api/v1/model-versions gives it.")
    if not isinstance(body["values"], str):
        raise invalid("features.values", "must be a string: base64 of little-endian float32 numbers.")
    try:
        values = read_features(body["values"])
    except ValueError as reason:
        raise UnableToAccept("invalid-features", f"features.values {reason}.", field="features.values") from None
    return Features(index, values)


def _gross(value: Any) -> tuple[int | None, str]:
    """Billionths of the currency, and the currency; (None, "") when no gross was given."""
    if value is None:
        return None, ""
    body = read_object(value, "gross", required=("amount", "currency"))
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


@functools.lru_cache(maxsize=1_024)
def _digest_again(part: Hashable) -> str:
    """Digest a part that most generations of a batch share."""
    return _digest(part)


def _digest(part: Any) -> str:
    """Digest a part. 128 bits are enough to name a difference; the full digest over all parts decides on equality."""
    return hashlib.sha256(orjson.dumps(part)).hexdigest()[:32]
