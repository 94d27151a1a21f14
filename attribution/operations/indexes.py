"""Building, auditing and opening the index of a model version. The only operations that load a model.

Long work happens outside of any transaction; the row says how far it came, and every step may be run again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction

from attribution.models import (
    AttributionIndex,
    IndexRevision,
    ManifestWork,
    ModelVersion,
    TrainingManifest,
)
from attribution.operations.factories import check_device, load_model
from attribution.operations.manifest_items import ManifestItems, UnableToBuild
from people.operations import webhooks

if TYPE_CHECKING:
    from influence.adapters import Example, LoadedModel
    from influence.index.config import IndexConfig
    from influence.index.ranks import Ranks
    from influence.scorers import Attributor, IndexItem

OWN_GENERATIONS = 512
AUDIT_GENERATIONS = 200
NOISE_Z = 2.0
RULE = 2
OPEN_MAX = 2
Progress = Callable[[str, int, int], None]
State = AttributionIndex.State


@dataclass(frozen=True, slots=True)
class Opened:
    """A model and its index, in this process."""

    model: LoadedModel
    index: Attributor
    index_id: int
    """Of its row."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A configuration in its parts: the settings that decide the numbers, and the settings around them."""

    index: IndexConfig
    noise_z: float
    own_generations: int
    refit: int
    # The rule of shares: 1 sums of holders, 2 items, then sums.
    rule: int = RULE

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> Wanted:
        """Read a configuration. Raises UnableToBuild, with the name of the fault, when it is not one."""
        from influence.index.config import IndexConfig, is_number

        wanted = dict(config)
        rule = wanted.pop("rule", RULE)
        around = {
            name: wanted.pop(name, usual)
            for name, usual in (("noise_z", NOISE_Z), ("own_generations", OWN_GENERATIONS), ("refit", 0))
        }
        try:
            for name, value in around.items():
                whole = name != "noise_z"
                if not is_number(value) or value < 0 or (whole and not isinstance(value, int)):
                    raise ValueError(f"{name} must be a {'whole ' if whole else ''}number from 0 on, not {value!r}")
            if isinstance(rule, bool) or rule not in (1, 2):
                raise ValueError(f"rule must be 1 (sums of holders) or 2 (items, then sums), not {rule!r}")
            return cls(
                IndexConfig.from_json(wanted),
                float(around["noise_z"]),
                around["own_generations"],
                around["refit"],
                rule,
            )
        except (TypeError, ValueError) as error:
            raise UnableToBuild(f"The configuration is not one: {error}.") from None

    def to_json(self) -> dict[str, Any]:
        around = {"noise_z": self.noise_z, "own_generations": self.own_generations, "rule": self.rule}
        # A basis fitted again on other items: the same numbers asked for, another index.
        return {**self.index.to_json(), **around, **({"refit": self.refit} if self.refit else {})}


def build_index(
    *,
    model_version: ModelVersion,
    config: Mapping[str, Any] | None = None,
    at: datetime,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    device: str | None = None,
) -> AttributionIndex:
    """Build the index of a model version from its manifest's works, in this process.

    `config` has the fields of influence.index.config.IndexConfig, first of them `attributor`, then `noise_z`, and
    `own_generations`: over how many of the model's own generations the mean query is taken. `rule` 2, the usual
    one, pays by items (influence/paid_items.py), 1 by sums of holders.

    The first index of a model version serves at once; a later one takes over when it passes its audit. A build that was
    cut off is taken up by the next call. `ranks` are processes that all make this call and share the work
    (influence/index/ranks.py). `device` computes gradients, in place of the installation's
    (influence/gradients/devices.py).
    """
    from influence.scorers import discard_other_parts

    wanted = Wanted.from_json(config or {})
    device = check_device(device)
    row = claim(model_version, wanted, at=at)
    model = load_model(version=row.model_version, verify=True, device=device)
    items = ManifestItems(row.model_version, model)
    if ranks is None or ranks.rank == 0:
        discard_other_parts(directory_of(row), config=wanted.index, items=items)
    if ranks is not None and ranks.world > 1:
        ranks.wait()
        _share_gradients(row, model, wanted, items, progress, ranks)
        if ranks.rank:
            ranks.wait()
            return AttributionIndex.objects.select_related("model_version").get(pk=row.pk)
    built = assemble(row, model=model, items=items, at=at, progress=progress)
    if ranks is not None:
        ranks.wait()
    return built


def _share_gradients(
    row: AttributionIndex,
    model: LoadedModel,
    wanted: Wanted,
    items: ManifestItems,
    progress: Progress | None,
    ranks: Ranks,
) -> None:
    from influence import scorers as attributors
    from influence.index import reader as gradients

    part = attributors.gradient_part(directory_of(row), wanted.index)
    if part is not None and not part[0].exists():
        ranks.wait()
        mean_of = own_generations(model, wanted) if ranks.rank == 0 else ()
        gradients.build_index(
            part[0], model=model, items=items, config=part[1], mean_of=mean_of, progress=progress, ranks=ranks
        )


def assemble(
    row: AttributionIndex, *, model: LoadedModel, items: ManifestItems, at: datetime, progress: Progress | None = None
) -> AttributionIndex:
    """Finish the rest of a build of these items, and mark the row as built."""
    from influence import scorers as attributors

    wanted = Wanted.from_json(row.config)
    directory = directory_of(row)
    if directory.exists():
        # The process that built it died before it could say so.
        built = attributors.open_attributor(directory, model=model)
    else:
        built = attributors.build(
            directory,
            model=model,
            items=items,
            config=wanted.index,
            mean_of=own_generations(model, wanted),
            progress=progress,
        )
    return _record_built(row, built, at=at)


def own_generations(model: LoadedModel, wanted: Wanted) -> Sequence[Example]:
    """Sample the generations for the index's mean query; none where the model's factory offers none."""
    return model.sample(wanted.own_generations, wanted.index.seed) if model.sample else ()


def directory_of(row: AttributionIndex) -> Path:
    return Path(settings.TRIBUTARY_DATA) / row.directory


def claim(version: ModelVersion, wanted: Wanted, *, at: datetime, queued: bool = False) -> AttributionIndex:
    """Return the row of this configuration, made now or left by a build that was cut off.

    Raises UnableToBuild without a training manifest, or when such an index is built already.
    """
    config = wanted.to_json()
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).digest()
    with transaction.atomic():
        version = ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
        if not TrainingManifest.objects.filter(model_version=version).exists():
            raise UnableToBuild(f"{version.name} has no training manifest.")
        indexes = AttributionIndex.objects.select_related("model_version").exclude(state=State.RETIRED)
        row = indexes.filter(model_version=version, config_sha256=digest).first()
        if row is None:
            return AttributionIndex.objects.create(
                model_version=version,
                attributor=wanted.index.attributor,
                config=config,
                config_sha256=digest,
                noise_z=wanted.noise_z,
                rule=wanted.rule,
                created_at=at,
                queued_at=at if queued else None,
            )
        if row.state != State.BUILDING:
            raise UnableToBuild(f"{version.name} has an index of this configuration already: {row.public_id}.")
        if queued:
            row.queued_at = at
            row.save(update_fields=["queued_at"])
            # Planned anew: finished steps are found done, failed ones are tried again.
            row.steps.all().delete()
        return row


def _record_built(row: AttributionIndex, built: Attributor, *, at: datetime) -> AttributionIndex:
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=row.model_version_id)
        row = AttributionIndex.objects.select_related("model_version").get(pk=row.pk)
        if row.state != State.BUILDING:
            # Another worker did the same step, and said so first.
            return row
        row.sha256, row.method, row.state = bytes.fromhex(built.sha256), built.manifest["method"], State.BUILT
        if row.attributor == AttributionIndex.Attributor.PUSHED:
            row.feature_shape = built.manifest["shape"]
        row.serving = not AttributionIndex.objects.filter(model_version=row.model_version, serving=True).exists()
        row.condition = describe_condition(built)
        row.save(update_fields=["sha256", "method", "state", "serving", "condition", "feature_shape"])
        # The works it lacks, not those that it should lack now: works that left or came back meanwhile follow later.
        trained_on = ManifestWork.objects.filter(manifest__model_version=row.model_version)
        lacking = set(trained_on.values_list("work_id", flat=True)) - set(built.works()[1].tolist())
        IndexRevision.objects.create(
            index=row, revision=1, sha256=row.sha256, removed_work_ids=sorted(lacking), created_at=at
        )
    return row


def describe_condition(built: Attributor) -> dict[str, Any]:
    """Describe for the console how well the basis fits; empty for an index that has none."""
    from influence.scorers import condition_of

    condition = condition_of(built)
    if condition is None:
        return {}
    return {
        **asdict(condition),
        "new_part": condition.new_part,
        "held_percent": round(100 * condition.held, 1),
        "reasons": condition.reasons,
        "warning": condition.warning,
    }


class UnableToAuditIndex(Exception):
    """The index is not built, or its model offers nothing to audit with."""

    status = 409
    problem = "unable-to-audit-index"


def audit_index(
    *,
    index: AttributionIndex,
    at: datetime,
    coalitions: int = 16,
    processes: int = 2,
    generations: int = AUDIT_GENERATIONS,
    controls: bool = True,
    progress: Progress | None = None,
    device: str | None = None,
    cache: Path | None = None,
) -> AttributionIndex:
    """Retrain coalitions and compare; set the weight with which the index moves money, and let the better one serve.

    An index that passes takes over from the one that served, which is retired. One that fails has weight 0: if it is
    the one that serves it goes on doing so, and the whole pool then follows the plan's base rule. `cache` is the
    folder of retrained models' utilities, the version's own place by default. Raises UnableToAuditIndex for an index
    that is not built or is retired, or a factory without own generations or held-out examples.
    """
    from influence.evaluation import lds as auditing

    if index.state not in {State.BUILT, State.AUDITED, State.FAILED}:
        raise UnableToAuditIndex("Only an index that is built and not retired can be audited.")
    opened = open_built(index=index, device=device)
    model = opened.model
    if model.sample is None or model.held_out is None:
        raise UnableToAuditIndex("The model's factory offers no generations of its own, or no held-out examples.")
    seed = int(opened.index.config.seed)
    report = auditing.audit(
        opened.index,
        model=model,
        items=index_items(version=index.model_version, model=model, works=opened.index.works()),
        held_out=model.held_out(),
        # Other generations than those behind the index's mean query.
        own_generations=model.sample(generations, seed + 1),
        cache=cache or audit_cache(version=index.model_version),
        coalitions=coalitions,
        processes=processes,
        seed=seed,
        rule=index.rule,
        controls=controls,
        progress=progress,
    )
    return record_audit(index=index, report=report, at=at)


def audit_cache(*, version: ModelVersion) -> Path:
    """Path of retrained models' utilities. They belong to the model version and serve every index of it."""
    return Path(settings.TRIBUTARY_DATA) / "audits" / str(version.public_id)


def record_audit(*, index: AttributionIndex, report: Mapping[str, Any], at: datetime) -> AttributionIndex:
    """Store the report of an evaluation (influence.evaluation.lds.audit), run anywhere, and act on it.

    Raises UnableToAuditIndex for a report on another index, or an index that was retired meanwhile.
    """
    # Works may have left the index while it was audited: the basis and the method are the same.
    revisions = {bytes(sha256).hex() for sha256 in index.revisions.values_list("sha256", flat=True)}
    if report["index_sha256"] not in {bytes(index.sha256 or b"").hex(), *revisions}:
        raise UnableToAuditIndex("The report is about another index.")
    passed = bool(report["passed"])
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=index.model_version_id)
        row = (
            AttributionIndex.objects.select_for_update(of=("self",), no_key=True)
            .select_related("model_version")
            .get(pk=index.pk)
        )
        if row.state == State.RETIRED:
            raise UnableToAuditIndex("The index was retired while it was audited.")
        serving = AttributionIndex.objects.filter(model_version=row.model_version, serving=True).exclude(pk=row.pk)
        if passed:
            serving.update(serving=False, state=State.RETIRED)
            row.serving = True
        row.state = State.AUDITED if passed else State.FAILED
        row.weight_ppb = int(report["weight_ppb"]) if passed else 0
        row.audit, row.audited_at = dict(report), at
        row.items_paid = int((report.get("paid") or {}).get("items", row.items_paid))
        row.save(update_fields=["state", "weight_ppb", "audit", "audited_at", "serving", "items_paid"])
        webhooks.emit(
            event="index.evaluated",
            owners=[f"service:{row.model_version.service_id}"],
            data={
                "index": str(row.public_id),
                "model_version": row.model_version.name,
                "passed": passed,
                "weight_ppb": row.weight_ppb,
            },
            at=at,
        )
    return row


# --- models and items in memory -------------------------------------------------------------------------------------
def open_built(*, index: AttributionIndex, sha256: bytes | None = None, device: str | None = None) -> Opened:
    """The index and its model, kept by this process: opening hashes every file, a batch must not. With `sha256` an
    earlier revision of it."""
    wanted = index.sha256 if sha256 is None else sha256
    assert wanted is not None, "A built index has a digest (constraint)."
    device = device or settings.ATTRIBUTION_DEVICE
    data, digest = str(settings.TRIBUTARY_DATA), bytes(wanted).hex()
    return _open(data, index.directory, digest, index.model_version_id, index.pk, device)


@functools.lru_cache(maxsize=OPEN_MAX)
def _open(data: str, directory: str, sha256: str, model_version_id: int, index_id: int, device: str) -> Opened:
    from influence.scorers import open_attributor

    model = load_model(version=ModelVersion.objects.get(pk=model_version_id), device=device)
    return Opened(model, open_attributor(Path(data) / directory, model=model, sha256=sha256), index_id)


def index_items(*, version: ModelVersion, model: LoadedModel, works: Any = None) -> list[IndexItem]:
    """Read the manifest's items as the model reads them, in order. Refuses a work with changed content, or a range that
    does not fit it. With `works`, as Attributor.works gives them, reads those of an index under the index's holders.
    All of them are in memory: an evaluation needs that and a build does not."""
    from influence.index.sources import read_all

    return read_all(ManifestItems(version, model, works=works))
