"""Building, auditing and opening the index of a model version. The only operations that load a model.

Long work happens outside of any transaction; the row says how far it came, and every step may be run again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from attribution.models import AttributionIndex, ModelVersion, TrainingItem, TrainingManifest
from attribution.operations.model_versions import digest_of_directory, items_by_work
from contributors import queries as contributor_queries
from contributors.models import Work

if TYPE_CHECKING:
    from attribution.adapters import LoadedModel
    from attribution.attributors import Attributor, IndexItem

OWN_GENERATIONS = 512
AUDIT_GENERATIONS = 200
NOISE_Z = 2.0
OPEN_MAX = 2
Progress = Callable[[str, int, int], None]
State = AttributionIndex.State


@dataclass(frozen=True, slots=True)
class Opened:
    """A model and its index, in this process."""

    model: LoadedModel
    index: Attributor


class UnableToLoadModel(Exception):
    """The checkpoint is not what was registered, or its factory is not named any more."""

    status = 409
    problem = "unable-to-load-model"


class UnableToBuild(Exception):
    """There is no manifest, the configuration is indexed already, or an item does not fit its work."""

    status = 409
    problem = "unable-to-build-index"


def build_index(
    *,
    model_version: ModelVersion,
    config: Mapping[str, Any] | None = None,
    at: datetime,
    progress: Progress | None = None,
) -> AttributionIndex:
    """Build the index of a model version from its manifest's works.

    `config` has the fields of attribution.configuration.IndexConfig, first of them `attributor`, then `noise_z`, and
    `own_generations`: over how many of the model's own generations the mean query is taken. The first index of a model
    version serves at once; a later one takes over when it passes its audit. A build that was cut off is taken up by the
    next call.
    """
    from attribution import attributors

    wanted = dict(config or {})
    try:
        noise_z = float(wanted.pop("noise_z", NOISE_Z))
        own_generations = int(wanted.pop("own_generations", OWN_GENERATIONS))
        index_config = attributors.IndexConfig.from_json(wanted)
    except (TypeError, ValueError) as error:
        raise UnableToBuild(f"The configuration is not one: {error}.") from None
    complete = {**index_config.to_json(), "noise_z": noise_z, "own_generations": own_generations}
    row = _claim(model_version, complete, noise_z, at=at)
    model = load_model(version=row.model_version, verify=True)
    directory = Path(settings.TRIBUTARY_DATA) / row.directory
    if directory.exists():
        # The process that built it died before it could say so.
        built = attributors.open_attributor(directory, model=model)
    else:
        built = attributors.build(
            directory,
            model=model,
            items=index_items(version=row.model_version, model=model),
            config=index_config,
            mean_of=model.sample(own_generations, index_config.seed) if model.sample else (),
            progress=progress,
        )
    return _record_built(row, sha256=bytes.fromhex(built.sha256), method=built.manifest["method"])


def _claim(version: ModelVersion, config: Mapping[str, Any], noise_z: float, *, at: datetime) -> AttributionIndex:
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
                attributor=config["attributor"],
                config=config,
                config_sha256=digest,
                noise_z=noise_z,
                created_at=at,
            )
        if row.state != State.BUILDING:
            raise UnableToBuild(f"{version.name} has an index of this configuration already: {row.public_id}.")
        return row


def _record_built(row: AttributionIndex, *, sha256: bytes, method: str) -> AttributionIndex:
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=row.model_version_id)
        row = AttributionIndex.objects.select_related("model_version").get(pk=row.pk)
        row.sha256, row.method, row.state = sha256, method, State.BUILT
        row.serving = not AttributionIndex.objects.filter(model_version=row.model_version, serving=True).exists()
        row.save(update_fields=["sha256", "method", "state", "serving"])
    return row


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
    progress: Progress | None = None,
) -> AttributionIndex:
    """Retrain coalitions and compare; set the weight with which the index moves money, and let the better one serve.

    An index that passes takes over from the one that served, which is retired. One that fails has weight 0: if it is
    the one that serves it goes on doing so, and the whole pool then follows the plan's floor rule.
    """
    from attribution import audit as auditing

    if index.state not in {State.BUILT, State.AUDITED, State.FAILED}:
        raise UnableToAuditIndex("Only an index that is built and not retired can be audited.")
    opened = open_built(index=index)
    model = opened.model
    if model.sample is None or model.held_out is None:
        raise UnableToAuditIndex("The model's factory offers no generations of its own, or no held-out examples.")
    seed = int(opened.index.config.seed)
    report = auditing.audit(
        opened.index,
        model=model,
        items=index_items(version=index.model_version, model=model),
        held_out=model.held_out(),
        # Other generations than those whose mean the index keeps.
        own_generations=model.sample(generations, seed + 1),
        cache=Path(settings.TRIBUTARY_DATA) / "audits" / str(index.public_id),
        coalitions=coalitions,
        processes=processes,
        seed=seed,
        progress=progress,
    )
    return record_audit(index=index, report=report, at=at)


def record_audit(*, index: AttributionIndex, report: Mapping[str, Any], at: datetime) -> AttributionIndex:
    """Store what an audit found (attribution.audit.audit's report), wherever it ran, and act on it."""
    if report["index_sha256"] != bytes(index.sha256 or b"").hex():
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
        row.save(update_fields=["state", "weight_ppb", "audit", "audited_at", "serving"])
    return row


# --- models and items in memory -------------------------------------------------------------------------------------
def load_model(*, version: ModelVersion, verify: bool = False) -> LoadedModel:
    """The model as its factory rebuilds it. `verify` reads every file again and compares the digest."""
    path = settings.TRIBUTARY_MODEL_FACTORIES.get(version.factory)
    if path is None:
        raise UnableToLoadModel(f"The settings name no factory {version.factory!r}.")
    directory = Path(settings.TRIBUTARY_DATA) / version.directory
    if not directory.is_dir():
        raise UnableToLoadModel(f"The files of {version.name} are not at {version.directory}.")
    if verify and digest_of_directory(directory=directory) != bytes(version.checkpoint_sha256):
        raise UnableToLoadModel(f"The files of {version.name} are not those that were registered.")
    factory: Callable[[Path], LoadedModel] = import_string(path)
    model = factory(directory)
    if model.adapter.name != version.adapter:
        raise UnableToLoadModel(f"{version.name} was registered as {version.adapter}, not {model.adapter.name}.")
    return model


def open_built(*, index: AttributionIndex) -> Opened:
    """The index and its model, kept by this process: opening hashes every file, a batch must not."""
    assert index.sha256 is not None, "A built index has a digest (constraint)."
    data = str(settings.TRIBUTARY_DATA)
    return _open(data, index.directory, bytes(index.sha256).hex(), index.model_version_id)


@functools.lru_cache(maxsize=OPEN_MAX)
def _open(data: str, directory: str, sha256: str, model_version_id: int) -> Opened:
    from attribution.attributors import open_attributor

    model = load_model(version=ModelVersion.objects.get(pk=model_version_id))
    return Opened(model, open_attributor(Path(data) / directory, model=model, sha256=sha256))


def index_items(*, version: ModelVersion, model: LoadedModel) -> list[IndexItem]:
    """The manifest's items as the model reads them, in order; refuses a work whose content changed, or a range that
    does not fit it."""
    from attribution.attributors import IndexItem

    found: list[tuple[int, IndexItem]] = []
    grouped = items_by_work(manifest=version.manifest)
    works = Work.objects.in_bulk(grouped)
    for work_id, items in grouped.items():
        work = works[work_id]
        content = _read_text(work)
        for item in items:
            example = model.tokeniser.item(content, item.token_start, item.token_end)
            if len(example.tokens) - example.prompt_tokens != item.token_end - item.token_start:
                raise UnableToBuild(_misfit(work, item))
            entry = IndexItem(example, work_id=work_id, holder_id=work.holder_id, cluster_id=work.cluster_id)
            found.append((item.ordinal, entry))
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def _misfit(work: Work, item: TrainingItem) -> str:
    return f"Item {item.ordinal}: “{work.title}” has no tokens {item.token_start} to {item.token_end}."


def _read_text(work: Work) -> str:
    """The text of a work, which must be what was registered."""
    try:
        return contributor_queries.content(work).decode("utf-8")
    except contributor_queries.DamagedContent as damage:
        raise UnableToBuild(str(damage)) from damage
    except UnicodeDecodeError:
        raise UnableToBuild(f"“{work.title}” is not text.") from None
