"""From received generations to stored attributions, in batches, each generation alone when something is wrong with it.

The rows are the queue: several workers claim different ones (SKIP LOCKED) inside the transaction that also writes the
results, so that a worker which dies leaves its rows received and nothing half done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
from django.db import transaction
from django.db.models import Max, OuterRef, QuerySet, Subquery

from attribution import shares
from attribution.artefacts import UnableToOpenIndex
from attribution.models import Attribution, AttributionIndex, Generation, IndexRevision
from attribution.operations.indexes import Opened, UnableToLoadModel, open_built
from attribution.queries import Group, groups_of
from attribution.queries import general_key as general_key
from contributors.queries import counted_as_one

if TYPE_CHECKING:
    from attribution.adapters import Example
    from attribution.shapley import Groups

BATCH_MAX = 1_000
EVIDENCE_HOLDERS = 20
EVIDENCE_WORKS = 5
ERROR_CHARACTERS_MAX = 500
State = Generation.State
# What a model's own code raises for an input it cannot take; torch raises RuntimeError. A worker that is told to stop,
# or runs out of memory, raises something else, and the batch stays received.
MODEL_ERRORS = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the model says about one generation, before anything is stored. Floats as the index gave them."""

    holder_ids: tuple[int, ...]
    specific: list[float]
    specific_se: list[float]
    general: list[float]
    general_se: list[float]
    groups: list[Group]
    top_works: dict[int, list[tuple[int, float]]]
    prompt_tokens: int
    scored_tokens: int


@dataclass(frozen=True, slots=True)
class Unattributable:
    """Why a generation cannot be attributed, in words for whoever reported it."""

    reason: str


def attribute_batch(*, limit: int = 64, at: datetime) -> int:
    """Settle up to `limit` received generations of one model version; how many were. 0: there is nothing to do.

    A generation whose model version has no serving index stays received until it has one. Model versions take their
    turn by who has waited longest. One that cannot be worked on (a damaged index, a factory that is gone) holds up no
    other, and is raised only when there is nothing else left to do.
    """
    assert 1 <= limit <= BATCH_MAX
    failures: list[Exception] = []
    for index in _indexes_with_work():
        try:
            # Before the transaction: opening hashes every file of the index and loads the model.
            opened = open_built(index=index)
            settled = _attribute_claimed(index, opened, limit=limit, at=at)
        except (UnableToLoadModel, UnableToOpenIndex, OSError, ImportError, *MODEL_ERRORS) as error:
            log.error("generations wait: their index cannot be used", index=str(index.public_id), error=repr(error))
            failures.append(error)
            continue
        if settled:
            return settled
    if failures:
        raise failures[0]
    return 0


def _indexes_with_work() -> QuerySet[AttributionIndex]:
    waiting = Generation.objects.filter(model_version=OuterRef("model_version"), state=State.RECEIVED)
    oldest = Subquery(waiting.order_by("received_at").values("received_at")[:1])
    indexes = AttributionIndex.objects.filter(serving=True).annotate(oldest=oldest)
    return indexes.filter(oldest__isnull=False).order_by("oldest", "pk")


def _attribute_claimed(index: AttributionIndex, opened: Opened, *, limit: int, at: datetime) -> int:
    with transaction.atomic():
        # The weight is that of now, and another index may have taken over since this one was opened.
        now = AttributionIndex.objects.filter(pk=index.pk, serving=True, sha256=index.sha256).first()
        if now is None:
            return 0
        waiting = Generation.objects.filter(model_version_id=now.model_version_id, state=State.RECEIVED)
        claimed = list(waiting.order_by("received_at").select_for_update(skip_locked=True, no_key=True)[:limit])
        _store(now, claimed, _measure(opened, claimed, groups=_groups(opened, at)), at=at)
    return len(claimed)


def _groups(opened: Opened, at: datetime) -> Groups:
    """Who counts as one, read once: a link that is decided meanwhile counts from the next batch on."""
    return counted_as_one(opened.index.holder_ids, at)


def _store(
    index: AttributionIndex,
    generations: Sequence[Generation],
    found: Sequence[Measured | Unattributable],
    *,
    at: datetime,
) -> None:
    rows: list[Attribution] = []
    refused: list[Generation] = []
    general = _GeneralShares(index)
    for generation, result in zip(generations, found, strict=True):
        row = result if isinstance(result, Unattributable) else _row(index, generation, result, general, at=at)
        if isinstance(row, Unattributable):
            generation.state, generation.error = State.UNATTRIBUTABLE, row.reason[:ERROR_CHARACTERS_MAX]
            refused.append(generation)
        else:
            rows.append(row)
    Attribution.objects.bulk_create(rows)
    Generation.objects.filter(pk__in=[row.generation_id for row in rows]).update(state=State.ATTRIBUTED)
    Generation.objects.bulk_update(refused, ["state", "error"])


def _row(
    index: AttributionIndex,
    generation: Generation,
    measured: Measured,
    general: _GeneralShares,
    *,
    at: datetime,
    revision: int = 1,
) -> Attribution | Unattributable:
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
        scored_tokens=measured.scored_tokens,
        seed=int(index.config.get("seed", 0)),
        created_at=at,
    )


class _GeneralShares:
    """The general shares of an index: the same for each of its generations, so that they are made once a batch."""

    def __init__(self, index: AttributionIndex) -> None:
        self._index = index
        self._made: tuple[tuple[int, ...], list[float], list[shares.GroupScore], shares.Shares] | None = None

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


def _evidence(measured: Measured, specific: shares.Shares) -> dict[str, list[list[float]]]:
    """The works behind the shares; of a holder who earned nothing there is nothing to show."""
    earners = {holder for holder, part in zip(specific.holder_ids, specific.ppb, strict=True) if part}
    return {
        str(holder): [[work, round(score, 9)] for work, score in works]
        for holder, works in measured.top_works.items()
        if holder in earners
    }


# --- measuring ------------------------------------------------------------------------------------------------------
def _measure(opened: Opened, generations: Sequence[Generation], *, groups: Groups) -> list[Measured | Unattributable]:
    """Scores for each generation, in order. One that cannot be measured says why and costs the others nothing."""
    found: dict[int, Measured | Unattributable] = {}
    examples: dict[int, Example] = {}
    for place, generation in enumerate(generations):
        example = _example(opened, generation)
        if isinstance(example, Unattributable):
            found[place] = example
        else:
            examples[place] = example
    found.update(_measure_examples(opened, examples, groups))
    return [found[place] for place in range(len(generations))]


def _example(opened: Opened, generation: Generation) -> Example | Unattributable:
    from attribution.attributors import UnableToEmbed

    if opened.model.adapter.name == "pushed":
        return _pushed_example(opened, generation)
    tokeniser = opened.model.tokeniser
    if not generation.output_text and not generation.token_ids:
        return Unattributable("The output is empty.")
    try:
        example = tokeniser.generation(generation.prompt_text, generation.output_text, generation.token_ids or None)
        opened.index.check(example)
    except UnableToEmbed as reason:
        return Unattributable(str(reason))
    except (ValueError, IndexError, KeyError, TypeError) as error:
        # The tokeniser is the model's own code, and the text anybody's.
        return Unattributable(f"The model's tokeniser cannot read it: {type(error).__name__}.")
    return example


def _pushed_example(opened: Opened, generation: Generation) -> Example | Unattributable:
    from attribution.adapters import Example
    from attribution.attributors import UnableToEmbed

    if generation.features is None:
        return Unattributable("The service computes the features of this model's outputs, and reported none.")
    if generation.features_index_id != opened.index_id:
        return Unattributable("Its features were computed for another index than the one that serves now.")
    example = Example(tuple(generation.token_ids or ()), data=bytes(generation.features))
    try:
        opened.index.check(example)
    except UnableToEmbed as reason:
        return Unattributable(str(reason))
    return example


def _measure_examples(
    opened: Opened, examples: dict[int, Example], groups: Groups
) -> dict[int, Measured | Unattributable]:
    from attribution.attributors import UnableToEmbed

    if not examples:
        return {}
    try:
        return dict(_measure_together(opened, examples, groups))
    except (UnableToEmbed, *MODEL_ERRORS) as error:
        if len(examples) == 1 and not isinstance(error, UnableToEmbed):
            raise
        log.warning("a batch could not be measured as one", error=repr(error))
    alone: dict[int, Measured | Unattributable] = {}
    failed: dict[int, Exception] = {}
    for place, example in examples.items():
        try:
            alone.update(_measure_together(opened, {place: example}, groups))
        except UnableToEmbed as reason:
            alone[place] = Unattributable(str(reason))
        except MODEL_ERRORS as error:
            failed[place] = error
    if failed and not any(isinstance(result, Measured) for result in alone.values()):
        # Not one of them works: that is the model's or the machine's fault, and no reason to give any of them up.
        raise next(iter(failed.values()))
    for place, failure in failed.items():
        log.error("a generation could not be measured", error=repr(failure))
        alone[place] = Unattributable(f"The model cannot read it: {type(failure).__name__}: {failure}")
    return alone


def _measure_together(opened: Opened, examples: dict[int, Example], groups: Groups) -> dict[int, Measured]:
    index = opened.index
    features = index.embed(list(examples.values()))
    scores = index.score(features, groups=groups)
    # The columns of groups come after those of holders.
    alone = len(index.holder_ids)
    leaders = [_leaders(index.holder_ids, row[:alone]) for row in scores.specific]
    works = index.top_works(features, leaders, EVIDENCE_WORKS)
    general, general_se = scores.general.tolist(), scores.general_se.tolist()
    found = {}
    for row, (place, example) in enumerate(examples.items()):
        specific, specific_se = scores.specific[row].tolist(), scores.specific_se[row].tolist()
        of_groups = zip(*(part[alone:] for part in (specific, specific_se, general, general_se)), strict=True)
        found[place] = Measured(
            holder_ids=scores.holder_ids,
            specific=specific[:alone],
            specific_se=specific_se[:alone],
            general=general[:alone],
            general_se=general_se[:alone],
            groups=[Group(tuple(group), *parts) for group, parts in zip(groups, of_groups, strict=True)],
            top_works={holder: [(work.work_id, work.score) for work in works[row][holder]] for holder in leaders[row]},
            prompt_tokens=example.prompt_tokens,
            # What is no text is scored as one.
            scored_tokens=max(len(example.tokens) - max(example.prompt_tokens, 1), 1),
        )
    return found


def _leaders(holder_ids: Sequence[int], scores: Any) -> list[int]:
    """The holders with the largest positive scores, best first: those whose works are looked up as evidence."""
    order = scores.argsort()[::-1][:EVIDENCE_HOLDERS]
    return [holder_ids[place] for place in order if scores[place] > 0]


# --- again ----------------------------------------------------------------------------------------------------------
class UnableToAttribute(Exception):
    """No index serves the generation's model version, or the generation cannot be attributed."""

    status = 409
    problem = "unable-to-attribute"


def attribute_again(*, generation: Generation, at: datetime) -> Attribution:
    """Attribute a settled generation by the index that serves now, as a new revision. Older revisions stay."""
    index = AttributionIndex.objects.filter(model_version_id=generation.model_version_id, serving=True).first()
    if index is None:
        raise UnableToAttribute("No index serves this generation's model version.")
    opened = open_built(index=index)
    with transaction.atomic():
        row = Generation.objects.select_for_update(no_key=True).get(pk=generation.pk)
        if row.state == State.RECEIVED:
            raise UnableToAttribute("The generation waits for its first attribution.")
        (found,) = _measure(opened, [row], groups=_groups(opened, at))
        if isinstance(found, Unattributable):
            raise UnableToAttribute(found.reason)
        last = Attribution.objects.filter(generation=row).aggregate(last=Max("revision"))["last"] or 0
        made = _row(index, row, found, _GeneralShares(index), at=at, revision=last + 1)
        if isinstance(made, Unattributable):
            raise UnableToAttribute(made.reason)
        made.save(force_insert=True)
        if row.state == State.UNATTRIBUTABLE:
            row.state, row.error = State.ATTRIBUTED, ""
            row.save(update_fields=["state", "error"])
    return made


@dataclass(frozen=True, slots=True)
class Recomputed:
    """Whether the stored scores still give the stored shares; `score_error_max` when they were measured anew."""

    specific_agrees: bool
    general_agrees: bool
    score_error_max: float | None = None

    @property
    def agrees(self) -> bool:
        return self.specific_agrees and self.general_agrees


def recompute(*, attribution: Attribution, from_gradients: bool = False) -> Recomputed:
    """Do the arithmetic of a stored attribution again. Integers only, unless the scores themselves are asked for.

    `from_gradients` loads model and index, measures the generation anew and reports the largest difference between a
    stored score and the new one, relative to the largest score.
    """
    groups = groups_of(attribution)
    specific = shares.recompute(
        holder_ids=attribution.holder_ids,
        scores=attribution.scores,
        standard_errors=attribution.se,
        noise_z=attribution.noise_z,
        key=str(attribution.generation_id),
        stored=shares.Shares(
            tuple(attribution.holder_ids), tuple(attribution.shares_ppb), attribution.unattributed_ppb
        ),
        groups=[group.specific for group in groups],
    )
    general = shares.recompute(
        holder_ids=attribution.holder_ids,
        scores=attribution.general_scores,
        standard_errors=attribution.general_se,
        noise_z=attribution.noise_z,
        key=general_key(attribution.index),
        stored=shares.Shares(
            tuple(attribution.holder_ids), tuple(attribution.general_ppb), attribution.general_unattributed_ppb
        ),
        groups=[group.general for group in groups],
    )
    return Recomputed(specific, general, _score_error(attribution) if from_gradients else None)


def _score_error(attribution: Attribution) -> float:
    groups = [group.holder_ids for group in groups_of(attribution)]
    (found,) = _measure(_opened_as_it_was(attribution), [attribution.generation], groups=groups)
    if isinstance(found, Unattributable):
        raise UnableToAttribute(found.reason)
    if found.holder_ids != tuple(attribution.holder_ids):
        raise UnableToAttribute("The index has other holders than when the generation was attributed.")
    of_groups = [(new.score, stored.score) for new, stored in zip(found.groups, groups_of(attribution), strict=True)]
    pairs = [*zip(found.specific, attribution.scores, strict=True), *of_groups]
    largest = max((abs(stored) for _, stored in pairs), default=0.0) or 1.0
    return max((abs(new - stored) for new, stored in pairs), default=0.0) / largest


def _opened_as_it_was(attribution: Attribution) -> Opened:
    """The revision of the index that made the attribution: works may have left it or come back since."""
    index = attribution.index
    then = IndexRevision.objects.filter(index=index, revision=attribution.index_revision).first()
    return open_built(index=index, sha256=None if then is None else bytes(then.sha256))
