"""Attribution of received generations, in batches, and each generation alone when something is wrong with it.

The rows are the queue. Several workers claim different ones (SKIP LOCKED) inside the transaction that also writes the
results. A worker that dies therefore leaves its rows received and nothing half done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import structlog
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import Max, OuterRef, QuerySet, Subquery

from attribution.models import Attribution, AttributionIndex, Generation, ModelVersion
from attribution.models import GeneralShares as StoredGeneralShares
from attribution.operations import faults
from attribution.operations.indexes import Opened, directory_of, open_built
from attribution.operations.measurements import (
    NOT_OF_AN_INPUT,
    Measured,
    Unattributable,
    general_of,
    let_the_model_take_its_time,
    measure,
)
from attribution.queries.generations import Group, general_key
from contributors.queries.links import counted_as_one
from influence import shares
from people.operations import webhooks

if TYPE_CHECKING:
    from influence.scorers import Attributor
    from influence.shapley import Groups

BATCH_MAX = 1_000
ERROR_CHARACTERS_MAX = 500
State = Generation.State

log = structlog.get_logger(__name__)


def attribute_batch(*, limit: int = 64, at: datetime) -> int:
    """Settle up to `limit` received generations of one model version; returns their number. 0: there is nothing to do.

    A generation of a model version without a serving index stays received until it has one, and until that one is
    evaluated (or two people let the base pool pay). The model version with the longest wait comes first. Any failure of
    a model's code, its files or its factory costs that model version only: it is counted, and set aside after some in
    succession (attribution/operations/faults.py). The first error is raised only when there is nothing else left to do.
    """
    assert 1 <= limit <= BATCH_MAX
    failures: list[Exception] = []
    for index in _indexes_with_work():
        with faults.attempt(index.model_version_id, at=at) as may:
            if not may:
                continue
            try:
                # Before the transaction: opening hashes every file of the index and loads the model.
                opened = open_built(index=index)
                settled = _attribute_claimed(index, opened, limit=limit, at=at)
            except (DatabaseError, InterfaceError):
                raise
            except Exception as error:
                log.error("generations wait: their model failed", index=str(index.public_id), error=repr(error))
                words = f"{type(error).__name__}: {error}"
                # A layer that cannot be traced will not be traceable a minute later.
                final = getattr(error, "problem", "") == "unable-to-trace"
                faults.record_failure(index.model_version_id, words, at=at, final=final)
                failures.append(error)
                continue
        if settled:
            return settled
    if settled := _give_up_retired(limit=limit, at=at):
        return settled
    if failures:
        raise failures[0]
    return 0


def _give_up_retired(*, limit: int, at: datetime) -> int:
    """Settle generations of versions that are set aside and retired since: nobody will mend them any more."""
    aside = AttributionIndex.objects.filter(
        serving=True,
        model_version__state=ModelVersion.State.RETIRED,
        model_version__fault__set_aside_at__isnull=False,
        model_version__generations__state=State.RECEIVED,
    )
    index = aside.select_related("model_version__fault").order_by("pk").first()
    if index is None:
        return 0
    words = f"{index.model_version.name} was retired while it was set aside: {index.model_version.fault.reason}"
    with transaction.atomic():
        waiting = Generation.objects.filter(model_version_id=index.model_version_id, state=State.RECEIVED)
        claimed = list(waiting.order_by("received_at").select_for_update(skip_locked=True, no_key=True)[:limit])
        found = [Unattributable(words)] * len(claimed)
        _store(index, claimed, found, nobody=lambda: _nobody_of_damaged(index, at), at=at)
    return len(claimed)


def _nobody_of_damaged(index: AttributionIndex, at: datetime) -> Measured:
    """General scores of an index with a model that fails; of one that cannot be opened, none."""
    from influence.scorers import open_attributor

    try:
        opened = open_attributor(directory_of(index), sha256=bytes(index.sha256 or b"").hex())
        return nobody_of(opened, counted_as_one(opened.holder_ids, at))
    except DatabaseError:
        raise
    except Exception as error:
        log.error("an index cannot be opened: its holders get no part", index=str(index.pk), error=repr(error))
        return NOBODY


def _indexes_with_work() -> QuerySet[AttributionIndex]:
    waiting = Generation.objects.filter(model_version=OuterRef("model_version"), state=State.RECEIVED)
    oldest = Subquery(waiting.order_by("received_at").values("received_at")[:1])
    indexes = AttributionIndex.objects.filter(AttributionIndex.SETTLES, serving=True).annotate(oldest=oldest)
    usable = indexes.exclude(model_version__fault__set_aside_at__isnull=False)
    return usable.filter(oldest__isnull=False).order_by("oldest", "pk")


def _attribute_claimed(index: AttributionIndex, opened: Opened, *, limit: int, at: datetime) -> int:
    with transaction.atomic():
        let_the_model_take_its_time()
        # The weight is that of now, and another index may have taken over since this one was opened.
        now = AttributionIndex.objects.filter(
            AttributionIndex.SETTLES, pk=index.pk, serving=True, sha256=index.sha256
        ).first()
        if now is None:
            return 0
        waiting = Generation.objects.filter(model_version_id=now.model_version_id, state=State.RECEIVED)
        claimed = list(waiting.order_by("received_at").select_for_update(skip_locked=True, no_key=True)[:limit])
        groups = groups_at(opened, at)
        try:
            found = measure(opened, claimed, groups=groups, items_paid=items_paid_of(now))
        except NOT_OF_AN_INPUT:
            raise
        except Exception:
            if not _still_works(now, opened, groups):
                raise
            found = measure(opened, claimed, groups=groups, items_paid=items_paid_of(now), model_works=True)
        _store(now, claimed, found, nobody=lambda: nobody_of(opened.index, groups), at=at)
        if claimed:
            # With the results: a worker that dies right after them leaves no failure that they disprove.
            faults.record_success(now.model_version_id)
    return len(claimed)


def _still_works(index: AttributionIndex, opened: Opened, groups: Groups) -> bool:
    """Whether the model can still measure the generation that it measured last: then the fault is that of others."""
    measured = Attribution.objects.filter(index=index, unattributable=False)
    last = measured.select_related("generation").order_by("-pk").first()
    if last is None:
        return False
    try:
        (again,) = measure(opened, [last.generation], groups=groups, items_paid=items_paid_of(index))
    except NOT_OF_AN_INPUT:
        raise
    except Exception:
        return False
    return isinstance(again, Measured)


def groups_at(opened: Opened, at: datetime) -> Groups:
    """Read the groups of one beneficial owner, once: a link decided meanwhile counts from the next batch on."""
    return counted_as_one(opened.index.holder_ids, at)


def _store(
    index: AttributionIndex,
    generations: Sequence[Generation],
    found: Sequence[Measured | Unattributable],
    *,
    nobody: Callable[[], Measured],
    at: datetime,
) -> None:
    rows: list[Attribution] = []
    refused: list[Generation] = []
    general = GeneralShares(index)
    taught: Measured | None = None
    for generation, result in zip(generations, found, strict=True):
        row = result if isinstance(result, Unattributable) else to_row(index, generation, result, general, at=at)
        if isinstance(row, Unattributable):
            generation.state, generation.error = State.UNATTRIBUTABLE, row.reason[:ERROR_CHARACTERS_MAX]
            refused.append(generation)
            taught = taught or nobody()
            row = to_base_pool(index, generation, taught, general, at=at)
        rows.append(row)
    Attribution.objects.bulk_create(rows)
    attributed = [row.generation_id for row in rows if not row.unattributable]
    Generation.objects.filter(pk__in=attributed).update(state=State.ATTRIBUTED)
    Generation.objects.bulk_update(refused, ["state", "error"])
    if refused:
        told = [{"generation": str(row.pk), "external_id": row.external_id, "reason": row.error} for row in refused]
        owner = f"service:{refused[0].service_id}"
        webhooks.emit(event="generations.unattributable", owners=[owner], data={"generations": told}, at=at)


def to_base_pool(
    index: AttributionIndex, generation: Generation, taught: Measured, general: GeneralShares, *, at: datetime
) -> Attribution:
    """The row of a generation that cannot be attributed: nobody has a share of it, and the base pool follows the
    index's general shares, as for every generation of the index."""
    row = to_row(index, generation, taught, general, at=at)
    if isinstance(row, Unattributable):
        row = to_row(index, generation, NOBODY, GeneralShares(index), at=at)
    assert isinstance(row, Attribution), "Nobody's shares can be stored."
    row.weight_ppb, row.unattributable, row.scored_tokens = 0, True, 0
    return row


NOBODY = Measured((), [], [], [], [], [], {}, prompt_tokens=0, scored_tokens=0)


def nobody_of(index: Attributor, groups: Groups) -> Measured:
    """The scores of a generation that the index cannot read: general ones alone."""
    taught = general_of(index, groups)
    nothing = [0.0] * len(taught.holder_ids)
    return replace(taught, specific=nothing, specific_se=nothing)


def items_paid_of(index: AttributionIndex) -> int:
    """K of the index under rule 2; 0 under rule 1."""
    return index.items_paid if index.rule == Attribution.Rule.ITEMS else 0


def to_row(
    index: AttributionIndex,
    generation: Generation,
    measured: Measured,
    general: GeneralShares,
    *,
    at: datetime,
    revision: int = 1,
) -> Attribution | Unattributable:
    if index.rule == Attribution.Rule.ITEMS:
        return _row_of_items(index, generation, measured, general, at=at, revision=revision)
    try:
        specific = shares.apportion_scores(
            holder_ids=measured.holder_ids,
            scores=measured.specific,
            standard_errors=measured.specific_se,
            noise_z=index.noise_z,
            key=str(generation.pk),
            groups=[group.specific for group in measured.groups],
        )
        taught = general.of(measured)
    except shares.UnableToShare as reason:
        return Unattributable(str(reason))
    return Attribution(
        generation=generation,
        revision=revision,
        index=index,
        index_revision=index.revision,
        weight_ppb=index.weight_ppb,
        noise_z=index.noise_z,
        holder_ids=list(measured.holder_ids),
        scores=measured.specific,
        se=measured.specific_se,
        shares_ppb=list(specific.ppb),
        unattributed_ppb=specific.unattributed_ppb,
        general_scores=measured.general,
        general_se=measured.general_se,
        general_ppb=list(taught.ppb),
        general_unattributed_ppb=taught.unattributed_ppb,
        groups=[group.to_json() for group in measured.groups],
        top_works=_evidence(measured, specific),
        prompt_tokens=measured.prompt_tokens,
        given_tokens=measured.given_tokens,
        read_tokens=measured.read_tokens,
        scored_tokens=measured.scored_tokens,
        seed=int(index.config.get("seed", 0)),
        created_at=at,
    )


def _row_of_items(
    index: AttributionIndex,
    generation: Generation,
    measured: Measured,
    general: GeneralShares,
    *,
    at: datetime,
    revision: int,
) -> Attribution | Unattributable:
    """Rule 2: the paid holders alone; the general shares stand once for all generations."""
    paid = measured.items
    try:
        specific = (
            shares.ItemShares((), (), (), shares.BILLION) if paid is None else paid.shares(key=str(generation.pk))
        )
        taught = general.stored(measured, at=at)
    except shares.UnableToShare as reason:
        return Unattributable(str(reason))
    return Attribution(
        generation=generation,
        revision=revision,
        rule=Attribution.Rule.ITEMS,
        index=index,
        index_revision=index.revision,
        weight_ppb=index.weight_ppb,
        noise_z=index.noise_z,
        holder_ids=list(specific.holder_ids),
        scores=[],
        se=[],
        shares_ppb=list(specific.ppb),
        unattributed_ppb=specific.unattributed_ppb,
        parts=list(specific.parts),
        pay=0.0 if paid is None else float(paid.pay.sum()),
        threshold=0.0 if paid is None else paid.threshold,
        items_paid=index.items_paid,
        items_counted=0 if paid is None else paid.counted,
        general=taught,
        general_scores=[],
        general_se=[],
        general_ppb=[],
        general_unattributed_ppb=taught.unattributed_ppb,
        top_works={
            # As many digits as a reader can use; these numbers are in every row.
            str(holder): [[work, float(f"{pay:.4g}")] for work, pay in works]
            for holder, works in measured.top_works.items()
        },
        prompt_tokens=measured.prompt_tokens,
        given_tokens=measured.given_tokens,
        read_tokens=measured.read_tokens,
        scored_tokens=measured.scored_tokens,
        seed=int(index.config.get("seed", 0)),
        created_at=at,
    )


class GeneralShares:
    """The general shares of an index: the same for each of its generations, so that they are made once a batch."""

    def __init__(self, index: AttributionIndex) -> None:
        self._index = index
        self._made: tuple[tuple[int, ...], list[float], list[shares.GroupScore], shares.Shares] | None = None
        self._stored: tuple[tuple[int, ...], list[float], list[Group], StoredGeneralShares] | None = None

    def of(self, measured: Measured) -> shares.Shares:
        groups = [group.general for group in measured.groups]
        if self._made is None or self._made[:3] != (measured.holder_ids, measured.general, groups):
            made = shares.apportion_scores(
                holder_ids=measured.holder_ids,
                scores=measured.general,
                standard_errors=measured.general_se,
                noise_z=self._index.noise_z,
                key=general_key(self._index),
                groups=groups,
            )
            self._made = (measured.holder_ids, measured.general, groups, made)
        return self._made[3]

    def stored(self, measured: Measured, *, at: datetime) -> StoredGeneralShares:
        """Return the row of these general shares, which another batch may have written."""
        if self._stored is not None and self._stored[:3] == (measured.holder_ids, measured.general, measured.groups):
            return self._stored[3]
        groups = [group.to_json() for group in measured.groups]
        # Scores as the database keeps them: float4.
        kept = [np.asarray(scores, dtype=np.float32) for scores in (measured.general, measured.general_se)]
        ids = np.asarray(measured.holder_ids, dtype=np.int64)
        told = json.dumps([groups, self._index.noise_z]).encode()
        digest = hashlib.sha256(b"".join([ids.tobytes(), *(scores.tobytes() for scores in kept), told])).digest()
        rows = StoredGeneralShares.objects.filter(index=self._index, index_revision=self._index.revision, sha256=digest)
        row = rows.first()
        if row is None:
            made = self.of(measured)
            new = StoredGeneralShares(
                index=self._index,
                index_revision=self._index.revision,
                sha256=digest,
                noise_z=self._index.noise_z,
                holder_ids=list(measured.holder_ids),
                scores=measured.general,
                se=measured.general_se,
                ppb=list(made.ppb),
                unattributed_ppb=made.unattributed_ppb,
                groups=groups,
                created_at=at,
            )
            # Another worker may be writing the same row.
            StoredGeneralShares.objects.bulk_create([new], ignore_conflicts=True)
            row = rows.get()
        self._stored = (measured.holder_ids, measured.general, measured.groups, row)
        return row


def _evidence(measured: Measured, specific: shares.Shares) -> dict[str, list[list[float]]]:
    """Look up the works behind the shares; a holder without a share has no evidence."""
    earners = {holder for holder, part in zip(specific.holder_ids, specific.ppb, strict=True) if part}
    return {
        str(holder): [[work, round(score, 9)] for work, score in works]
        for holder, works in measured.top_works.items()
        if holder in earners
    }


# --- again ----------------------------------------------------------------------------------------------------------
class UnableToAttribute(Exception):
    """No index serves the generation's model version, or the generation cannot be attributed."""

    status = 409
    problem = "unable-to-attribute"


def attribute_again(*, generation: Generation, at: datetime) -> Attribution:
    """Attribute a settled generation by the index that serves now, as a new revision. Older revisions stay.

    Raises UnableToAttribute without a serving index, before the first attribution, or for an unreadable generation.
    """
    index = AttributionIndex.objects.filter(model_version_id=generation.model_version_id, serving=True).first()
    if index is None:
        raise UnableToAttribute("No index serves this generation's model version.")
    opened = open_built(index=index)
    with transaction.atomic():
        let_the_model_take_its_time()
        row = Generation.objects.select_for_update(no_key=True).get(pk=generation.pk)
        if row.state == State.RECEIVED:
            raise UnableToAttribute("The generation waits for its first attribution.")
        (found,) = measure(opened, [row], groups=groups_at(opened, at), items_paid=items_paid_of(index))
        if isinstance(found, Unattributable):
            raise UnableToAttribute(found.reason)
        last = Attribution.objects.filter(generation=row).aggregate(last=Max("revision"))["last"] or 0
        made = to_row(index, row, found, GeneralShares(index), at=at, revision=last + 1)
        if isinstance(made, Unattributable):
            raise UnableToAttribute(made.reason)
        made.save(force_insert=True)
        if row.state == State.UNATTRIBUTABLE:
            row.state, row.error = State.ATTRIBUTED, ""
            row.save(update_fields=["state", "error"])
    return made
