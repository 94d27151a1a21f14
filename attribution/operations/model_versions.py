"""Model versions and their training data: the checkpoint kept by its digest, the manifest with its consents."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pkgutil
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from attribution.models import ManifestWork, ModelService, ModelVersion, TrainingItem, TrainingManifest
from contributors.models import Consent, Work
from contributors.queries.consents import consents_in_force

CHECKPOINT_FILES_MAX = 10_000
CHECKPOINT_BYTES_MAX = 200 * 2**30
COPY_BYTES = 2**20
ITEMS_MAX = 2_000_000
INSERT_ROWS = 5_000
INITIAL_CHECKPOINT = "initial.safetensors"
# Works named in a refusal; a manifest without any consent would otherwise name thousands.
NAMED_MAX = 20
TRAINING_SCOPE = Consent.Scope.TRAIN_GENERATIVE


class UnableToRegisterModelVersion(Exception):
    """The name is taken or empty, adapter or factory are unknown, or the checkpoint directory cannot be kept."""

    status = 409
    problem = "unable-to-register-model-version"


def register_model_version(
    *,
    service: ModelService,
    name: str,
    adapter: str,
    factory: str,
    config: Mapping[str, Any],
    directory: Path,
    trained_at: datetime,
    at: datetime,
) -> ModelVersion:
    """Copy the checkpoint's files to where only their digest names them, and register the version.

    A file `initial.safetensors` is the checkpoint that training started from. Only adapters that exist and factories
    that the settings name can be registered: code that loads a model is never taken from outside.
    Raises UnableToRegisterModelVersion, with the reason, also for a name in use and a training date in the future.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}", name):
        raise UnableToRegisterModelVersion("A name has up to 100 letters, digits and . _ : / - characters.")
    if adapter not in known_adapters():
        raise UnableToRegisterModelVersion(f"There is no adapter {adapter!r}; there is {_listed(known_adapters())}.")
    if factory not in settings.TRIBUTARY_MODEL_FACTORIES:
        known = _listed(settings.TRIBUTARY_MODEL_FACTORIES)
        raise UnableToRegisterModelVersion(f"The settings name no factory {factory!r}; they name {known}.")
    if trained_at > at:
        raise UnableToRegisterModelVersion("A model cannot have been trained in the future.")
    if ModelVersion.objects.filter(service=service, name=name).exists():
        raise UnableToRegisterModelVersion(f"{service.name} has a model version {name!r} already.")
    kept = _keep(directory)
    try:
        with transaction.atomic():
            return ModelVersion.objects.create(
                service=service,
                name=name,
                adapter=adapter,
                factory=factory,
                config=dict(config),
                checkpoint_sha256=kept.digest,
                initial_sha256=kept.files.get(INITIAL_CHECKPOINT),
                trained_at=trained_at,
                created_at=at,
            )
    except IntegrityError:
        raise UnableToRegisterModelVersion(f"{service.name} has a model version {name!r} already.") from None


class UnableToRetireModelVersion(Exception):
    """The model version is retired already."""

    status = 409
    problem = "unable-to-retire-model-version"


def retire_model_version(*, model_version: ModelVersion) -> ModelVersion:
    """Take no new generations of it. Reported ones are still attributed, so that its index goes on serving.

    Raises UnableToRetireModelVersion if it is retired already.
    """
    with transaction.atomic():
        version = ModelVersion.objects.select_for_update(no_key=True).get(pk=model_version.pk)
        if version.state == ModelVersion.State.RETIRED:
            raise UnableToRetireModelVersion(f"{version.name} is retired already.")
        version.state = ModelVersion.State.RETIRED
        version.save(update_fields=["state"])
    return version


def known_adapters() -> frozenset[str]:
    """The names of the modules in influence.adapters, found without importing them (they load torch)."""
    spec = importlib.util.find_spec("influence.adapters")
    assert spec is not None
    return frozenset(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations))


@dataclass(frozen=True, slots=True)
class NewItem:
    """A training item to be: tokens token_start up to, not including, token_end of a work's body."""

    work_id: int
    ordinal: int
    token_start: int
    token_end: int


class UnableToRegisterManifest(Exception):
    """The items are not well formed, or a work lacks the consent; `members["works"]` names such works."""

    status = 409
    problem = "unable-to-register-manifest"

    def __init__(self, detail: str, *, works: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.members = {"works": list(works)} if works else {}


def register_manifest(*, model_version: ModelVersion, items: Sequence[NewItem], at: datetime) -> TrainingManifest:
    """Record the exact training data of a model version, each work with the consent in force when it was trained.

    Refused as a whole when one work lacks that consent: a model trained on it must not be reported for. Raises
    UnableToRegisterManifest, also for a version that has its manifest or is retired, and for an unknown work.
    """
    _check_items(items)
    with transaction.atomic():
        version = ModelVersion.objects.select_for_update(no_key=True).get(pk=model_version.pk)
        if version.state != ModelVersion.State.REGISTERED:
            raise UnableToRegisterManifest(f"{version.name} has its manifest, or is retired.")
        works = Work.objects.in_bulk({item.work_id for item in items})
        missing = {item.work_id for item in items} - works.keys()
        if missing:
            raise UnableToRegisterManifest(f"There is no work {min(missing)}.")
        consents = _consents(works.values(), at=version.trained_at)
        manifest = TrainingManifest.objects.create(
            model_version=version,
            sha256=_digest_of_items(items, works),
            n_items=len(items),
            n_works=len(works),
            created_at=at,
        )
        ManifestWork.objects.bulk_create(
            (ManifestWork(manifest=manifest, work_id=pk, consent=consent) for pk, consent in sorted(consents.items())),
            batch_size=INSERT_ROWS,
        )
        TrainingItem.objects.bulk_create(
            (
                TrainingItem(
                    manifest=manifest,
                    ordinal=item.ordinal,
                    work_id=item.work_id,
                    token_start=item.token_start,
                    token_end=item.token_end,
                )
                for item in items
            ),
            batch_size=INSERT_ROWS,
        )
        version.state = ModelVersion.State.READY
        version.save(update_fields=["state"])
    return manifest


def _check_items(items: Sequence[NewItem]) -> None:
    if not 1 <= len(items) <= ITEMS_MAX:
        raise UnableToRegisterManifest(f"A manifest holds 1 to {ITEMS_MAX} items, not {len(items)}.")
    ordinals = [item.ordinal for item in items]
    if len(set(ordinals)) != len(ordinals) or min(ordinals) < 0:
        raise UnableToRegisterManifest("Ordinals are numbers from 0, each used once.")
    for item in items:
        if not 0 <= item.token_start < item.token_end:
            raise UnableToRegisterManifest(f"Item {item.ordinal} is no range of tokens.")


def _consents(works: Iterable[Work], *, at: datetime) -> dict[int, Consent]:
    by_pk = {work.pk: work for work in works}
    found = consents_in_force(work_ids=sorted(by_pk), scope=TRAINING_SCOPE, at=at)
    lacking = [by_pk[pk] for pk in sorted(by_pk.keys() - found.keys())]
    if lacking:
        titles = ", ".join(f"“{work.title}”" for work in lacking[:NAMED_MAX])
        more = f" and {len(lacking) - NAMED_MAX} more" if len(lacking) > NAMED_MAX else ""
        raise UnableToRegisterManifest(
            f"No consent to {TRAINING_SCOPE} was in force on {at:%Y-%m-%d} for {titles}{more}.",
            works=[str(work.public_id) for work in lacking],
        )
    return found


def _digest_of_items(items: Sequence[NewItem], works: Mapping[int, Work]) -> bytes:
    """sha256 over one line an item, by ordinal: ordinal, the work's public id and content digest, its tokens."""
    digest = hashlib.sha256()
    for item in sorted(items, key=lambda item: item.ordinal):
        work = works[item.work_id]
        content = bytes(work.sha256).hex()
        line = f"{item.ordinal}\t{work.public_id}\t{content}\t{item.token_start}\t{item.token_end}\n"
        digest.update(line.encode())
    return digest.digest()


# --- keeping a checkpoint -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Kept:
    digest: bytes
    files: Mapping[str, bytes]


def digest_of_directory(*, directory: Path) -> bytes:
    """sha256 over the lines that `sha256sum` would print for every file, in order of their relative paths."""
    return _digest_of_files({name: _hash(path) for name, path in _files_of(directory).items()})


def _keep(directory: Path) -> _Kept:
    """Copy a directory to models/<digest>/; it appears there complete or not at all."""
    models = Path(settings.TRIBUTARY_DATA) / "models"
    models.mkdir(parents=True, exist_ok=True)
    incoming = models / f".incoming-{uuid.uuid4().hex}"
    try:
        incoming.mkdir()
        # Hashed while it is copied: the digest is that of the kept bytes, even if the original changes.
        files = {name: _hash(path, copy_to=incoming / name) for name, path in _files_of(directory).items()}
        digest = _digest_of_files(files)
        target = models / digest.hex()
        try:
            os.rename(incoming, target)
        except OSError:
            if not target.is_dir():
                raise
            # The same bytes were kept before, or by another process just now.
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return _Kept(digest, files)


def _files_of(directory: Path) -> dict[str, Path]:
    if not directory.is_dir():
        raise UnableToRegisterModelVersion(f"There is no directory {directory}.")
    found: dict[str, Path] = {}
    size_bytes = 0
    for path in sorted(directory.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file():
            raise UnableToRegisterModelVersion(f"{path.name} is a link or no ordinary file.")
        size_bytes += path.stat().st_size
        found[path.relative_to(directory).as_posix()] = path
        if len(found) > CHECKPOINT_FILES_MAX or size_bytes > CHECKPOINT_BYTES_MAX:
            raise UnableToRegisterModelVersion("The checkpoint directory is too large.")
    if not found:
        raise UnableToRegisterModelVersion(f"There is no file in {directory}.")
    return found


def _hash(path: Path, *, copy_to: Path | None = None) -> bytes:
    digest = hashlib.sha256()
    if copy_to is None:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").digest()
    copy_to.parent.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as source, copy_to.open("wb") as target:
        while block := source.read(COPY_BYTES):
            digest.update(block)
            target.write(block)
        target.flush()
        os.fsync(target.fileno())
    return digest.digest()


def _digest_of_files(files: Mapping[str, bytes]) -> bytes:
    lines = (f"{digest.hex()}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).digest()


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
