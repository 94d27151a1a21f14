"""Each act of an administrator on services, keys, versions and indexes writes its line: actor, object and state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from attribution.models import AttributionIndex
from attribution.operations import builds, evaluations, model_services, model_versions, revisions
from people.models import AuditEvent
from tests.worlds import people
from tests.worlds.programme import Programme


def test_each_act_of_an_administrator_writes_one_line_that_names_its_object(indexed: Programme) -> None:
    at = indexed.at
    acting: dict[str, Any] = {"by": people.user("admin@example.org", at, ("admin",)), "at": at}
    version, index = indexed.model_version, indexed.index
    assert index is not None
    service = model_services.register_service(name="Second", **acting)
    key, _ = model_services.issue_key(service=service, scopes=["generations:write"], **acting)
    newer, _ = model_services.rotate_key(key=key, overlap=timedelta(days=1), **acting)
    model_services.revoke_key(key=newer, **acting)
    model_services.suspend_service(service=service, **acting)
    model_services.resume_service(service=service, **acting)
    evaluations.queue_audit(index=index, **acting)
    refit = revisions.refit_index(index=index, **acting)
    AttributionIndex.objects.filter(pk=refit.pk).update(state="retired")
    built = builds.queue_build(model_version=version, config={**index.config, "refit": 7}, **acting)
    model_versions.retire_model_version(model_version=version, **acting)
    of_service, of_version = f"service:{service.public_id}", f"model_version:{version.public_id}"
    wanted: list[tuple[str, str, dict[str, Any]]] = [
        ("register_service", of_service, {"name": "Second"}),
        ("issue_key", of_service, {"prefix": key.prefix, "scopes": ["generations:write"]}),
        ("rotate_key", of_service, {"prefix": newer.prefix, "replaces.prefix": key.prefix}),
        ("revoke_key", of_service, {"prefix": newer.prefix, "revoked_at": str(at)}),
        ("suspend_service", of_service, {"active": False}),
        ("resume_service", of_service, {"active": True}),
        ("queue_audit", of_version, {"public_id": str(index.public_id), "state": index.state}),
        ("refit_index", of_version, {"public_id": str(refit.public_id), "state": "building"}),
        ("queue_build", of_version, {"public_id": str(built.public_id), "state": "building"}),
        ("retire_model_version", of_version, {"name": version.name, "state": "retired"}),
    ]
    lines = list(AuditEvent.objects.order_by("sequence"))
    assert [(line.action, line.subject) for line in lines] == [(action, subject) for action, subject, _ in wanted]
    for line, (action, _subject, after) in zip(lines, wanted, strict=True):
        assert (line.actor, line.at) == (acting["by"], at), action
        assert {name: line.after.get(name) for name in after} == after, action


def test_the_same_act_of_a_program_writes_no_line(indexed: Programme) -> None:
    model_services.register_service(name="Second", at=indexed.at)
    assert not AuditEvent.objects.exists()
