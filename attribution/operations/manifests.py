"""Training manifests: their works found, their consents checked over the whole training, their items stored at once.

Works, consents and items are handled as sets in the database, never row by row: a manifest has up to ten million items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import connection, transaction

from attribution.models import ModelVersion, TrainingManifest
from attribution.operations.manifest_lines import BY_ID, ITEMS_MAX, Lines, new_lines
from contributors.models import Consent
from contributors.queries.consents import USES_OVER
from people.actor import logged
from people.models import User
from people.presentation import dates

# Lines that a refusal lists for one work; `n_lines` counts all of them.
LINES_NAMED_MAX = 100
WORKS_NAMED_MAX = 20


@dataclass(frozen=True, slots=True)
class NewItem:
    """A training item to be: tokens token_start up to, not including, token_end of a work's body; a part by its number;
    without both the whole work."""

    work_id: int
    ordinal: int
    token_start: int | None = None
    token_end: int | None = None
    part: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A reference to a work that cannot be used, with its lines and the reason. `consent` is the refusing statement."""

    reference: str
    lines: list[int]
    n_lines: int
    reason: str
    detail: str
    work: str | None = None
    title: str | None = None
    consent: str | None = None
    candidates: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of a check: the counted items and works, every refused reference."""

    items: int
    works: int
    refused: list[Refused]

    @property
    def would_be_accepted(self) -> bool:
        return not self.refused


class UnableToRegisterManifest(Exception):
    """The items are not well formed, or works lack the consent. `members["refused"]` names every refused work."""

    status = 422
    problem = "unable-to-register-manifest"

    def __init__(self, detail: str, *, refused: Sequence[Refused] = (), status: int = 422) -> None:
        super().__init__(detail)
        self.status = status
        self.members = {"refused": [asdict(each) for each in refused]} if refused else {}


def register_manifest(*, model_version: ModelVersion, items: Iterable[NewItem], at: datetime) -> TrainingManifest:
    """Record the exact training data of a model version, each work with the consent that held while it was trained.

    Refused as a whole when one work lacks that consent: a model trained on it must not be reported for. Raises
    UnableToRegisterManifest, also for a version that has its manifest or is retired, and for an unknown work.
    """
    with new_lines() as lines:
        seen: set[int] = set()
        for item in items:
            if item.ordinal < 0 or item.ordinal in seen:
                raise UnableToRegisterManifest("Ordinals are numbers from 0, each used once.")
            seen.add(item.ordinal)
            if item.token_start is not None and not 0 <= item.token_start < (item.token_end or 0):
                raise UnableToRegisterManifest(f"Item {item.ordinal} is no range of tokens.")
            number = item.ordinal + 1
            lines.add(number, item.ordinal, BY_ID, str(item.work_id), item.token_start, item.token_end, item.part)
        return store_manifest(model_version=model_version, lines=lines, at=at)


@logged("model_version", "n_items", "n_works", key="model_version.public_id")
def store_manifest(
    *, model_version: ModelVersion, lines: Lines, at: datetime, by: User | None = None
) -> TrainingManifest:
    """Check and store the lines of a manifest; register_manifest describes the consequences.

    The same lines again are answered with the stored manifest.
    """
    with transaction.atomic():
        version = ModelVersion.objects.select_for_update(no_key=True).get(pk=model_version.pk)
        checked = _check(version, lines)
        if version.state == ModelVersion.State.RETIRED:
            raise UnableToRegisterManifest(f"{version.name} is retired: register another version.", status=409)
        if checked.refused:
            raise UnableToRegisterManifest(_in_words(version, checked.refused), refused=checked.refused)
        digest = _digest()
        if (stored := _stored(version)) is not None:
            if bytes(stored.sha256) == digest:
                return stored
            raise UnableToRegisterManifest(
                f"{version.name} has its manifest, which has other items; register another version.", status=409
            )
        manifest = TrainingManifest.objects.create(
            model_version=version, sha256=digest, n_items=checked.items, n_works=checked.works, created_at=at
        )
        with connection.cursor() as cursor:
            cursor.execute(_STORE_WORKS, [manifest.pk])
            cursor.execute(_STORE_ITEMS, [manifest.pk])
        version.state = ModelVersion.State.READY
        version.save(update_fields=["state"])
    return manifest


def check_manifest(*, model_version: ModelVersion, lines: Lines) -> Checked:
    """Check the lines of a manifest and store nothing: the works found, and every work that would be refused."""
    with transaction.atomic():
        checked = _check(model_version, lines)
        transaction.set_rollback(True)
    return checked


def _stored(version: ModelVersion) -> TrainingManifest | None:
    try:
        return version.manifest
    except ObjectDoesNotExist:
        return None


def _in_words(version: ModelVersion, refused: Sequence[Refused]) -> str:
    """Name the refused works; the members name all of them with their lines."""
    named = "; ".join(dict.fromkeys(each.detail for each in refused[:WORKS_NAMED_MAX]))
    more = f"; and {len(refused) - WORKS_NAMED_MAX} more" if len(refused) > WORKS_NAMED_MAX else ""
    label = Consent.Scope(version.purpose).label.lower()
    works = f"{len(refused)} work{'s' if len(refused) > 1 else ''}"
    return f"{works} cannot be in the manifest of a version for {label}: {named}{more}."


# --- in the database ------------------------------------------------------------------------------------------------
_STAGE = """
CREATE TEMPORARY TABLE manifest_line (
  line integer, ordinal integer, kind text, value text, token_start integer, token_end integer, part integer
) ON COMMIT DROP
"""
_COPY = "COPY manifest_line FROM STDIN"
# Each reference once; then the works that it names, found by an index where there are few references.
_REFERENCES = """
CREATE TEMPORARY TABLE manifest_reference ON COMMIT DROP AS
SELECT kind, value, count(*) AS n_lines FROM manifest_line GROUP BY kind, value
"""
_MATCHES = """
CREATE TEMPORARY TABLE manifest_match ON COMMIT DROP AS
WITH by_id AS MATERIALIZED (SELECT kind, value, value::bigint AS key FROM manifest_reference WHERE kind = 'id'),
by_work AS MATERIALIZED (SELECT kind, value, value::uuid AS key FROM manifest_reference WHERE kind = 'work'),
by_sha256 AS MATERIALIZED (
  SELECT kind, value, decode(value, 'hex') AS key FROM manifest_reference WHERE kind = 'sha256'),
by_fingerprint AS MATERIALIZED (
  SELECT kind, value, decode(value, 'hex') AS key FROM manifest_reference WHERE kind = 'fingerprint')
SELECT kind, value, w.id AS work_id FROM by_id r JOIN contributors_work w ON w.id = r.key
UNION ALL
SELECT kind, value, w.id FROM by_work r JOIN contributors_work w ON w.public_id = r.key
UNION ALL
SELECT kind, value, w.id FROM by_sha256 r JOIN contributors_work w ON w.sha256 = r.key
UNION ALL
SELECT kind, value, w.id FROM by_fingerprint r JOIN contributors_work w ON w.fingerprint = r.key
"""
_USES = f"""
CREATE TEMPORARY TABLE manifest_use ON COMMIT DROP AS
{USES_OVER.format(works="SELECT DISTINCT work_id AS id FROM manifest_match")}
"""
# Works of others with the same bytes that were registered earlier: their owners may have refused the use.
_EARLIER = """
  SELECT w.id AS copy_id, e.id FROM manifest_use u JOIN contributors_work w ON w.id = u.work_id
  JOIN contributors_dataset d ON d.id = w.dataset_id
  JOIN contributors_work e ON e.sha256 = w.sha256 AND e.id < w.id
  JOIN contributors_dataset o ON o.id = e.dataset_id AND o.contributor_id <> d.contributor_id
"""
_COPIES = f"""
CREATE TEMPORARY TABLE manifest_original ON COMMIT DROP AS
{USES_OVER.format(works=f"SELECT DISTINCT id FROM ({_EARLIER}) earlier")}
"""
_REFUSED_COPIES = f"""
SELECT min(l.kind || ':' || l.value), (array_agg(DISTINCT l.line ORDER BY l.line))[1:%(named)s],
       count(DISTINCT l.line), w.public_id::text, w.title, min(c.public_id::text)
FROM ({_EARLIER}) earlier JOIN manifest_original o ON o.work_id = earlier.id AND o.refused_by IS NOT NULL
JOIN contributors_consent c ON c.id = o.refused_by
JOIN contributors_work w ON w.id = earlier.copy_id
JOIN manifest_match m ON m.work_id = w.id JOIN manifest_line l ON l.kind = m.kind AND l.value = m.value
GROUP BY w.id ORDER BY 2
"""
_UNFOUND = """
SELECT r.kind, r.value, r.n_lines, coalesce(
  (SELECT array_agg(w.public_id::text ORDER BY w.id)
     FROM manifest_match m JOIN contributors_work w ON w.id = m.work_id WHERE (m.kind, m.value) = (r.kind, r.value)),
  '{}'),
  (SELECT (array_agg(l.line ORDER BY l.line))[1:%(named)s] FROM manifest_line l
    WHERE (l.kind, l.value) = (r.kind, r.value))
FROM manifest_reference r
JOIN (SELECT r.kind, r.value FROM manifest_reference r LEFT JOIN manifest_match m USING (kind, value)
      GROUP BY 1, 2 HAVING count(m.work_id) <> 1) wrong USING (kind, value)
ORDER BY 5, 2
"""
_REFUSED = """
WITH refused AS (SELECT * FROM manifest_use WHERE allowed_by IS NULL),
lines AS (
  SELECT m.work_id, min(l.kind || ':' || l.value) AS reference, count(*) AS n_lines,
         (array_agg(l.line ORDER BY l.line))[1:%(named)s] AS lines
  FROM manifest_match m JOIN manifest_line l USING (kind, value)
  WHERE m.work_id IN (SELECT work_id FROM refused) GROUP BY m.work_id
)
SELECT l.reference, l.lines, l.n_lines, w.public_id::text, w.title, c.public_id::text, r.refused_at
FROM refused r JOIN lines l USING (work_id) JOIN contributors_work w ON w.id = r.work_id
LEFT JOIN contributors_consent c ON c.id = r.refused_by
ORDER BY l.lines, w.id
"""
_MISFITS = """
SELECT min(l.kind || ':' || l.value), (array_agg(l.line ORDER BY l.line))[1:%(named)s], count(*),
       w.public_id::text, w.title, w.modality
FROM manifest_line l JOIN manifest_match m USING (kind, value) JOIN contributors_work w ON w.id = m.work_id
WHERE (w.modality <> 'text' AND l.token_start IS NOT NULL) OR (w.modality = 'text' AND l.part IS NOT NULL)
GROUP BY w.id ORDER BY 2
"""
_STORE_WORKS = """
INSERT INTO attribution_manifestwork (manifest_id, work_id, consent_id)
SELECT %s, work_id, allowed_by FROM manifest_use ORDER BY work_id
"""
_STORE_ITEMS = """
INSERT INTO attribution_trainingitem (manifest_id, ordinal, work_id, token_start, token_end, part)
SELECT %s, l.ordinal, m.work_id, l.token_start, l.token_end, l.part
FROM manifest_line l JOIN manifest_match m USING (kind, value) ORDER BY l.ordinal
"""
_TOLD = """
COPY (
  SELECT l.ordinal, w.public_id, encode(w.sha256, 'hex'),
         coalesce(l.token_start::text, CASE WHEN l.part IS NULL THEN 'whole' ELSE 'part' END),
         coalesce(l.token_end, l.part)
  FROM manifest_line l JOIN manifest_match m USING (kind, value) JOIN contributors_work w ON w.id = m.work_id
  ORDER BY l.ordinal
) TO STDOUT WITH (NULL '')
"""


def _check(version: ModelVersion, lines: Lines) -> Checked:
    """Stage the lines and find every reason against them. The temporary tables live as long as the transaction."""
    if not 1 <= lines.count <= ITEMS_MAX:
        raise UnableToRegisterManifest(f"A manifest holds 1 to {ITEMS_MAX:,} items, not {lines.count:,}.")
    since = version.training_started_at or version.trained_at
    span: dict[str, Any] = {"scope": version.purpose, "since": since, "until": version.trained_at}
    with connection.cursor() as cursor:
        cursor.execute(
            "DROP TABLE IF EXISTS pg_temp.manifest_line, pg_temp.manifest_reference, pg_temp.manifest_match, "
            "pg_temp.manifest_use, pg_temp.manifest_original"
        )
        cursor.execute(_STAGE)
        cursor.copy_expert(_COPY, lines.rewound())
        cursor.execute("ANALYZE manifest_line")
        cursor.execute(_REFERENCES)
        cursor.execute("ANALYZE manifest_reference")
        cursor.execute(_MATCHES)
        cursor.execute("ANALYZE manifest_match")
        cursor.execute(_USES, span)
        cursor.execute("ANALYZE manifest_use")
        cursor.execute("SELECT count(*) FROM manifest_use")
        (works,) = cursor.fetchone()
        named = {"named": LINES_NAMED_MAX}
        cursor.execute(_UNFOUND, named)
        refused = [_unfound(*row) for row in cursor.fetchall()]
        cursor.execute(_REFUSED, named)
        refused += [_without_consent(version, *row) for row in cursor.fetchall()]
        cursor.execute(_COPIES, span)
        cursor.execute(_REFUSED_COPIES, named)
        refused += [_refused_copy(version, *row) for row in cursor.fetchall()]
        cursor.execute(_MISFITS, named)
        refused += [_misfit(*row) for row in cursor.fetchall()]
    return Checked(lines.count, works, refused)


def _unfound(kind: str, value: str, n_lines: int, works: list[str], lines: list[int]) -> Refused:
    reference = f"{kind}:{value}"
    if works:
        detail = f"{kind} {_short(value)} fits {len(works)} works; name one of them by its id"
        return Refused(reference, lines, n_lines, "ambiguous", detail, candidates=works[:LINES_NAMED_MAX])
    told = f"no work {value}" if kind in {"id", "work"} else f"no work with the {kind} {_short(value)}"
    return Refused(reference, lines, n_lines, "unknown", f"there is {told} (line {lines[0]})")


def _without_consent(
    version: ModelVersion,
    reference: str,
    lines: list[int],
    n_lines: int,
    work: str,
    title: str,
    consent: str | None,
    refused_at: datetime,
) -> Refused:
    use = Consent.Scope(version.purpose).label.lower()
    day = dates.moment(refused_at)
    said = f"its owner refused {use}" if consent else f"no consent to {use} was in force"
    return Refused(
        reference, lines, n_lines, "refused" if consent else "no-consent", f"“{title}”: {said} on {day}", work, title,
        consent,
    )  # fmt: skip


def _refused_copy(
    version: ModelVersion, reference: str, lines: list[int], n_lines: int, work: str, title: str, consent: str
) -> Refused:
    use = Consent.Scope(version.purpose).label.lower()
    detail = f"“{title}” has the same bytes as an earlier work of another contributor, who refused {use}"
    return Refused(reference, lines, n_lines, "refused-copy", detail, work, title, consent)


def _misfit(reference: str, lines: list[int], n_lines: int, work: str, title: str, modality: str) -> Refused:
    takes = "a range of tokens" if modality == "text" else "a part"
    detail = f"“{title}” is {modality}: an item of it is {takes} or the whole (line {lines[0]})"
    return Refused(reference, lines, n_lines, "misfit", detail, work, title)


def _short(value: str) -> str:
    return value if len(value) <= 16 else f"{value[:16]}…"


def _digest() -> bytes:
    """sha256 over a line for each item by ordinal: ordinal, the work's public id, content digest, tokens or part."""
    told = _Hashed()
    with connection.cursor() as cursor:
        cursor.copy_expert(_TOLD, told)
    return told.digest.digest()


class _Hashed:
    """A file that only digests the written bytes."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, block: Any) -> int:
        self.digest.update(block)
        return len(block)
