"""What can be done with model services, their models and what they generate: one module a noun."""

from attribution.operations.attributions import (
    Recomputed,
    UnableToAttribute,
    attribute_again,
    attribute_batch,
    recompute,
)
from attribution.operations.audits import audits_to_do, queue_audit, take_audit
from attribution.operations.builds import queue_build, steps_to_do, take_step
from attribution.operations.candidates import UnableToAccept
from attribution.operations.choices import choose_index
from attribution.operations.indexes import (
    AUDIT_GENERATIONS,
    UnableToAuditIndex,
    UnableToLoadModel,
    audit_index,
    build_index,
    record_audit,
)
from attribution.operations.manifest_items import UnableToBuild
from attribution.operations.model_services import (
    UnableToIssueKey,
    UnableToRegisterService,
    UnableToRevokeKey,
    UnableToRotateKey,
    UnableToSuspendService,
    issue_key,
    register_service,
    resume_service,
    revoke_key,
    rotate_key,
    suspend_service,
)
from attribution.operations.model_versions import (
    NewItem,
    UnableToRegisterManifest,
    UnableToRegisterModelVersion,
    UnableToRetireModelVersion,
    register_manifest,
    register_model_version,
    retire_model_version,
)
from attribution.operations.renewals import attribute_batch_again
from attribution.operations.reports import ReportResult, UnableToReport, report_generations
from attribution.operations.revisions import (
    UnableToRevise,
    follow_consent,
    indexes_to_revise,
    refit_index,
    remove_works,
    restore_works,
    revise_index,
    revise_indexes,
)

__all__ = [
    "AUDIT_GENERATIONS",
    "NewItem",
    "Recomputed",
    "ReportResult",
    "UnableToAccept",
    "UnableToAttribute",
    "UnableToAuditIndex",
    "UnableToBuild",
    "UnableToIssueKey",
    "UnableToLoadModel",
    "UnableToRegisterManifest",
    "UnableToRegisterModelVersion",
    "UnableToRegisterService",
    "UnableToReport",
    "UnableToRetireModelVersion",
    "UnableToRevise",
    "UnableToRevokeKey",
    "UnableToRotateKey",
    "UnableToSuspendService",
    "attribute_again",
    "attribute_batch",
    "attribute_batch_again",
    "audit_index",
    "audits_to_do",
    "build_index",
    "choose_index",
    "follow_consent",
    "indexes_to_revise",
    "issue_key",
    "queue_audit",
    "queue_build",
    "recompute",
    "record_audit",
    "refit_index",
    "register_manifest",
    "register_model_version",
    "register_service",
    "remove_works",
    "report_generations",
    "restore_works",
    "resume_service",
    "retire_model_version",
    "revise_index",
    "revise_indexes",
    "revoke_key",
    "rotate_key",
    "steps_to_do",
    "suspend_service",
    "take_audit",
    "take_step",
]
