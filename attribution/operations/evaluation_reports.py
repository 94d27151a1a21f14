"""Evaluations made where a model runs: the service's utilities are the evidence, the figures are computed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attribution.models import AttributionIndex, IndexRevision
from attribution.operations.evaluations import AUDITABLE, COALITIONS
from attribution.operations.factories import UnableToLoadModel
from attribution.operations.indexes import Opened, UnableToAuditIndex, open_built, record_audit
from attribution.operations.manifest_items import ManifestItems
from contributors.models import Holder
from influence.features import read_features
from influence.index.artefacts import UnableToOpenIndex

if TYPE_CHECKING:
    from influence.adapters import Example

CLAIMS = ("lds", "lower", "upper", "weight")
PARTS = ("own_generations", "held_out")
FIELDS = frozenset({"index_sha256", "coalitions", "queries", "utilities", "recipe", *CLAIMS})
RECIPE_CHARACTERS_MAX = 2_000


class UnableToAcceptEvaluation(Exception):
    """The report is of another index, is not well formed, or claims figures that its utilities do not give."""

    status = 422
    problem = "unable-to-accept-evaluation"

    def __init__(self, detail: str, *, field: str = "", **members: Any) -> None:
        super().__init__(detail)
        self.members = {**({"field": field} if field else {}), **members}


@dataclass(frozen=True, slots=True)
class Coalitions:
    """The halves of the holders for the retrained models, and the items of each holder by their ordinals."""

    index_sha256: str
    seed: int
    holders: dict[str, list[tuple[int, int]]]
    """Public id of a holder -> ranges of ordinals, from the first to before the second."""
    coalitions: list[list[str]]


def coalitions_of(*, index: AttributionIndex, count: int = COALITIONS) -> Coalitions:
    """Name the coalitions that an evaluation of this index retrains; they follow from the index alone.

    Raises UnableToAcceptEvaluation for an index that is not built, or more coalitions than its holders have halves.
    """
    from influence.evaluation.lds import UnableToAudit, choose_coalitions

    opened = _opened(index)
    seed = int(opened.index.config.seed)
    try:
        chosen = choose_coalitions(opened.index.holder_ids, count=count, seed=seed)
    except UnableToAudit as reason:
        raise UnableToAcceptEvaluation(str(reason), field="count") from reason
    named = {holder.pk: str(holder.public_id) for holder in Holder.objects.filter(pk__in=opened.index.holder_ids)}
    items = ManifestItems(index.model_version, opened.model, works=opened.index.works())
    ranges: dict[str, list[tuple[int, int]]] = {name: [] for name in named.values()}
    for ordinal, holder in zip(items.ordinals().tolist(), items.labels()[0].tolist(), strict=True):
        of_holder = ranges[named[holder]]
        if of_holder and of_holder[-1][1] == ordinal:
            of_holder[-1] = (of_holder[-1][0], ordinal + 1)
        else:
            of_holder.append((ordinal, ordinal + 1))
    return Coalitions(
        index_sha256=opened.index.sha256,
        seed=seed,
        holders=ranges,
        coalitions=[[named[holder] for holder in coalition] for coalition in chosen],
    )


def report_evaluation(*, index: AttributionIndex, report: Mapping[str, Any], at: datetime) -> AttributionIndex:
    """Compute the evaluation of an index from a service's utilities, keep both, and act on the result.

    Raises UnableToAcceptEvaluation, with the field. indexes.record_audit describes the consequences.
    """
    from influence.evaluation import reported
    from influence.evaluation.lds import UnableToAudit

    _check_fields(report)
    if index.attributor not in {AttributionIndex.Attributor.PUSHED, AttributionIndex.Attributor.ENCODER}:
        raise UnableToAcceptEvaluation(
            "This model runs here, and so does its evaluation: send {} in place of a report.", field="report"
        )
    _check_digest(index, report["index_sha256"])
    opened = _opened(index)
    queries = {part: _queries(opened, part, report["queries"].get(part, [])) for part in PARTS}
    labels = ManifestItems(index.model_version, opened.model, works=opened.index.works()).labels()
    try:
        found = reported.judge(
            opened.index,
            items_of=Counter(labels[0].tolist()),
            queries=queries,
            utilities=report["utilities"],
            coalitions=_count(report),
            seed=int(opened.index.config.seed),
            rule=index.rule,
        )
    except UnableToAudit as reason:
        raise UnableToAcceptEvaluation(str(reason), field="utilities") from reason
    claimed = {name: float(report[name]) for name in CLAIMS if report.get(name) is not None}
    if wrong := reported.disagreements(found, claimed):
        raise UnableToAcceptEvaluation(
            f"The figures do not follow from the utilities: {'; '.join(wrong)}.", field="lds"
        )
    evidence = {"utilities": report["utilities"], "recipe": report.get("recipe", "")}
    try:
        return record_audit(index=index, report={**found, "made": "service", "evidence": evidence}, at=at)
    except UnableToAuditIndex as reason:
        raise UnableToAcceptEvaluation(str(reason)) from reason


def _opened(index: AttributionIndex) -> Opened:
    if index.state not in AUDITABLE:
        raise UnableToAcceptEvaluation("Only an index that is built and not retired can be evaluated.")
    try:
        return open_built(index=index)
    except (UnableToLoadModel, UnableToOpenIndex) as reason:
        raise UnableToAcceptEvaluation(f"The index cannot be opened: {reason}") from reason


def _check_digest(index: AttributionIndex, told: Any) -> None:
    revisions = IndexRevision.objects.filter(index=index).values_list("sha256", flat=True)
    known = {bytes(index.sha256 or b"").hex(), *(bytes(sha256).hex() for sha256 in revisions)}
    if told not in known:
        raise UnableToAcceptEvaluation(
            f"The report is about another index: this one has the digest {bytes(index.sha256 or b'').hex()}.",
            field="index_sha256",
        )


def _check_fields(report: Mapping[str, Any]) -> None:
    if not isinstance(report, Mapping):
        raise UnableToAcceptEvaluation("The report must be an object.", field="report")
    if strangers := sorted(report.keys() - FIELDS):
        raise UnableToAcceptEvaluation(
            f"Nobody reads {strangers[0]}; a report has {', '.join(sorted(FIELDS))}.", field=str(strangers[0])
        )
    for name in ("index_sha256", "coalitions", "queries", "utilities"):
        if name not in report:
            raise UnableToAcceptEvaluation(f"{name} is missing.", field=name)
    for name in ("queries", "utilities"):
        if not isinstance(report[name], Mapping) or not set(report[name]) <= set(PARTS):
            raise UnableToAcceptEvaluation(f"{name} must be an object with {' and '.join(PARTS)}.", field=name)
    recipe = report.get("recipe", "")
    if not isinstance(recipe, str) or len(recipe) > RECIPE_CHARACTERS_MAX:
        raise UnableToAcceptEvaluation(f"recipe is a text of up to {RECIPE_CHARACTERS_MAX} characters.", field="recipe")
    for name in CLAIMS:
        value = report.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UnableToAcceptEvaluation(f"{name} must be a number.", field=name)


def _count(report: Mapping[str, Any]) -> int:
    count = report["coalitions"]
    if not isinstance(count, int) or isinstance(count, bool):
        raise UnableToAcceptEvaluation("coalitions is the number of retrained models.", field="coalitions")
    return count


def _queries(opened: Opened, part: str, told: Any) -> Sequence[Example]:
    from influence.adapters import Example

    if not isinstance(told, list):
        raise UnableToAcceptEvaluation(f"queries.{part} must be a list.", field=f"queries.{part}")
    found: list[Example] = []
    for place, query in enumerate(told):
        name = f"queries.{part}.{place}"
        is_pushed = opened.model.adapter.name == "pushed"
        wanted = {"features"} if is_pushed else {"prompt", "output"}
        if (
            not isinstance(query, Mapping)
            or set(query) != wanted
            or not all(isinstance(v, str) for v in query.values())
        ):
            raise UnableToAcceptEvaluation(
                f"{name} must be an object with the text{'s' * (len(wanted) > 1)} {' and '.join(sorted(wanted))}.",
                field=name,
            )
        try:
            if is_pushed:
                found.append(Example(data=read_features(query["features"])))
            else:
                found.append(opened.model.tokeniser.generation(query["prompt"], query["output"]))
        except ValueError as reason:
            raise UnableToAcceptEvaluation(f"{name}.features {reason}.", field=name) from reason
    return found
