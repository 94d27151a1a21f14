"""Works that leave an index, come back or change hands, as a new revision and without a rebuild."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import QuerySet

from attribution.models import AttributionIndex, IndexRevision, ManifestWork, ModelVersion, WorkRemoval
from attribution.operations.builds import queue_build, session_lock
from attribution.operations.factories import load_model
from attribution.operations.indexes import describe_condition, directory_of
from attribution.operations.manifest_items import ManifestItems, UnableToBuild, removed_works
from contributors.models import SplitProposal, Work
from contributors.queries.consents import consents_in_force
from people.actor import logged
from people.models import User
from people.operations import webhooks

# Class of the advisory locks of indexes that are revised; the other half is the index's id.
LOCK_CLASS = 0x7265
State = AttributionIndex.State
CHANGEABLE = (State.BUILT, State.AUDITED, State.FAILED)

log = structlog.get_logger(__name__)


class UnableToRevise(Exception):
    """A work is not one that the model was trained on, or the index is not built."""

    status = 409
    problem = "unable-to-revise-index"


class BeingRevised(UnableToRevise):
    """Another process is changing the index."""


def remove_works(*, model_version: ModelVersion, works: Sequence[Work], reason: str, at: datetime) -> list[WorkRemoval]:
    """Let works no longer count in any index of a model version. Indexes follow at the next sweep (revise_index).

    Raises UnableToRevise for an unknown reason, or a work that the model version was not trained on.
    """
    if reason not in WorkRemoval.Reason.values:
        raise UnableToRevise(f"There is no reason {reason!r}; there is {', '.join(WorkRemoval.Reason.values)}.")
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=model_version.pk)
        trained_on = ManifestWork.objects.filter(manifest__model_version=model_version, work__in=works)
        known = set(trained_on.values_list("work_id", flat=True))
        if strangers := [work.title for work in works if work.pk not in known]:
            raise UnableToRevise(f"{model_version.name} was not trained on “{strangers[0]}”.")
        out = removed_works(model_version)
        rows = [
            WorkRemoval(model_version=model_version, work=work, reason=reason, removed_at=at)
            for work in {work.pk: work for work in works}.values()
            if work.pk not in out
        ]
        webhooks.emit(
            event="work.withdrawn",
            owners=[f"service:{model_version.service_id}", *(f"contributor:{w.dataset.contributor_id}" for w in works)],
            data={
                "model_version": model_version.name,
                "works": [str(row.work.public_id) for row in rows],
                "reason": reason,
            },
            at=at,
        )
        return WorkRemoval.objects.bulk_create(rows)


def restore_works(*, model_version: ModelVersion, works: Sequence[Work], at: datetime) -> int:
    """Let removed works count again; returns their number. Raises UnableToRevise for a removal later than `at`."""
    standing = WorkRemoval.objects.filter(model_version=model_version, work__in=works, restored_at__isnull=True)
    if later := standing.filter(removed_at__gt=at).select_related("work").first():
        raise UnableToRevise(f"“{later.work.title}” was removed after the moment at which it is to be restored.")
    return standing.update(restored_at=at)


def follow_consent(*, model_version: ModelVersion, at: datetime) -> tuple[int, int]:
    """Remove works that may no longer be used for its purpose, restore those that may again; returns both numbers.

    For programmes with terms that say so: elsewhere a model goes on crediting works that it was trained on.
    """
    trained_on = ManifestWork.objects.filter(manifest__model_version=model_version)
    works = Work.objects.in_bulk(trained_on.values_list("work_id", flat=True))
    allowed = consents_in_force(work_ids=sorted(works), scope=model_version.purpose, at=at)
    refused = [work for pk, work in sorted(works.items()) if pk not in allowed]
    removed = remove_works(model_version=model_version, works=refused, reason=WorkRemoval.Reason.CONSENT, at=at)
    for_consent = WorkRemoval.objects.filter(
        model_version=model_version, reason=WorkRemoval.Reason.CONSENT, restored_at__isnull=True
    )
    again = [works[pk] for pk in for_consent.values_list("work_id", flat=True) if pk in allowed]
    return len(removed), restore_works(model_version=model_version, works=again, at=at)


def indexes_to_revise() -> list[AttributionIndex]:
    """List built indexes that hold the wrong works, or that credit a work to the wrong holder."""
    built = _with_version(AttributionIndex.objects.filter(state__in=CHANGEABLE).order_by("pk"))
    return [index for index in built if any(_changes(index))]


def revise_indexes(*, at: datetime) -> int:
    """Let every index follow the works that were removed, restored or came to another holder; how many changed.

    One that cannot be changed (its files are damaged, a work that comes back cannot be read) holds up no other, and is
    raised when the others are done. One that another process is changing is left to it.
    """
    changed, failures = 0, []
    for index in indexes_to_revise():
        try:
            revise_index(index=index, at=at)
        except BeingRevised:
            continue
        except Exception as error:
            log.error("an index cannot follow its works", index=str(index.public_id), error=repr(error))
            failures.append(error)
        else:
            changed += 1
    if failures:
        raise failures[0]
    return changed


def revise_index(*, index: AttributionIndex, at: datetime) -> AttributionIndex:
    """Bring an index in line with the works that should count, as a new revision; unchanged when it is.

    An index that all works have left credits nobody: the money for its generations goes to the destination of the
    unattributed part. Raises BeingRevised while another process changes it.
    """
    # From the files to the row: another process may have written meanwhile and not recorded it yet.
    with session_lock(LOCK_CLASS, index.pk) as mine:
        if not mine:
            raise BeingRevised("Another process is changing this index.")
        return _revise(_with_version(AttributionIndex.objects.filter(pk=index.pk)).get(), at=at)


def _revise(index: AttributionIndex, *, at: datetime) -> AttributionIndex:
    """Files first, then the row: a revision of files that no row names is forgotten by the next call."""
    from influence import scorers
    from influence.index.sources import read_all

    if index.state not in CHANGEABLE or index.sha256 is None:
        raise UnableToRevise("Only an index that is built and not retired can be changed.")
    gone, again, proposals = _changes(index)
    if not gone and not again:
        return index
    directory, before = directory_of(index), bytes(index.sha256)
    scorers.go_back(directory, sha256=before.hex())
    model = load_model(version=index.model_version)
    try:
        items = read_all(ManifestItems(index.model_version, model, only=again)) if again else []
    except UnableToBuild:
        if not gone - again:
            raise
        # Removals do not wait for unreadable works: the next sweep reports these and tries them again.
        gone, again, proposals, items = gone - again, set(), [], []
    opened = scorers.open_attributor(directory, model=model)
    if counted := (again - gone) & set(opened.works()[1].tolist()):
        raise UnableToRevise(f"Work {min(counted)} is in the index already: put back, it would count twice.")
    if gone:
        opened = scorers.remove_works(directory, work_ids=sorted(gone), model=model)
    if again:
        opened = scorers.extend(directory, model=model, items=items)
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=index.model_version_id)
        row = _with_version(AttributionIndex.objects.filter(pk=index.pk)).get()
        if bytes(row.sha256 or b"") != before:
            # The lock ends with the session: one that was lost meanwhile let somebody else in.
            raise UnableToRevise("Another process changed the index at the same time; this change is not recorded.")
        row.sha256, row.revision = bytes.fromhex(opened.sha256), row.revision + 1
        row.condition = describe_condition(opened)
        row.save(update_fields=["sha256", "revision", "condition"])
        IndexRevision.objects.create(
            index=row,
            revision=row.revision,
            sha256=row.sha256,
            removed_work_ids=sorted(gone),
            added_work_ids=sorted(again),
            followed_proposal_ids=proposals,
            created_at=at,
        )
    return row


@logged("model_version", "public_id", "config", "state", key="model_version.public_id")
def refit_index(*, index: AttributionIndex, at: datetime, by: User | None = None) -> AttributionIndex:
    """Queue an index of the same configuration with a basis fitted again on the items that count now.

    It takes over when it passes its evaluation, as any later index does. Raises UnableToBuild while one of them is
    being built.
    """
    with transaction.atomic():
        ModelVersion.objects.select_for_update(no_key=True).get(pk=index.model_version_id)
        indexes = AttributionIndex.objects.filter(model_version_id=index.model_version_id)
        if any(_same_but_for_refits(index, other) for other in indexes.filter(state=State.BUILDING)):
            raise UnableToBuild("An index of this configuration is being built already: wait until it is done.")
        refits = indexes.count()
        return queue_build(model_version=index.model_version, config={**index.config, "refit": refits}, at=at)


def _same_but_for_refits(one: AttributionIndex, other: AttributionIndex) -> bool:
    return {**one.config, "refit": 0} == {**other.config, "refit": 0}


def _changes(index: AttributionIndex) -> tuple[set[int], set[int], list[int]]:
    """Works to take out, works to put in, and the agreed proposals by which these came to another holder.

    A work that an index has and that came to another holder since the index was queued is to be taken out and put in.
    """
    out: set[int] = set()
    followed: set[int] = set()
    revisions = IndexRevision.objects.filter(index=index).order_by("revision")
    for removed, added, proposals in revisions.values_list(
        "removed_work_ids", "added_work_ids", "followed_proposal_ids"
    ):
        out = (out | set(removed)) - set(added)
        followed |= set(proposals)
    wanted = removed_works(index.model_version)
    agreed = SplitProposal.objects.filter(
        state=SplitProposal.State.AGREED,
        closed_at__gte=index.created_at,
        work__manifest_works__manifest__model_version=index.model_version_id,
    )
    came = {pk: work for pk, work in agreed.values_list("pk", "work_id") if pk not in followed and work not in wanted}
    moved = set(came.values()) - out
    return (wanted - out) | moved, (out - wanted) | moved, sorted(came)


def _with_version(indexes: QuerySet[AttributionIndex]) -> QuerySet[AttributionIndex]:
    return indexes.select_related("model_version__manifest")
