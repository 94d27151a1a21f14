"""Attribution again, many generations at a time: a later index scores generations that another index attributed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Max

from attribution.models import Attribution, AttributionIndex, Generation
from attribution.operations.attributions import GeneralShares, UnableToAttribute, groups_at, items_paid_of, to_row
from attribution.operations.indexes import open_built
from attribution.operations.measurements import Unattributable, let_the_model_take_its_time, measure


def attribute_batch_again(*, index: AttributionIndex, generation_ids: Sequence[UUID], at: datetime) -> int:
    """A new revision by `index` for each settled generation of its model version; returns how many have one.

    A generation that the index cannot read, or that is no longer settled, keeps the revision that stands. In one
    transaction. Raises UnableToAttribute where the index does not serve any more.
    """
    with transaction.atomic():
        # Opening the index takes its time as well, and a restatement calls this in a transaction of its own.
        let_the_model_take_its_time()
        opened = open_built(index=index)
        if not AttributionIndex.objects.filter(pk=index.pk, serving=True).exists():
            raise UnableToAttribute(f"{index} does not serve any more.")
        rows = list(
            Generation.objects.filter(
                pk__in=generation_ids, model_version_id=index.model_version_id, state=Generation.State.ATTRIBUTED
            )
            .order_by("pk")
            .select_for_update(no_key=True)
        )
        last = dict(
            Attribution.objects.filter(generation__in=rows)
            .values_list("generation_id")
            .annotate(last=Max("revision"))
            .order_by()
        )
        general = GeneralShares(index)
        measured = measure(opened, rows, groups=groups_at(opened, at), items_paid=items_paid_of(index))
        found = zip(rows, measured, strict=True)
        made = [
            to_row(index, row, result, general, at=at, revision=last[row.pk] + 1)
            for row, result in found
            if not isinstance(result, Unattributable)
        ]
        stored = Attribution.objects.bulk_create(row for row in made if not isinstance(row, Unattributable))
    return len(stored)
