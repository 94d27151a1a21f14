"""The decision that the base pool pays the generations of an index that is not evaluated."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from attribution.models import AttributionIndex, ModelVersion


class UnableToPayByBasePool(Exception):
    """The index does not serve, is evaluated already, or was decided on before."""

    status = 409
    problem = "unable-to-pay-by-base-pool"


def pay_by_base_pool(*, index: AttributionIndex, at: datetime) -> AttributionIndex:
    """Let the generations of an index go on without an evaluation: by the base pool alone, until there is one.

    Raises UnableToPayByBasePool. Two people decide it; this is the act that follows.
    """
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=index.model_version_id)
        row = AttributionIndex.objects.select_related("model_version").get(pk=index.pk)
        if refusal := why_not(row):
            raise UnableToPayByBasePool(refusal)
        row.base_pool_at = at
        row.save(update_fields=["base_pool_at"])
    return row


def why_not(index: AttributionIndex) -> str:
    """Say why there is nothing to decide about this index; "" where its generations wait for its evaluation."""
    if not index.serving:
        return "The index does not serve: no generation waits for it."
    if index.is_evaluated:
        return "The index is evaluated: its generations are attributed by the result."
    if index.base_pool_at is not None:
        return "The base pool pays the generations of this index already."
    return ""
