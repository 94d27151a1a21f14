"""Mandates: recorded with their evidence, revoked; works, datasets and consents that are registered under one."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import datetime

from django.db import transaction

from attribution.models import Mandate, ModelService
from contributors.models import Consent, Contributor, Dataset, Work
from contributors.operations.consents import UnableToRecordConsent, grant_consents
from contributors.operations.works import NewWork, register_dataset, register_works
from people.actor import logged
from people.models import User

CONTRIBUTORS_MAX = 10_000
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class UnableToRecordMandate(Exception):
    """The organisation, its evidence, its contributors or its uses are not those of a mandate."""

    status = 422
    problem = "unable-to-record-mandate"


class UnableToActUnderMandate(Exception):
    """There is no such mandate of this service, it does not hold now, or it does not cover the act."""

    status = 403
    problem = "outside-mandate"

    def __init__(self, detail: str, *, field: str) -> None:
        super().__init__(detail)
        self.members = {"field": field}


@logged("mandate", "organisation", "uses", "evidence", "service.name", key="public_id")
def record_mandate(
    *,
    service: ModelService,
    organisation: str,
    contributors: Sequence[Contributor],
    uses: Collection[str],
    evidence: str,
    evidence_sha256: str,
    valid_from: datetime,
    at: datetime,
    valid_to: datetime | None = None,
    by: User | None = None,
) -> Mandate:
    """Record that an organisation may act for these contributors. `uses` are the uses to which it may consent.

    Raises UnableToRecordMandate.
    """
    organisation, evidence = organisation.strip(), evidence.strip()
    if not 1 <= len(organisation) <= 200 or not organisation.isprintable():
        raise UnableToRecordMandate("Name the organisation in 1 to 200 printable characters.")
    if not 1 <= len(evidence) <= 300 or not evidence.isprintable():
        raise UnableToRecordMandate("Say in 1 to 300 characters where the signed mandate lies.")
    if not _SHA256.fullmatch(evidence_sha256):
        raise UnableToRecordMandate("The evidence's sha256 has 64 hexadecimal digits in small letters.")
    if unknown := sorted(set(uses) - set(Consent.Scope.values)):
        raise UnableToRecordMandate(f"There is no use {unknown[0]!r}; there is {', '.join(Consent.Scope.values)}.")
    if not 1 <= len(contributors) <= CONTRIBUTORS_MAX:
        raise UnableToRecordMandate(f"A mandate names 1 to {CONTRIBUTORS_MAX:,} contributors, not {len(contributors)}.")
    if valid_to is not None and valid_to <= valid_from:
        raise UnableToRecordMandate("The mandate must end after it begins.")
    with transaction.atomic():
        mandate = Mandate.objects.create(
            service=service,
            organisation=organisation,
            uses=sorted(set(uses)),
            evidence=evidence,
            evidence_sha256=bytes.fromhex(evidence_sha256),
            valid_from=valid_from,
            valid_to=valid_to,
            recorded_by=by,
            created_at=at,
        )
        mandate.contributors.set(contributors)
    return mandate


class UnableToRevokeMandate(Exception):
    """The mandate was revoked before."""

    status = 409
    problem = "unable-to-revoke-mandate"


@logged("mandate", "organisation", "revoked_at", key="public_id")
def revoke_mandate(*, mandate: Mandate, at: datetime, by: User | None = None) -> Mandate:
    """End a mandate now. Works and consents that were registered under it stay. Raises UnableToRevokeMandate."""
    if not Mandate.objects.filter(pk=mandate.pk, revoked_at__isnull=True).update(revoked_at=at):
        raise UnableToRevokeMandate("The mandate was revoked before.")
    mandate.revoked_at = at
    return mandate


def find_mandate(*, service: ModelService, public_id: str, at: datetime) -> Mandate:
    """Find a mandate of the service that holds now. Raises UnableToActUnderMandate."""
    mandate = Mandate.objects.filter(service=service, public_id=public_id).first()
    if mandate is None:
        raise UnableToActUnderMandate(f"{service.name} has no mandate {public_id}.", field="mandate")
    if mandate.revoked_at is not None and mandate.revoked_at <= at:
        raise UnableToActUnderMandate(
            f"The {mandate} was revoked on {mandate.revoked_at.isoformat()}.", field="mandate"
        )
    if mandate.valid_from > at or (mandate.valid_to is not None and mandate.valid_to <= at):
        ends = f" to {mandate.valid_to.isoformat()}" if mandate.valid_to else ""
        raise UnableToActUnderMandate(
            f"The {mandate} holds from {mandate.valid_from.isoformat()}{ends}, and not now.", field="mandate"
        )
    return mandate


def register_dataset_under(
    *,
    mandate: Mandate,
    contributor_id: str,
    name: str,
    description: str,
    licence: str,
    uses: Collection[str],
    at: datetime,
) -> Dataset:
    """Open a dataset of a contributor of the mandate, with consent to `uses`, which the mandate must name.

    Raises UnableToActUnderMandate for another contributor or use.
    """
    contributor = mandate.contributors.filter(public_id=contributor_id).first()
    if contributor is None:
        raise UnableToActUnderMandate(f"The {mandate} names no contributor {contributor_id}.", field="contributor")
    if outside := sorted(set(uses) - set(mandate.uses)):
        named = ", ".join(mandate.uses) or "none"
        words = f"The {mandate} allows no consent to {outside[0]}; it allows {named}."
        raise UnableToActUnderMandate(words, field="uses")
    with transaction.atomic():
        dataset = register_dataset(contributor=contributor, name=name, description=description, licence=licence, at=at)
        if uses:
            try:
                grant_consents(
                    contributor=contributor,
                    scopes=sorted(set(uses)),
                    dataset=dataset,
                    valid_from=at,
                    valid_to=mandate.valid_to,
                    by=mandate.recorded_by,
                    source=f"mandate {mandate.public_id.hex[:24]}",
                    at=at,
                )
            except UnableToRecordConsent as reason:
                raise UnableToActUnderMandate(str(reason), field="uses") from reason
    return dataset


def register_works_under(*, mandate: Mandate, dataset_id: str, works: Sequence[NewWork], at: datetime) -> list[Work]:
    """Register works in a dataset of a contributor of the mandate, all or none.

    Raises UnableToActUnderMandate for another dataset, and works.UnableToRegisterWorks.
    """
    dataset = (
        Dataset.objects.filter(public_id=dataset_id, contributor__in=mandate.contributors.all())
        .select_related("contributor")
        .first()
    )
    if dataset is None:
        raise UnableToActUnderMandate(
            f"The {mandate} covers no dataset {dataset_id}: it is of none of its contributors.", field="dataset"
        )
    return register_works(dataset=dataset, works=works, at=at)
