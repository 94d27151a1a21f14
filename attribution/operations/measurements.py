"""Scores of an index for generations: of holders, of groups, and of the works behind them. Nothing is stored.

A generation that cannot be measured gives its reason, in words for the service that reported it. It costs the others of
its batch nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError, InterfaceError, connection

from attribution.models import Generation
from attribution.operations.indexes import Opened
from attribution.operations.tokens import difference
from attribution.queries.generations import Group
from contributors.queries.contents import OUTPUTS, DamagedContent, read
from people.presentation import dates

if TYPE_CHECKING:
    from influence.adapters import Example, Tokeniser
    from influence.paid_items import PaidItems
    from influence.scorers import Attributor
    from influence.shapley import Groups

EVIDENCE_HOLDERS = 20
EVIDENCE_WORKS = 5
# Longer than a task may take: the end of a worker ends its session with it, and this limit ends only stuck sessions.
MEASURE_SECONDS_MAX = 900
# Any other error of a model's code may be the fault of one input. These are the machine's or the whole model's.
NOT_OF_AN_INPUT = (DatabaseError, InterfaceError, MemoryError, SoftTimeLimitExceeded)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """The model's scores for one generation, before anything is stored. Floats as the index gave them."""

    holder_ids: tuple[int, ...]
    specific: list[float]
    specific_se: list[float]
    general: list[float]
    general_se: list[float]
    groups: list[Group]
    top_works: dict[int, list[tuple[int, float]]]
    prompt_tokens: int
    scored_tokens: int
    # Of how many tokens the model read how many: the last ones.
    given_tokens: int = 0
    read_tokens: int = 0
    # Under rule 2, where `specific` and `specific_se` are empty: holders are paid for their items.
    items: PaidItems | None = None


@dataclass(frozen=True, slots=True)
class Unattributable:
    """Reason why a generation cannot be attributed, in words for the service that reported it."""

    reason: str


def let_the_model_take_its_time() -> None:
    """Keep the database from ending the open transaction while a model computes, in which the session seems idle."""
    assert connection.in_atomic_block
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = %s", [f"{MEASURE_SECONDS_MAX}s"])


def measure(
    opened: Opened,
    generations: Sequence[Generation],
    *,
    groups: Groups,
    items_paid: int = 0,
    model_works: bool = False,
) -> list[Measured | Unattributable]:
    """Scores for each generation, in order. One that cannot be measured says why and costs the others nothing.

    `items_paid` is K of rule 2; 0 scores holders, as rule 1 does.

    Where the model's code fails for all of them, its error is raised: that is no reason to give any of them up. With
    `model_works` the model has just measured another generation, so that the fault is these generations'.
    """
    found: dict[int, Measured | Unattributable] = {}
    examples: dict[int, Example] = {}
    given: dict[int, int] = {}
    failed: dict[int, Exception] = {}
    for place, generation in enumerate(generations):
        try:
            example = _example(opened, generation)
        except NOT_OF_AN_INPUT:
            raise
        except Exception as error:
            # The tokeniser is the model's own code, and the text anybody's.
            failed[place] = error
            continue
        if isinstance(example, Unattributable):
            found[place] = example
        else:
            examples[place], given[place] = _fitted(opened, example), len(example.tokens)
    found.update(_measure_examples(opened, examples, groups, items_paid, failed))
    for place, result in found.items():
        if isinstance(result, Measured):
            found[place] = replace(result, given_tokens=given[place], read_tokens=len(examples[place].tokens))
    if failed and not model_works and not any(isinstance(result, Measured) for result in found.values()):
        raise next(iter(failed.values()))
    for place, failure in failed.items():
        log.error("a generation could not be measured", error=repr(failure))
        found[place] = Unattributable(f"The model cannot read it: {type(failure).__name__}: {failure}")
    return [found[place] for place in range(len(generations))]


def _example(opened: Opened, generation: Generation) -> Example | Unattributable:
    from influence.scorers import UnableToEmbed

    if generation.texts_deleted_at is not None:
        return Unattributable(
            f"Its text was deleted on {dates.day(generation.texts_deleted_at)}, after the period of its service."
        )
    if opened.model.adapter.name == "pushed":
        return _pushed_example(opened, generation)
    if generation.modality != Generation.Modality.TEXT and opened.model.reader is not None:
        return _media_example(opened, generation)
    tokeniser = opened.model.tokeniser
    # Only the service knows the meaning of a black box's token ids: its outputs are compared by their text.
    token_ids = None if opened.model.adapter.name == "encoder" else generation.token_ids or None
    if not generation.output_text and not token_ids:
        return Unattributable("The output is empty.")
    try:
        example = tokeniser.generation(generation.prompt_text, generation.output_text, token_ids)
        if token_ids is not None and generation.output_text and (refusal := _contradiction(tokeniser, generation)):
            return Unattributable(refusal)
        if generation.prompt_token_ids and opened.model.adapter.name != "encoder":
            # As the model read it: a chat's template and special symbols are in the tokens and not in the text.
            before = tuple(generation.prompt_token_ids)
            tokens = (*before, *example.tokens[example.prompt_tokens :])
            example = replace(example, tokens=tokens, prompt_tokens=len(before))
        opened.index.check(_fitted(opened, example))
    except UnableToEmbed as reason:
        return Unattributable(str(reason))
    except (ValueError, IndexError, KeyError, TypeError) as error:
        return Unattributable(f"The model's tokeniser cannot read it: {type(error).__name__}.")
    return example


def _media_example(opened: Opened, generation: Generation) -> Example | Unattributable:
    from influence.adapters import Media
    from influence.scorers import UnableToEmbed

    assert opened.model.reader is not None
    parts = []
    for part in generation.media.order_by("position"):
        if not part.is_kept:
            return Unattributable("The service reported the digest of its output alone, and no bytes to measure.")
        try:
            content = read(OUTPUTS, bytes(part.sha256), called=f"part {part.position} of the output")
        except DamagedContent as damage:
            log.error("a stored output is damaged", generation=str(generation.pk), error=str(damage))
            return Unattributable(str(damage))
        parts.append(Media(part.media_type, content))
    try:
        example = opened.model.reader.generation(generation.prompt_text, parts)
        opened.index.check(example)
    except UnableToEmbed as reason:
        return Unattributable(str(reason))
    return example


def _contradiction(tokeniser: Tokeniser, generation: Generation) -> str:
    """Say where the reported tokens are those of another text; "" where they agree, or nobody can tell."""
    ids = generation.token_ids or []
    try:
        decoded = tokeniser.decode(ids)
    except (ValueError, IndexError, KeyError, TypeError):
        return "The model's tokeniser does not know all of output.token_ids."
    return difference(generation.output_text, decoded)


def _fitted(opened: Opened, example: Example) -> Example:
    """The part of a long text that the model reads. Wording is compared whole: no model reads it."""
    fitted = getattr(opened.model.adapter, "fitted", None)
    if fitted is None or opened.index.config.attributor not in {"midpoint", "hybrid"}:
        return example
    cut: Example = fitted(example)
    return cut


def _pushed_example(opened: Opened, generation: Generation) -> Example | Unattributable:
    from influence.adapters import Example
    from influence.scorers import UnableToEmbed

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
    opened: Opened, examples: dict[int, Example], groups: Groups, items_paid: int, failed: dict[int, Exception]
) -> dict[int, Measured | Unattributable]:
    """Measure them together, and each alone where that fails; `failed` takes the errors of the model's code."""
    from influence.scorers import UnableToEmbed

    if not examples:
        return {}
    try:
        return dict(_measure_together(opened, examples, groups, items_paid))
    except NOT_OF_AN_INPUT:
        raise
    except Exception as error:
        if len(examples) == 1 and not isinstance(error, UnableToEmbed):
            failed[next(iter(examples))] = error
            return {}
        log.warning("a batch could not be measured as one", error=repr(error))
    alone: dict[int, Measured | Unattributable] = {}
    for place, example in examples.items():
        try:
            alone.update(_measure_together(opened, {place: example}, groups, items_paid))
        except UnableToEmbed as reason:
            alone[place] = Unattributable(str(reason))
        except NOT_OF_AN_INPUT:
            raise
        except Exception as error:
            failed[place] = error
    return alone


def _measure_together(
    opened: Opened, examples: dict[int, Example], groups: Groups, items_paid: int
) -> dict[int, Measured | Unattributable]:
    index = opened.index
    features = index.embed(list(examples.values()))
    if items_paid:
        return _judge_items(index, features, examples, groups, items_paid)
    scores = index.score(features, groups=groups)
    # The columns of groups come after those of holders.
    alone = len(index.holder_ids)
    leaders = [_leaders(index.holder_ids, row[:alone]) for row in scores.specific]
    works = index.top_works(features, leaders, EVIDENCE_WORKS)
    general, general_se = scores.general.tolist(), scores.general_se.tolist()
    found: dict[int, Measured | Unattributable] = {}
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
            scored_tokens=_scored_tokens(example),
        )
    return found


def _scored_tokens(example: Example) -> int:
    """Count the scored tokens. An example that is not text counts as one."""
    return max(len(example.tokens) - max(example.prompt_tokens, 1), 1)


def _judge_items(
    index: Attributor, features: Any, examples: dict[int, Example], groups: Groups, items_paid: int
) -> dict[int, Measured | Unattributable]:
    """Measure by rule 2: every item of the index is judged for each generation, and general scores are made once."""
    from influence.paid_items import paid_items
    from influence.shares import UnableToShare

    taught = general_of(index, groups)
    try:
        paid = paid_items(index, features, k=items_paid)
    except UnableToShare as reason:
        if len(examples) > 1:
            # Each alone: the others are measured.
            raise
        return {place: Unattributable(str(reason)) for place in examples}
    return {
        place: replace(
            taught,
            items=of_row,
            top_works=works_of(of_row),
            prompt_tokens=example.prompt_tokens,
            scored_tokens=_scored_tokens(example),
        )
        for of_row, (place, example) in zip(paid, examples.items(), strict=True)
    }


def general_of(index: Attributor, groups: Groups) -> Measured:
    """Measure the average generation: general scores of holders and of groups, and nothing that is specific."""
    scores, holders = index.general_scores(groups=groups), len(index.holder_ids)
    general, general_se = scores.general.tolist(), scores.general_se.tolist()
    of_groups = zip(groups, general[holders:], general_se[holders:], strict=True)
    return Measured(
        holder_ids=scores.holder_ids,
        specific=[],
        specific_se=[],
        general=general[:holders],
        general_se=general_se[:holders],
        groups=[Group(tuple(group), 0.0, 0.0, *of_group) for group, *of_group in of_groups],
        top_works={},
        prompt_tokens=0,
        scored_tokens=0,
    )


def works_of(paid: PaidItems) -> dict[int, list[tuple[int, float]]]:
    """Name the works behind the pay of the leading holders, each with the pay of its items, the largest first."""
    pay, times = paid.pay, np.bincount(paid.rows, minlength=len(paid.works))
    works: dict[int, dict[int, float]] = {}
    for row, holder in zip(paid.rows.tolist(), paid.holders.tolist(), strict=True):
        if part := float(pay[row] / times[row]):
            of_holder = works.setdefault(holder, {})
            of_holder[int(paid.works[row])] = of_holder.get(int(paid.works[row]), 0.0) + part
    leaders = sorted(works, key=lambda holder: (-sum(works[holder].values()), holder))[:EVIDENCE_HOLDERS]
    return {
        holder: sorted(works[holder].items(), key=lambda work: (-work[1], work[0]))[:EVIDENCE_WORKS]
        for holder in leaders
    }


def _leaders(holder_ids: Sequence[int], scores: Any) -> list[int]:
    """Find the holders with the largest positive scores, best first, to look up their works as evidence."""
    order = scores.argsort()[::-1][:EVIDENCE_HOLDERS]
    return [holder_ids[place] for place in order if scores[place] > 0]
