"""Consent: dated statements, only ever added to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction

from contributors.models import Consent, Contributor, Dataset, Work
from people.models import User
from people.operations import webhooks


class UnableToRecordConsent(Exception):
    status = 422
    problem = "consent-refused"


def grant_consent(
    *,
    contributor: Contributor,
    scope: str,
    valid_from: datetime,
    by: User | None,
    source: str,
    at: datetime,
    value: str = Consent.Value.ALLOW,
    dataset: Dataset | None = None,
    work: Work | None = None,
    valid_to: datetime | None = None,
) -> Consent:
    """Record one statement about all works of a contributor, one dataset or one work."""
    return grant_consents(
        contributor=contributor,
        scopes=[scope],
        value=value,
        dataset=dataset,
        work=work,
        valid_from=valid_from,
        valid_to=valid_to,
        by=by,
        source=source,
        at=at,
    )[0]


@transaction.atomic
def grant_consents(
    *,
    contributor: Contributor,
    scopes: Sequence[str],
    valid_from: datetime,
    by: User | None,
    source: str,
    at: datetime,
    value: str = Consent.Value.ALLOW,
    dataset: Dataset | None = None,
    work: Work | None = None,
    valid_to: datetime | None = None,
) -> list[Consent]:
    """Record the same statement for several scopes. A permission may be dated back to when it was given on paper.

    Raises UnableToRecordConsent for an unknown use, value or target, and for dates that do not fit.
    """
    if not scopes:
        raise UnableToRecordConsent("Choose at least one use.")
    if unknown := sorted(set(scopes) - set(Consent.Scope.values)):
        raise UnableToRecordConsent(
            f"There is no use “{', '.join(unknown)}”; there are {', '.join(Consent.Scope.values)}."
        )
    if value not in Consent.Value.values:
        raise UnableToRecordConsent(f"A statement says allow or deny, not “{value}”.")
    if dataset is not None and work is not None:
        raise UnableToRecordConsent("A statement speaks of a dataset or of a work, not of both.")
    target = dataset if work is None else work.dataset
    if target is not None and target.contributor_id != contributor.pk:
        raise UnableToRecordConsent(f"“{work or dataset}” does not belong to {contributor}.")
    if valid_to is not None and valid_to <= valid_from:
        raise UnableToRecordConsent("The statement must end after it begins.")
    if value == Consent.Value.DENY and valid_from < at:
        raise UnableToRecordConsent("A refusal cannot be dated back: uses until now were allowed.")
    if value == Consent.Value.ALLOW and valid_from < at:
        _refuse_after_refusal(contributor, scopes, dataset, work, valid_from)
    if not source.strip() or len(source) > 40:
        raise UnableToRecordConsent("Say in 1 to 40 characters where the statement comes from.")
    with connection.cursor() as cursor:
        # Statements are numbered in the order of their commits: so a reader can go on from the last number.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('contributors consents'))")
    statements = []
    for scope in dict.fromkeys(scopes):
        statement = Consent(
            contributor=contributor,
            dataset=dataset,
            work=work,
            scope=scope,
            value=value,
            valid_from=valid_from,
            valid_to=valid_to,
            recorded_at=at,
            recorded_by=by,
            source=source.strip(),
        )
        statement.evidence_sha256 = _evidence(statement)
        statement.save(force_insert=True)
        statements.append(statement)
    webhooks.emit(
        event="consent.changed",
        owners=[webhooks.EVERY_SERVICE, f"contributor:{contributor.pk}"],
        data={
            "contributor": str(contributor.public_id),
            "dataset": dataset and str(dataset.public_id),
            "work": work and str(work.public_id),
            "uses": [statement.scope for statement in statements],
            "value": value,
            "valid_from": valid_from.isoformat(),
            "valid_to": valid_to and valid_to.isoformat(),
        },
        at=at,
    )
    return statements


def _refuse_after_refusal(
    contributor: Contributor, scopes: Sequence[str], dataset: Dataset | None, work: Work | None, valid_from: datetime
) -> None:
    """A refusal on a past day stands for that day: no permission is dated back over it."""
    for scope in scopes:
        said = contributor.consents.filter(scope=scope, dataset=dataset, work=work, valid_from__lte=valid_from)
        standing = said.order_by("-valid_from", "-pk").first()
        if standing is None or standing.value != Consent.Value.DENY:
            continue
        if standing.valid_to is None or standing.valid_to > valid_from:
            raise UnableToRecordConsent(
                f"“{Consent.Scope(scope).label}” was refused since {standing.valid_from:%Y-%m-%d %H:%M} UTC; a "
                "permission after a refusal begins now or later."
            )


def withdraw_consent(
    *,
    contributor: Contributor,
    scope: str,
    valid_from: datetime,
    by: User | None,
    at: datetime,
    dataset: Dataset | None = None,
    work: Work | None = None,
    source: str = "portal",
) -> Consent:
    """Refuse one scope from `valid_from` on, until something else is said."""
    return withdraw_consents(
        contributor=contributor,
        scopes=[scope],
        dataset=dataset,
        work=work,
        valid_from=valid_from,
        by=by,
        at=at,
        source=source,
    )[0]


@transaction.atomic
def withdraw_consents(
    *,
    contributor: Contributor,
    scopes: Sequence[str],
    valid_from: datetime,
    by: User | None,
    at: datetime,
    dataset: Dataset | None = None,
    work: Work | None = None,
    source: str = "portal",
) -> list[Consent]:
    """Refuse several scopes from `valid_from` on. Refuses a scope that is refused already, so that no history says it
    twice. Raises UnableToRecordConsent for it.
    """
    Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    for scope in scopes:
        standing = (
            contributor.consents.filter(scope=scope, dataset=dataset, work=work, valid_from__lte=valid_from)
            .order_by("-valid_from", "-pk")
            .first()
        )
        if standing and standing.value == Consent.Value.DENY and standing.valid_to is None:
            label = Consent.Scope(scope).label
            raise UnableToRecordConsent(f"“{label}” is already refused since {standing.valid_from:%Y-%m-%d %H:%M} UTC.")
    return grant_consents(
        contributor=contributor,
        scopes=scopes,
        value=Consent.Value.DENY,
        dataset=dataset,
        work=work,
        valid_from=valid_from,
        by=by,
        source=source,
        at=at,
    )


def _evidence(statement: Consent) -> bytes:
    """SHA-256 of the statement's canonical JSON (sorted keys, no spaces): the terms of the agreement, without the
    person at the keyboard.
    """
    said = {
        "contributor": str(statement.contributor.public_id),
        "dataset": str(statement.dataset.public_id) if statement.dataset else None,
        "work": str(statement.work.public_id) if statement.work else None,
        "scope": statement.scope,
        "value": statement.value,
        "valid_from": statement.valid_from.isoformat(),
        "valid_to": statement.valid_to.isoformat() if statement.valid_to else None,
        "recorded_at": statement.recorded_at.isoformat(),
        "source": statement.source,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).digest()
