"""Contents of works that services fetch: allowed by a consent in force, and recorded."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from attribution.models import ModelService, WorkDelivery
from contributors.models import Consent, Work
from contributors.queries.consents import consent_in_force
from contributors.queries.contents import DamagedContent
from contributors.queries.works import content


class UnableToDeliver(Exception):
    """The work may not be used for this purpose now, or its content is damaged."""

    status = 403
    problem = "no-consent"


def deliver_content(*, service: ModelService, work: Work, purpose: str, key_prefix: str, at: datetime) -> bytes:
    """Return the content of a work for a purpose that its owner allows now, and record the delivery.

    Raises UnableToDeliver.
    """
    consent = consent_in_force(work=work, scope=purpose, at=at)
    if consent is None:
        label = Consent.Scope(purpose).label.lower()
        raise UnableToDeliver(f"No consent to {label} is in force for “{work.title}”.")
    try:
        found = content(work)
    except DamagedContent as damage:
        raise UnableToDeliver(str(damage)) from damage
    with transaction.atomic():
        WorkDelivery.objects.create(service=service, work=work, consent=consent, key_prefix=key_prefix, at=at)
    return found
