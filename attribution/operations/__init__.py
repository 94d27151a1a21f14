"""What can be done with model services, their models and what they generate: one module a noun."""

from attribution.operations.attributions import (
    Recomputed,
    UnableToAttribute,
    attribute_again,
    attribute_batch,
    recompute,
)
from attribution.operations.indexes import (
    UnableToAuditIndex,
    UnableToBuild,
    UnableToLoadModel,
    audit_index,
    build_index,
    record_audit,
)
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
from attribution.operations.reports import ReportResult, UnableToAccept, UnableToReport, report_generations

__all__ = [
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
    "UnableToRevokeKey",
    "UnableToRotateKey",
    "UnableToSuspendService",
    "attribute_again",
    "attribute_batch",
    "attribute_batch_again",
    "audit_index",
    "build_index",
    "issue_key",
    "recompute",
    "record_audit",
    "register_manifest",
    "register_model_version",
    "register_service",
    "report_generations",
    "resume_service",
    "retire_model_version",
    "revoke_key",
    "rotate_key",
    "suspend_service",
]
