"""Disputes of receipts, for the contributor that raised them and for the staff that answer."""

from __future__ import annotations

import uuid

from django.db.models import QuerySet

from ledger.models import ReceiptDispute

DISPUTES_SHOWN_MAX = 200


def disputes_of(contributor_id: int, generation_id: uuid.UUID | None = None) -> QuerySet[ReceiptDispute]:
    """A contributor's disputes, the newest first; of one generation where it is named."""
    found = ReceiptDispute.objects.filter(contributor_id=contributor_id)
    return (found if generation_id is None else found.filter(generation_id=generation_id)).order_by("-pk")


def disputes(state: str = "") -> QuerySet[ReceiptDispute]:
    """Every dispute of the programme, the oldest open one first."""
    found = ReceiptDispute.objects.select_related("contributor", "generation__model_version", "answered_by")
    return found.filter(state=state).order_by("pk") if state else found.order_by("-pk")
