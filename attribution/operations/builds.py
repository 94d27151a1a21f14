"""Builds that workers share: a row for every step, claimed by an advisory lock that ends with its holder.

Files say whether a step is done (influence/index/build.py); rows follow. The sweep makes up for a lost message. A
doubled message finds the step locked or done; a killed worker leaves its lock to the next one. Nothing is computed
inside a transaction.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from django.db import connection, transaction
from django.db.models import Min

from attribution.models import AttributionIndex, BuildStep, ModelVersion
from attribution.operations.factories import load_model
from attribution.operations.indexes import (
    Wanted,
    assemble,
    claim,
    directory_of,
    own_generations,
)
from attribution.operations.manifest_items import ManifestItems
from people.actor import logged
from people.models import User

if TYPE_CHECKING:
    from influence.adapters import LoadedModel
    from influence.index.build import Build

PLAN, ASSEMBLE = "plan", "assemble"
# Class of the advisory locks of build steps; the other half is the step's id.
LOCK_CLASS = 0x6275
FAILURES_MAX = BuildStep.FAILURES_MAX
ERROR_CHARACTERS_MAX = 500
State = AttributionIndex.State

log = structlog.get_logger(__name__)


@logged("model_version", "public_id", "config", "state", key="model_version.public_id")
def queue_build(
    *, model_version: ModelVersion, config: Mapping[str, Any] | None = None, at: datetime, by: User | None = None
) -> AttributionIndex:
    """Hand the build of an index to the workers; failed steps are tried again. See build_index for `config`."""
    with transaction.atomic():
        row = claim(model_version, Wanted.from_json(config or {}), at=at, queued=True)
        BuildStep.objects.get_or_create(index=row, stage=PLAN, member=0, part=0, defaults={"position": 0})
    return row


def steps_to_do(*, index: AttributionIndex | None = None, limit: int = 64) -> list[BuildStep]:
    """Steps that a worker could take now: of each build the open ones of its first unfinished stage."""
    open_steps = BuildStep.objects.filter(index__state=State.BUILDING, index__queued_at__isnull=False, done_at=None)
    if index is not None:
        open_steps = open_steps.filter(index=index)
    found: list[BuildStep] = []
    for build in open_steps.values("index").annotate(position=Min("position")).order_by("index"):
        steps = open_steps.filter(index=build["index"], position=build["position"])
        # One that fails again and again waits until the build is queued anew.
        found += steps.filter(failures__lt=FAILURES_MAX).order_by("pk")[: limit - len(found)]
    return found


def take_step(*, step_id: int, at: datetime) -> bool:
    """Do one step. Returns False if another worker has it, it is done, or its turn is to come.

    A failure is counted and shown with the step, and raised.
    """
    with session_lock(LOCK_CLASS, step_id) as mine:
        step = BuildStep.objects.select_related("index__model_version__manifest").filter(pk=step_id).first()
        if not mine or step is None or step not in steps_to_do(index=step.index, limit=2**31):
            return False
        try:
            _do(step, at=at)
        except Exception as error:
            BuildStep.objects.filter(pk=step.pk).update(
                failures=step.failures + 1, error=(str(error) or repr(error))[:ERROR_CHARACTERS_MAX]
            )
            log.error("a step of a build failed", index=str(step.index.public_id), stage=step.stage, error=repr(error))
            raise
        BuildStep.objects.filter(pk=step.pk).update(done_at=at, error="")
    return True


@contextmanager
def session_lock(of: int, number: int) -> Iterator[bool]:
    """An advisory lock of this database session, if it is free: it ends with the process, however that ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [of, number % 2**31])
        (mine,) = cursor.fetchone()
    try:
        yield bool(mine)
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [of, number % 2**31])


def _do(step: BuildStep, *, at: datetime) -> None:
    from influence.index.build import Step

    if step.stage == PLAN:
        _plan(step.index)
        return
    opened = _open(step.index)
    if step.stage == ASSEMBLE:
        assemble(step.index, model=opened.model, items=opened.items, at=at)
    elif opened.build is not None:
        opened.build.run(Step(step.stage, step.member, step.part))


def _plan(index: AttributionIndex) -> None:
    """Decide the steps: those of the gradients, and one for all the rest."""
    from influence import scorers as attributors
    from influence.index.plan import plan_build

    model = load_model(version=index.model_version, verify=True)
    wanted = Wanted.from_json(index.config)
    items = ManifestItems(index.model_version, model)
    attributors.discard_other_parts(directory_of(index), config=wanted.index, items=items)
    part = attributors.gradient_part(directory_of(index), wanted.index)
    stages = []
    if part is not None and not part[0].exists():
        build = plan_build(
            part[0],
            model=model,
            source=items,
            config=part[1],
            mean_of=own_generations(model, wanted),
        )
        stages = build.stages()
    rows = [
        BuildStep(index=index, position=position, stage=step.stage, member=step.member, part=step.part)
        for position, steps in enumerate(stages, 1)
        for step in steps
    ]
    rows.append(BuildStep(index=index, position=len(stages) + 1, stage=ASSEMBLE))
    BuildStep.objects.bulk_create(rows, ignore_conflicts=True)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A model, the items that its index is built of, and the planned build; None where no gradients are to be done."""

    model: LoadedModel
    items: ManifestItems
    build: Build | None


def _open(index: AttributionIndex) -> _Opened:
    from influence import scorers as attributors
    from influence.index import build as building

    part = attributors.gradient_part(directory_of(index), Wanted.from_json(index.config).index)
    if part is not None and not part[0].exists():
        return _opened(index.pk, part[0], building.draft_of(part[0]))
    _opened.cache_clear()
    model = load_model(version=index.model_version)
    # A build from finished gradients is of their items, even if works left or came back since.
    works = None if part is None else attributors.open_attributor(part[0]).works()
    return _Opened(model, ManifestItems(index.model_version, model, works=works), None)


@functools.lru_cache(maxsize=1)
def _opened(index_id: int, directory: Path, draft: Path) -> _Opened:
    """Kept by this process from step to step of one plan, which its draft is named after. The items are those that were
    planned, whichever worker opens them."""
    from influence.index import build as building

    index = AttributionIndex.objects.select_related("model_version__manifest").get(pk=index_id)
    model = load_model(version=index.model_version)
    items = ManifestItems(index.model_version, model, works=building.planned_works(draft))
    return _Opened(model, items, building.Build(directory, model=model, source=items))
