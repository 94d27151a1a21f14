"""Open work about models: failed builds and evaluations of indexes, models that are set aside, and generations that
wait too long."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.urls import reverse

from attribution.models import AttributionIndex, BuildStep, Generation, ModelFault, ModelService, ModelVersion
from attribution.queries.gateways import waiting_names
from attribution.queries.model_versions import why_held
from people.inbox import COUNT_MAX, Kind, OpenItem
from people.models import WebhookEndpoint

# The roles that queue builds and evaluations, and look after the workers.
OPERATORS = ("admin", "model_team")
INDEX = "attribution.AttributionIndex"


def _unbuilt(at: datetime) -> QuerySet[AttributionIndex]:
    failed = BuildStep.objects.filter(index=OuterRef("pk"), done_at__isnull=True, failures__gte=BuildStep.FAILURES_MAX)
    rows = AttributionIndex.objects.filter(state=AttributionIndex.State.BUILDING).filter(Exists(failed))
    return rows.select_related("model_version").order_by("pk")


def _unevaluated(at: datetime) -> QuerySet[AttributionIndex]:
    """Find indexes with a failed evaluation, one not passed while they serve, or one never asked for."""
    states = AttributionIndex.State
    rows = AttributionIndex.objects.filter(audit_queued_at__isnull=True).filter(
        Q(state=states.BUILT) | Q(state=states.FAILED, serving=True) | ~Q(audit_error="") & ~Q(state=states.RETIRED)
    )
    return rows.select_related("model_version").order_by("pk")


def _build(index: AttributionIndex) -> OpenItem:
    return _of(index, "build", "Its build failed and waits to be queued again.", index.queued_at)


def _evaluation(index: AttributionIndex) -> OpenItem:
    if index.audit_error:
        words = f"Its evaluation failed: {index.audit_error}"
    elif index.state == AttributionIndex.State.FAILED:
        words = "It serves and did not pass its evaluation, so that nothing is paid by attribution."
    else:
        words = "It is built and not evaluated, so that its generations wait."
    return _of(index, "evaluation", words, index.audited_at)


def _of(index: AttributionIndex, what: str, words: str, since: datetime | None) -> OpenItem:
    moment = since or index.created_at
    return OpenItem(
        subject=f"{what}:{index.public_id}:{index.state}:{moment:%Y%m%d%H%M%S}",
        title=str(index),
        words=words,
        url=reverse("attribution:model_version", args=[index.model_version.public_id]),
        since=moment,
    )


def _set_aside(at: datetime) -> QuerySet[ModelFault]:
    rows = ModelFault.objects.filter(set_aside_at__isnull=False).select_related("model_version__service")
    return rows.annotate(
        waiting=Count("model_version__generations", filter=Q(model_version__generations__state="received"))
    ).order_by("pk")


def _fault(fault: ModelFault) -> OpenItem:
    assert fault.set_aside_at is not None
    version = fault.model_version
    waiting: int = getattr(fault, "waiting", 0)
    return OpenItem(
        subject=f"set aside:{version.public_id}:{fault.set_aside_at:%Y%m%d%H%M%S}",
        title=f"{version.name} of {version.service.name}",
        words=f"{waiting} generation{'' if waiting == 1 else 's'} wait. Its code failed: {fault.reason}",
        url=reverse("attribution:model_version", args=[version.public_id]),
        since=fault.set_aside_at,
    )


def _attributing(version: str) -> Exists:
    """Whether a version has an index that serves and attributes; `version` names the outer column."""
    serving = AttributionIndex.objects.filter(AttributionIndex.SETTLES, model_version=OuterRef(version), serving=True)
    return Exists(serving)


def _held(at: datetime) -> QuerySet[ModelVersion]:
    """Find model versions with generations that wait for an index or for its evaluation."""
    received = Generation.objects.filter(model_version=OuterRef("pk"), state=Generation.State.RECEIVED)
    rows = ModelVersion.objects.filter(Exists(received)).exclude(_attributing("pk"))
    since = received.order_by("received_at").values("received_at")[:1]
    return rows.annotate(since=Subquery(since)).select_related("service").order_by("pk")


def _holding(version: ModelVersion) -> OpenItem:
    index = AttributionIndex.objects.filter(model_version=version, serving=True).first()
    since: datetime = version.since  # type: ignore[attr-defined]
    return OpenItem(
        subject=f"held:{version.public_id}:{since:%Y%m%d%H%M%S}",
        title=f"{version.service.name}: {version.name}",
        words=why_held(index),
        url=reverse("attribution:model_version", args=[version.public_id]),
        since=since,
    )


def _stalled(at: datetime) -> list[OpenItem]:
    """Name the queue of generations that an index could attribute, where its oldest row is older than the limit."""
    late = at - timedelta(minutes=settings.STALLED_MINUTES)
    received = Generation.objects.filter(state=Generation.State.RECEIVED, received_at__lt=late)
    waiting = received.filter(_attributing("model_version")).order_by("received_at")
    # Those of a model that is set aside wait for a person, and not for a worker.
    waiting = waiting.exclude(model_version__fault__set_aside_at__isnull=False)
    moments = list(waiting.values_list("received_at", flat=True)[:COUNT_MAX])
    if not moments:
        return []
    number = f"{COUNT_MAX} or more" if len(moments) == COUNT_MAX else str(len(moments))
    return [
        OpenItem(
            subject=f"received:{moments[0]:%Y%m%d%H%M%S%f}",
            title=f"{number} received generation{'s' if len(moments) > 1 else ''} without an attribution",
            words="Do the workers of the queue attribution run?",
            url=reverse("attribution:services"),
            since=moments[0],
        )
    ]


def _unnamed(at: datetime) -> list[OpenItem]:
    """Name the models of gateways under which reports wait for a model version."""
    return [
        OpenItem(
            subject=f"model_name:{name.service.public_id}:{name.name}:{name.since:%Y%m%d%H%M%S}",
            title=f"{name.name} of {name.service}",
            words=f"{name.count} report{'s wait' if name.count > 1 else ' waits'} for a model version"
            + (f"; a try was refused: {name.error}" if name.error else "."),
            url=reverse("attribution:gateways", args=[name.service.public_id]),
            since=name.since,
        )
        for name in waiting_names(limit=COUNT_MAX)
    ]


def _stopped(at: datetime) -> list[OpenItem]:
    """Name the webhook endpoints of services that take nothing."""
    rows = WebhookEndpoint.objects.filter(owner__startswith="service:", stopped_at__isnull=False, removed_at=None)
    found = list(rows.order_by("stopped_at")[:COUNT_MAX])
    services = ModelService.objects.in_bulk([int(row.owner.partition(":")[2]) for row in found])
    return [
        OpenItem(
            subject=f"webhook_endpoint:{row.public_id}:{row.stopped_at:%Y%m%d%H%M%S}",
            title=f"{row.url} of {services[int(row.owner.partition(':')[2])]}",
            words=row.stopped_because,
            url=reverse("attribution:webhooks", args=[services[int(row.owner.partition(":")[2])].public_id]),
            since=row.stopped_at or at,
        )
        for row in found
    ]


KINDS = [
    Kind(
        name="webhook_stopped",
        heading="Stopped webhooks of services",
        mail="The webhooks of a service are stopped",
        roles=OPERATORS,
        rows=_stopped,
        covers={"people.WebhookDelivery": frozenset({"failed"})},
    ),
    Kind(
        name="build_failed",
        heading="Failed builds of indexes",
        mail="The build of an index failed",
        roles=OPERATORS,
        rows=_unbuilt,
        item=_build,
        covers={INDEX: frozenset({"building"})},
    ),
    Kind(
        name="evaluation_lacking",
        heading="Indexes without a passed evaluation",
        mail="An index has no passed evaluation",
        roles=OPERATORS,
        rows=_unevaluated,
        item=_evaluation,
        covers={INDEX: frozenset({"built", "failed"})},
    ),
    Kind(
        name="model_set_aside",
        heading="Models that are set aside",
        mail="A model is set aside, because its code failed",
        roles=OPERATORS,
        rows=_set_aside,
        item=_fault,
    ),
    Kind(
        name="generations_held",
        heading="Generations that wait for an evaluation",
        mail="Generations wait for an evaluated index",
        roles=OPERATORS,
        rows=_held,
        item=_holding,
        covers={"attribution.Generation": frozenset({"received"})},
    ),
    Kind(
        name="generations_stalled",
        heading="Generations that wait for an attribution",
        mail="Generations wait for an attribution",
        roles=OPERATORS,
        rows=_stalled,
        covers={"attribution.Generation": frozenset({"received"})},
    ),
    Kind(
        name="model_unnamed",
        heading="Names of models that lead to no model version",
        mail="Reports wait for the model version of a name",
        roles=OPERATORS,
        rows=_unnamed,
    ),
]
