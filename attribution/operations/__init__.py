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
from attribution.operations.reports import ReportResult, UnableToAccept, UnableToReport, report_generations
from attribution.operations.services import (
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
    "audit_index",
    "build_index",
    "issue_key",
    "recompute",
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
