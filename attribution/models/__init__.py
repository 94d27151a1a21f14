"""Services, models, manifests, indexes, generations, and the attribution of each generation."""

from attribution.models.base_pool import BasePoolProposal
from attribution.models.faults import MeasuringAttempt, ModelFault
from attribution.models.fields import PlainArrayField, RealField
from attribution.models.gateways import GatewayTally, ModelName, WaitingReport
from attribution.models.generations import Attribution, GeneralShares, Generation, GenerationPart
from attribution.models.indexes import AttributionIndex, BuildStep, IndexRevision, WorkRemoval
from attribution.models.mandates import Mandate, WorkDelivery
from attribution.models.model_services import ModelService, ReportStop, ServiceKey, ServiceKeyQuerySet
from attribution.models.model_versions import ManifestWork, ModelVersion, TrainingItem, TrainingManifest
from attribution.models.uploads import CheckpointUpload, UploadFile

__all__ = [
    "Attribution",
    "AttributionIndex",
    "BasePoolProposal",
    "BuildStep",
    "CheckpointUpload",
    "GatewayTally",
    "GeneralShares",
    "Generation",
    "GenerationPart",
    "IndexRevision",
    "Mandate",
    "ManifestWork",
    "MeasuringAttempt",
    "ModelFault",
    "ModelName",
    "ModelService",
    "ModelVersion",
    "PlainArrayField",
    "RealField",
    "ReportStop",
    "ServiceKey",
    "ServiceKeyQuerySet",
    "TrainingItem",
    "TrainingManifest",
    "UploadFile",
    "WaitingReport",
    "WorkDelivery",
    "WorkRemoval",
]
