"""The arithmetic of a stored attribution, done again: from its stored scores, or from the gradients themselves."""

from __future__ import annotations

from dataclasses import dataclass

from attribution.models import Attribution, GeneralShares, IndexRevision
from attribution.operations.attributions import UnableToAttribute
from attribution.operations.indexes import Opened, open_built
from attribution.operations.measurements import Unattributable, measure
from attribution.queries.generations import general_key, groups_of
from influence import shares, verify


@dataclass(frozen=True, slots=True)
class Recomputed:
    """Agreement of stored scores with the stored shares; `score_error_max` when the scores were measured anew."""

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
    if attribution.general is not None:
        specific_agrees, general_agrees = _items_agree(attribution), _general_agrees(attribution.general)
    else:
        specific_agrees, general_agrees = _sums_agree(attribution)
    return Recomputed(specific_agrees, general_agrees, _score_error(attribution) if from_gradients else None)


def _items_agree(attribution: Attribution) -> bool:
    """Rule 2, by the verifier that anybody can run: it shares no code with the worker."""
    if not attribution.parts:
        return not attribution.holder_ids and attribution.unattributed_ppb == shares.BILLION
    again = verify.shares(attribution.parts, attribution.holder_ids, str(attribution.generation_id))
    return again == list(attribution.shares_ppb) and attribution.unattributed_ppb == 0


def _general_agrees(general: GeneralShares) -> bool:
    return shares.recompute(
        holder_ids=general.holder_ids,
        scores=general.scores,
        standard_errors=general.se,
        noise_z=general.noise_z,
        key=general_key(general.index),
        stored=shares.Shares(tuple(general.holder_ids), tuple(general.ppb), general.unattributed_ppb),
        groups=[group.general for group in groups_of(general)],
    )


def _sums_agree(attribution: Attribution) -> tuple[bool, bool]:
    """Rule 1: whether the specific and the general shares follow from the stored scores."""
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
    return specific, general


def _score_error(attribution: Attribution) -> float:
    groups = [group.holder_ids for group in groups_of(attribution.general or attribution)]
    opened = _opened_as_it_was(attribution)
    (found,) = measure(opened, [attribution.generation], groups=groups, items_paid=attribution.items_paid)
    if isinstance(found, Unattributable):
        raise UnableToAttribute(found.reason)
    if found.items is not None:
        return _parts_error(attribution, found.items.shares(key=str(attribution.generation_id)))
    if found.holder_ids != tuple(attribution.holder_ids):
        raise UnableToAttribute("The index has other holders than when the generation was attributed.")
    of_groups = [(new.score, stored.score) for new, stored in zip(found.groups, groups_of(attribution), strict=True)]
    pairs = [*zip(found.specific, attribution.scores, strict=True), *of_groups]
    largest = max((abs(stored) for _, stored in pairs), default=0.0) or 1.0
    return max((abs(new - stored) for new, stored in pairs), default=0.0) / largest


def _parts_error(attribution: Attribution, again: shares.ItemShares) -> float:
    """The largest difference between a stored part of the grid and a new one, relative to the largest stored part."""
    stored = dict(zip(attribution.holder_ids, attribution.parts, strict=True))
    new = dict(zip(again.holder_ids, again.parts, strict=True))
    largest = max(stored.values(), default=0) or 1
    return max((abs(new.get(h, 0) - stored.get(h, 0)) for h in stored.keys() | new.keys()), default=0) / largest


def _opened_as_it_was(attribution: Attribution) -> Opened:
    """The revision of the index that made the attribution: works may have left it or come back since."""
    index = attribution.index
    then = IndexRevision.objects.filter(index=index, revision=attribution.index_revision).first()
    return open_built(index=index, sha256=None if then is None else bytes(then.sha256))
