"""Reads of consent: statements in force, the matrix of permissions, the history. Bounded by a contributor or by ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import QuerySet

from contributors.models import (
    Consent,
    Contributor,
    Dataset,
    Work,
)

_CONSENTS_IN_FORCE = """
WITH said AS (
    SELECT w.id AS for_work, 2 AS narrowness, c.id, c.value, c.valid_from, c.valid_to
    FROM contributors_work w JOIN contributors_consent c ON c.work_id = w.id
    WHERE w.id = ANY(%(works)s) AND c.scope = %(scope)s AND c.valid_from <= %(at)s
    UNION ALL
    SELECT w.id, 1, c.id, c.value, c.valid_from, c.valid_to
    FROM contributors_work w JOIN contributors_consent c ON c.dataset_id = w.dataset_id
    WHERE w.id = ANY(%(works)s) AND c.scope = %(scope)s AND c.valid_from <= %(at)s
    UNION ALL
    SELECT w.id, 0, c.id, c.value, c.valid_from, c.valid_to
    FROM contributors_work w JOIN contributors_dataset d ON d.id = w.dataset_id
    JOIN contributors_consent c ON c.contributor_id = d.contributor_id AND c.dataset_id IS NULL AND c.work_id IS NULL
    WHERE w.id = ANY(%(works)s) AND c.scope = %(scope)s AND c.valid_from <= %(at)s
), last_said AS (
    SELECT DISTINCT ON (for_work, narrowness) * FROM said ORDER BY for_work, narrowness, valid_from DESC, id DESC
), in_force AS (
    SELECT * FROM last_said WHERE valid_to IS NULL OR valid_to > %(at)s
), allowed AS (
    SELECT DISTINCT ON (for_work) for_work, id FROM in_force
    WHERE for_work NOT IN (SELECT for_work FROM in_force WHERE value = 'deny')
    ORDER BY for_work, narrowness DESC
)
SELECT c.*, allowed.for_work FROM allowed JOIN contributors_consent c ON c.id = allowed.id
"""

# The use of works over a span of time: `allowed_by` is the narrowest permission at its end, where the use was allowed
# at every moment of the span. Else `refused_at` is the first moment at which it was not, and `refused_by` the first
# refusal, if somebody refused. {works} selects the ids of the works as `id`; scope, since and until are parameters.
USES_OVER = """
WITH wanted AS (
    SELECT w.id, w.dataset_id, d.contributor_id FROM ({works}) asked
    JOIN contributors_work w ON w.id = asked.id JOIN contributors_dataset d ON d.id = w.dataset_id
), said AS (
    SELECT w.id AS work_id, 2 AS narrowness, c.id, c.value, c.valid_from, c.valid_to
    FROM wanted w JOIN contributors_consent c ON c.work_id = w.id
    WHERE c.scope = %(scope)s AND c.valid_from <= %(until)s
    UNION ALL
    SELECT w.id, 1, c.id, c.value, c.valid_from, c.valid_to
    FROM wanted w JOIN contributors_consent c ON c.dataset_id = w.dataset_id
    WHERE c.scope = %(scope)s AND c.valid_from <= %(until)s
    UNION ALL
    SELECT w.id, 0, c.id, c.value, c.valid_from, c.valid_to
    FROM wanted w JOIN contributors_consent c
      ON c.contributor_id = w.contributor_id AND c.dataset_id IS NULL AND c.work_id IS NULL
    WHERE c.scope = %(scope)s AND c.valid_from <= %(until)s
), moments AS (
    SELECT id AS work_id, %(since)s::timestamptz AS at FROM wanted
    UNION
    SELECT work_id, valid_from FROM said WHERE valid_from > %(since)s
    UNION
    SELECT work_id, valid_to FROM said WHERE valid_to > %(since)s AND valid_to <= %(until)s
), last_said AS (
    SELECT DISTINCT ON (m.work_id, m.at, s.narrowness) m.work_id, m.at, s.narrowness, s.id, s.value, s.valid_to
    FROM moments m JOIN said s ON s.work_id = m.work_id AND s.valid_from <= m.at
    ORDER BY m.work_id, m.at, s.narrowness, s.valid_from DESC, s.id DESC
), judged AS (
    SELECT m.work_id, m.at, min(s.id) FILTER (WHERE s.value = 'deny') AS refused_by,
           (array_agg(s.id ORDER BY s.narrowness DESC) FILTER (WHERE s.value = 'allow'))[1] AS allowed_by
    FROM moments m LEFT JOIN last_said s
      ON s.work_id = m.work_id AND s.at = m.at AND (s.valid_to IS NULL OR s.valid_to > m.at)
    GROUP BY m.work_id, m.at
)
SELECT work_id,
       CASE WHEN bool_and(refused_by IS NULL AND allowed_by IS NOT NULL)
            THEN (array_agg(allowed_by ORDER BY at DESC))[1] END AS allowed_by,
       (array_agg(refused_by ORDER BY at) FILTER (WHERE refused_by IS NOT NULL))[1] AS refused_by,
       min(at) FILTER (WHERE refused_by IS NOT NULL OR allowed_by IS NULL) AS refused_at
FROM judged GROUP BY work_id
"""


def consents_in_force(*, work_ids: Sequence[int], scope: str, at: datetime) -> dict[int, Consent]:
    """For each work that may be used, the narrowest statement that allows it; a work that may not is left out.

    Of each target (all works, the dataset, the work itself) the statement that begins last holds until it ends; any
    refusal in force wins, and where nothing is in force the answer is no. One query, however many works.
    """
    assert scope in Consent.Scope.values, scope
    if not work_ids:
        return {}
    rows = Consent.objects.raw(_CONSENTS_IN_FORCE, {"works": list(work_ids), "scope": scope, "at": at})
    return {row.for_work: row for row in rows}  # type: ignore[attr-defined]


def consent_in_force(*, work: Work, scope: str, at: datetime) -> Consent | None:
    """The statement that allows this use of the work at this moment; None where it is not allowed."""
    return consents_in_force(work_ids=[work.pk], scope=scope, at=at).get(work.pk)


@dataclass(frozen=True, slots=True)
class ScopeState:
    """The statements about one target and one scope at a moment. `next` is one that has not begun yet.

    `general` is the statement in force about all works, for a dataset. A refusal in it wins; its permission counts
    where the dataset has no statement.
    """

    scope: str
    label: str
    current: Consent | None
    next: Consent | None
    general: Consent | None = None

    @property
    def is_overruled(self) -> bool:
        """Whether all works are refused, so that the dataset's own permission or silence does not count."""
        refused = self.general is not None and self.general.value == Consent.Value.DENY
        return refused and not (self.current is not None and self.current.value == Consent.Value.DENY)


@dataclass(frozen=True, slots=True)
class ConsentRow:
    """A line of the matrix: one target (a dataset, or None for all works) and its scopes, in the order of Scope."""

    dataset: Dataset | None
    states: list[ScopeState]


def consent_matrix(contributor: Contributor, at: datetime) -> list[ConsentRow]:
    """The statements about all works and about each dataset. Statements about single works are on the work's page."""
    statements = contributor.consents.filter(work__isnull=True).order_by("valid_from", "pk")
    by_target: dict[tuple[int | None, str], list[Consent]] = {}
    for statement in statements:
        by_target.setdefault((statement.dataset_id, statement.scope), []).append(statement)
    general = [_state(scope, by_target.get((None, scope.value), []), at) for scope in Consent.Scope]
    return [ConsentRow(dataset=None, states=general)] + [
        ConsentRow(
            dataset=dataset,
            states=[
                replace(_state(scope, by_target.get((dataset.pk, scope.value), []), at), general=whole.current)
                for scope, whole in zip(Consent.Scope, general, strict=True)
            ],
        )
        for dataset in contributor.datasets.order_by("name")
    ]


def work_consents(work: Work, at: datetime) -> list[tuple[str, Consent | None]]:
    """For each scope its label and the statement that allows it for this work, or None."""
    return [(scope.label, consent_in_force(work=work, scope=scope.value, at=at)) for scope in Consent.Scope]


def _state(scope: Consent.Scope, statements: Sequence[Consent], at: datetime) -> ScopeState:
    begun = [statement for statement in statements if statement.valid_from <= at]
    coming = [statement for statement in statements if statement.valid_from > at]
    current = begun[-1] if begun and (begun[-1].valid_to is None or begun[-1].valid_to > at) else None
    return ScopeState(scope.value, str(scope.label), current, coming[0] if coming else None)


def permissions_to_come(
    contributor: Contributor,
    *,
    scopes: Sequence[str],
    after: datetime,
    dataset: Dataset | None = None,
    work: Work | None = None,
) -> list[Consent]:
    """Permissions for exactly this target that begin after a moment, in the order in which they do: the ones on record
    already that end a refusal from that moment on.
    """
    rows = contributor.consents.filter(scope__in=scopes, dataset=dataset, work=work, valid_from__gt=after)
    # Of several that begin at one moment the last recorded counts.
    last = {(row.scope, row.valid_from): row for row in rows.order_by("valid_from", "pk")}
    return [row for row in last.values() if row.value == Consent.Value.ALLOW]


def consent_history(contributor: Contributor) -> QuerySet[Consent]:
    """Every statement, the last recorded first."""
    return contributor.consents.select_related("dataset", "work", "recorded_by").order_by("-recorded_at", "-pk")
