"""Model versions: registered with a loaded checkpoint and a purpose, retired, superseded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction

from attribution.models import CheckpointUpload, ModelService, ModelVersion, TrainingManifest
from attribution.operations.checkpoints import (
    Checkpoint,
    UnableToKeepCheckpoint,
    discard,
    keep_directory,
    kept_checkpoint,
)
from attribution.operations.factories import (
    ALSO_TRACED,
    PUSHED,
    TRACEABLE,
    TRACING_ADAPTERS,
    UnableToLoadModel,
    known_adapters,
    known_factories,
    load_directory,
)
from attribution.operations.tokens import find_decoder
from contributors.models import Consent
from people.actor import logged
from people.models import User

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
TEXT_CHARACTERS_MAX = 200


class UnableToRegisterModelVersion(Exception):
    """The registration is refused. `status` is 409 where the name is taken, else 422; `members` names the field."""

    problem = "unable-to-register-model-version"

    def __init__(self, detail: str, *, field: str, status: int = 422, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.members = {"field": field, **members}


@logged("model_version", "name", "adapter", "factory", "purpose", key="public_id")
def register_model_version(
    *,
    service: ModelService,
    name: str,
    adapter: str,
    factory: str,
    purpose: str,
    trained_at: datetime,
    at: datetime,
    directory: Path | None = None,
    checkpoint: Checkpoint | None = None,
    config: Mapping[str, Any] | None = None,
    training_started_at: datetime | None = None,
    base_model: str = "",
    licence: str = "",
    by: User | None = None,
) -> ModelVersion:
    """Keep the checkpoint under its digest, load the model by its factory, and register the version.

    The checkpoint is a `directory`, which is copied, or a `checkpoint` of the store. A version of the factory `pushed`
    may come without one. A file `initial.safetensors` is the checkpoint that training started from.
    Raises UnableToRegisterModelVersion, with the field, also for a model that does not load or has another adapter.
    """
    _check_texts(name=name, adapter=adapter, factory=factory, purpose=purpose, base_model=base_model, licence=licence)
    _check_traced(adapter, (config or {}).get(ALSO_TRACED))
    _check_dates(trained_at=trained_at, training_started_at=training_started_at, at=at)
    if ModelVersion.objects.filter(service=service, name=name).exists():
        raise _name_taken(service, name)
    try:
        kept = keep_directory(directory) if directory is not None else checkpoint
    except UnableToKeepCheckpoint as reason:
        raise UnableToRegisterModelVersion(str(reason), field="checkpoint") from reason
    if kept is None and factory != PUSHED:
        raise UnableToRegisterModelVersion(
            f"A version of the factory {factory} needs a checkpoint; only one of {PUSHED} comes without.",
            field="checkpoint",
        )
    try:
        reading = _check_loads(kept, adapter=adapter, factory=factory)
        with transaction.atomic():
            return ModelVersion.objects.create(
                service=service,
                name=name,
                adapter=adapter,
                factory=factory,
                purpose=purpose,
                base_model=base_model.strip(),
                licence=licence.strip(),
                vocabulary=reading.vocabulary,
                context=reading.context,
                decoder=reading.decoder,
                config=dict(config or {}),
                checkpoint_sha256=kept and kept.digest,
                initial_sha256=kept and kept.initial_sha256,
                training_started_at=training_started_at,
                trained_at=trained_at,
                created_at=at,
            )
    except UnableToRegisterModelVersion:
        if kept is not None and not ModelVersion.objects.filter(checkpoint_sha256=kept.digest).exists():
            # Only a directory that this call put there; an uploaded one may be tried again with another factory.
            discard(kept)
        raise
    except IntegrityError:
        raise _name_taken(service, name) from None


def _check_texts(*, name: str, adapter: str, factory: str, purpose: str, base_model: str, licence: str) -> None:
    if not NAME.fullmatch(name):
        raise UnableToRegisterModelVersion(
            "A name stands in addresses: 1 to 100 letters, digits and the characters . _ : - with a letter or digit "
            "first, and no slash.",
            field="name",
        )
    if adapter not in known_adapters():
        raise UnableToRegisterModelVersion(
            f"There is no adapter {adapter!r}; there is {_listed(known_adapters())}.", field="adapter"
        )
    if factory not in known_factories():
        raise UnableToRegisterModelVersion(
            f"There is no factory {factory!r}; there is {_listed(known_factories())}. Installed packages and the "
            "setting TRIBUTARY_MODEL_FACTORIES add others.",
            field="factory",
        )
    if purpose not in Consent.Scope.values:
        raise UnableToRegisterModelVersion(
            f"There is no purpose {purpose!r}; it is one of the uses of a consent: {_listed(Consent.Scope.values)}.",
            field="purpose",
        )
    for field, text in (("base_model", base_model), ("licence", licence)):
        if len(text) > TEXT_CHARACTERS_MAX or not text.isprintable():
            raise UnableToRegisterModelVersion(
                f"{field} has up to {TEXT_CHARACTERS_MAX} printable characters.", field=field
            )


def _check_traced(adapter: str, also: Any) -> None:
    if also is None:
        return
    if not isinstance(also, list) or not set(map(str, also)) <= set(TRACEABLE):
        raise UnableToRegisterModelVersion(
            f"also_traced is a list of {' and '.join(TRACEABLE)}, not {str(also)[:80]}.", field=ALSO_TRACED
        )
    if also and adapter not in TRACING_ADAPTERS:
        raise UnableToRegisterModelVersion(
            f"also_traced is for {', '.join(TRACING_ADAPTERS)}: no layer of {adapter} is traced.", field=ALSO_TRACED
        )


def _check_dates(*, trained_at: datetime, training_started_at: datetime | None, at: datetime) -> None:
    if trained_at > at:
        raise UnableToRegisterModelVersion("A model cannot have been trained in the future.", field="trained_at")
    if training_started_at is not None and training_started_at > trained_at:
        raise UnableToRegisterModelVersion(
            f"The training cannot begin on {training_started_at.isoformat()}, after its end on "
            f"{trained_at.isoformat()}.",
            field="training_started_at",
        )


# The adapter of models that read token ids.
TOKENS_READ_BY = "causal_lm"


@dataclass(frozen=True, slots=True)
class _Reading:
    """The input of a model: the number of its tokens, how many at a time, and the file that decodes them."""

    vocabulary: int | None = None
    context: int | None = None
    decoder: str = ""


def _check_loads(kept: Checkpoint | None, *, adapter: str, factory: str) -> _Reading:
    """Load the model once: a wrong adapter or factory is told now, and not after hours of a build."""
    reading = _Reading()
    if kept is None:
        found = PUSHED
    else:
        try:
            model = load_directory(factory=factory, directory=kept.directory)
        except UnableToLoadModel as reason:
            raise UnableToRegisterModelVersion(str(reason), field="checkpoint") from reason
        found = model.adapter.name
        if found == TOKENS_READ_BY:
            vocabulary, context = (getattr(model.adapter, name, None) for name in ("vocabulary", "context"))
            reading = _Reading(vocabulary, context, find_decoder(model, kept.directory))
    if found != adapter:
        raise UnableToRegisterModelVersion(
            f"The factory {factory} makes a model of the adapter {found}, not {adapter}: register it as {found}.",
            field="adapter",
            adapter=found,
        )
    return reading


def _name_taken(service: ModelService, name: str) -> UnableToRegisterModelVersion:
    return UnableToRegisterModelVersion(
        f"{service.name} has a model version {name!r} already.", field="name", status=409
    )


def hand_over_features(*, model_version: ModelVersion, checkpoint: Checkpoint) -> ModelVersion:
    """Give a pushed version that came without a checkpoint the features of its items, once and for good.

    Raises UnableToRegisterModelVersion for a version that has its checkpoint, features that do not load, or features of
    another number of items than the manifest has.
    """
    with transaction.atomic():
        version = ModelVersion.objects.select_for_update(no_key=True).get(pk=model_version.pk)
        if version.checkpoint_sha256 is not None:
            if bytes(version.checkpoint_sha256) == checkpoint.digest:
                return version
            raise UnableToRegisterModelVersion(
                f"{version.name} has its checkpoint already; register another version for other features.",
                field="features",
                status=409,
            )
        try:
            model = load_directory(factory=version.factory, directory=checkpoint.directory)
        except UnableToLoadModel as reason:
            raise UnableToRegisterModelVersion(str(reason), field="features") from reason
        has = len(getattr(model.adapter, "items", ()))
        manifest = TrainingManifest.objects.filter(model_version=version).first()
        if manifest is not None and has != manifest.n_items:
            raise UnableToRegisterModelVersion(
                f"There are features of {has} items, and the manifest of {version.name} has {manifest.n_items}.",
                field="features",
            )
        version.checkpoint_sha256 = checkpoint.digest
        version.save(update_fields=["checkpoint_sha256"])
    return version


def find_checkpoint(*, service: ModelService, upload: str | None = None, sha256: str | None = None) -> Checkpoint:
    """Find a checkpoint of the store by a completed upload of the service or by its digest. Its files are read again.

    A digest that another service uploaded or registered is as unknown as one that is not there. Raises
    UnableToRegisterModelVersion.
    """
    if upload is not None:
        row = CheckpointUpload.objects.filter(service=service, public_id=upload).first()
        if row is None:
            raise UnableToRegisterModelVersion(f"{service.name} has no upload {upload}.", field="checkpoint.upload")
        if row.sha256 is None:
            raise UnableToRegisterModelVersion(
                f"The upload is {row.state}; only a complete one is a checkpoint.", field="checkpoint.upload"
            )
        digest = bytes(row.sha256)
    else:
        digest = bytes.fromhex(sha256 or "")
    try:
        kept = kept_checkpoint(digest) if upload is not None or _may_name(service, digest) else None
    except UnableToKeepCheckpoint as reason:
        raise UnableToRegisterModelVersion(str(reason), field="checkpoint") from reason
    if kept is None:
        raise UnableToRegisterModelVersion(
            f"There is no directory models/{digest.hex()} in the store for this service; upload it.",
            field="checkpoint.sha256",
        )
    return kept


def _may_name(service: ModelService, digest: bytes) -> bool:
    """Whether the digest is the service's own, or of a directory that nobody has claimed yet."""
    of_uploads = CheckpointUpload.objects.filter(sha256=digest).values_list("service_id", flat=True)
    of_versions = ModelVersion.objects.filter(checkpoint_sha256=digest).values_list("service_id", flat=True)
    owners = {*of_uploads, *of_versions}
    return not owners or service.pk in owners


class UnableToRetireModelVersion(Exception):
    """The model version is retired already, or the version in its place is not one that serves."""

    status = 409
    problem = "unable-to-retire-model-version"


@logged("model_version", "name", "state", key="public_id")
def retire_model_version(*, model_version: ModelVersion, at: datetime, by: User | None = None) -> ModelVersion:
    """Take no new generations of it. Reported ones are still attributed, so that its index goes on serving.

    Raises UnableToRetireModelVersion if it is retired already.
    """
    return _retire(model_version, None)


@logged("model_version", "name", "state", "superseded_by.name", key="public_id")
def supersede_model_version(
    *, model_version: ModelVersion, successor: ModelVersion, at: datetime, by: User | None = None
) -> ModelVersion:
    """Retire a version and name the version of the same service that runs in its place.

    Raises UnableToRetireModelVersion for a retired version, or a successor that has no manifest or is retired.
    """
    if successor.service_id != model_version.service_id:
        raise UnableToRetireModelVersion(f"{successor.name} belongs to another service.")
    return _retire(model_version, successor)


def _retire(model_version: ModelVersion, successor: ModelVersion | None) -> ModelVersion:
    with transaction.atomic():
        wanted = [model_version.pk] if successor is None else sorted([model_version.pk, successor.pk])
        locked = ModelVersion.objects.select_for_update(no_key=True).filter(pk__in=wanted).order_by("pk")
        rows = {row.pk: row for row in locked}
        version = rows[model_version.pk]
        if version.state == ModelVersion.State.RETIRED:
            raise UnableToRetireModelVersion(f"{version.name} is retired already.")
        if successor is not None:
            if successor.pk == version.pk:
                raise UnableToRetireModelVersion(f"{version.name} cannot take its own place.")
            after = rows[successor.pk]
            if after.state != ModelVersion.State.READY:
                lacks = "is retired" if after.state == ModelVersion.State.RETIRED else "has no training manifest yet"
                raise UnableToRetireModelVersion(f"{after.name} cannot take its place: it {lacks}.")
            version.superseded_by = after
        version.state = ModelVersion.State.RETIRED
        version.save(update_fields=["state", "superseded_by"])
    return version


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
