"""Uploads of checkpoints in parts: announced, resumed, checked by digest, and removed when they stay unfinished."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings
from django.db import transaction

from attribution.models import CheckpointUpload, ModelService, UploadFile
from attribution.operations.checkpoints import (
    CHECKPOINT_BYTES_MAX,
    CHECKPOINT_FILES_MAX,
    adopt_directory,
    digest_of_file,
)

PART_BYTES = 8 * 2**20
OPEN_MAX = 8
PATH_CHARACTERS_MAX = 300
LIFE = timedelta(hours=48)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
State = CheckpointUpload.State


class UnableToUpload(Exception):
    """The files, the part or its place are refused; `members` names the file and the received bytes."""

    problem = "unable-to-upload"

    def __init__(self, detail: str, *, status: int = 422, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.members = members


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to come: its path in the checkpoint's directory, its size in bytes, its digest in hexadecimal digits."""

    path: str
    size: int
    sha256: str


def open_upload(*, service: ModelService, files: Sequence[NewFile], at: datetime) -> CheckpointUpload:
    """Announce the files of a checkpoint. Raises UnableToUpload for a path, size or digest that cannot be one."""
    if not 1 <= len(files) <= CHECKPOINT_FILES_MAX:
        raise UnableToUpload(
            f"A checkpoint has 1 to {CHECKPOINT_FILES_MAX:,} files, not {len(files):,}.", field="files"
        )
    for place, file in enumerate(files):
        _check_file(place, file)
    _check_together(files)
    with transaction.atomic():
        ModelService.objects.select_for_update(no_key=True).get(pk=service.pk)
        unfinished = CheckpointUpload.objects.filter(service=service, state=State.OPEN, expires_at__gt=at).count()
        if unfinished >= OPEN_MAX:
            raise UnableToUpload(
                f"{service.name} has {OPEN_MAX} unfinished uploads; complete one, or wait until one has expired.",
                status=409,
            )
        upload = CheckpointUpload.objects.create(
            service=service, part_size=PART_BYTES, created_at=at, expires_at=at + LIFE
        )
        UploadFile.objects.bulk_create(
            UploadFile(upload=upload, path=file.path, size=file.size, sha256=bytes.fromhex(file.sha256))
            for file in files
        )
    return upload


def received(upload: CheckpointUpload) -> dict[str, int]:
    """The received bytes of each file, from its beginning."""
    if upload.state == State.COMPLETE:
        return dict(upload.files.values_list("path", "size"))
    directory = _directory(upload)
    return {
        path: (directory / path).stat().st_size if (directory / path).exists() else 0
        for path in upload.files.values_list("path", flat=True)
    }


def write_part(*, upload: CheckpointUpload, path: str, offset: int, block: bytes, at: datetime) -> int:
    """Write a part of a file at its place and return the received bytes of that file.

    A part may be repeated, and begins no later than the received bytes end. Raises UnableToUpload.
    """
    with transaction.atomic():
        row = _locked(upload, at=at)
        file = row.files.filter(path=path).first()
        if file is None:
            raise UnableToUpload(f"The upload has no file {path!r}.", status=404, field="path")
        place = _directory(row) / path
        has = place.stat().st_size if place.exists() else 0
        if not 0 <= offset <= has:
            raise UnableToUpload(
                f"{path} has {has} bytes; a part cannot begin at {offset}. Go on at {has}.",
                status=409,
                field="offset",
                received=has,
            )
        if len(block) > row.part_size:
            raise UnableToUpload(f"A part has at most {row.part_size} bytes.", status=413, part_size=row.part_size)
        if offset + len(block) > file.size:
            raise UnableToUpload(
                f"{path} was announced with {file.size} bytes; this part would end at {offset + len(block)}.",
                field="offset",
                received=has,
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("r+b" if place.exists() else "xb") as opened:
            opened.seek(offset)
            opened.write(block)
            opened.flush()
            os.fsync(opened.fileno())
        row.expires_at = at + LIFE
        row.save(update_fields=["expires_at"])
    return max(has, offset + len(block))


def complete_upload(*, upload: CheckpointUpload, at: datetime) -> CheckpointUpload:
    """Check every file and move the directory to the store. A completed upload is answered the same again.

    Raises UnableToUpload for a file that is not whole, and for one with another digest, which begins anew.
    """
    if upload.state == State.COMPLETE:
        return upload
    directory = _directory(upload)
    has = received(upload)
    files: dict[str, bytes] = {}
    announced = list(upload.files.order_by("path"))
    for file in announced:
        if has[file.path] != file.size:
            raise UnableToUpload(
                f"{file.path} has {has[file.path]} of its {file.size} bytes.",
                status=409,
                field="path",
                path=file.path,
                received=has[file.path],
            )
    for file in announced:
        place = directory / file.path
        if not file.size:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        # Outside the lock: a large file takes minutes.
        files[file.path] = digest_of_file(place)
        if files[file.path] != bytes(file.sha256):
            place.unlink()
            raise UnableToUpload(
                f"{file.path} arrived with the sha256 {files[file.path].hex()}, not {bytes(file.sha256).hex()}. Send "
                "it again from its beginning.",
                field="path",
                path=file.path,
                received=0,
            )
    with transaction.atomic():
        row = CheckpointUpload.objects.select_for_update(no_key=True).get(pk=upload.pk)
        if row.state == State.OPEN:
            row.sha256, row.state = adopt_directory(directory, files).digest, State.COMPLETE
            row.save(update_fields=["sha256", "state"])
    if row.state != State.COMPLETE:
        raise _expired(row)
    return row


def expire_uploads(*, at: datetime) -> int:
    """Remove the bytes of unfinished uploads that no part has reached for LIFE; returns their number."""
    done = 0
    for pk in CheckpointUpload.objects.filter(state=State.OPEN, expires_at__lte=at).values_list("pk", flat=True):
        with transaction.atomic():
            row = CheckpointUpload.objects.select_for_update(no_key=True, skip_locked=True).filter(pk=pk).first()
            if row is None or row.state != State.OPEN or row.expires_at > at:
                continue
            row.state = State.EXPIRED
            row.save(update_fields=["state"])
            shutil.rmtree(_directory(row), ignore_errors=True)
            done += 1
    return done


def _directory(upload: CheckpointUpload) -> Path:
    return Path(settings.TRIBUTARY_DATA) / upload.directory


def _locked(upload: CheckpointUpload, *, at: datetime) -> CheckpointUpload:
    row = CheckpointUpload.objects.select_for_update(no_key=True).get(pk=upload.pk)
    if row.state == State.COMPLETE:
        raise UnableToUpload("The upload is complete: its files do not change any more.", status=409)
    if row.state == State.EXPIRED or row.expires_at <= at:
        raise _expired(row)
    return row


def _expired(row: CheckpointUpload) -> UnableToUpload:
    hours = LIFE // timedelta(hours=1)
    return UnableToUpload(
        f"The upload had no part for {hours} hours and has expired on {row.expires_at.isoformat()}; begin another.",
        status=410,
    )


def _check_file(place: int, file: NewFile) -> None:
    path = PurePosixPath(file.path)
    fits = 1 <= len(file.path) <= PATH_CHARACTERS_MAX and file.path.isprintable() and "\\" not in file.path
    if not fits or path.is_absolute() or ".." in path.parts or str(path) != file.path or file.path == ".":
        raise UnableToUpload(
            f"File {place + 1}: its path must be relative, of up to {PATH_CHARACTERS_MAX} printable characters, with / "
            "between folders and without “..”.",
            field=f"files.{place}.path",
        )
    if not 0 <= file.size <= CHECKPOINT_BYTES_MAX:
        raise UnableToUpload(
            f"{file.path}: its size must be 0 to {CHECKPOINT_BYTES_MAX} bytes.", field=f"files.{place}.size"
        )
    if not _SHA256.fullmatch(file.sha256):
        raise UnableToUpload(
            f"{file.path}: its sha256 must be 64 hexadecimal digits in small letters.", field=f"files.{place}.sha256"
        )


def _check_together(files: Sequence[NewFile]) -> None:
    names: Mapping[str, NewFile] = {file.path: file for file in files}
    if len(names) != len(files):
        twice = next(file.path for place, file in enumerate(files) if names[file.path] is not files[place])
        raise UnableToUpload(f"{twice} is named twice.", field="files")
    for file in files:
        for parent in PurePosixPath(file.path).parents:
            if str(parent) in names:
                raise UnableToUpload(f"{parent} cannot be a file and the folder of {file.path}.", field="files")
    total = sum(file.size for file in files)
    if total > CHECKPOINT_BYTES_MAX:
        raise UnableToUpload(
            f"The files have {total} bytes in all; {CHECKPOINT_BYTES_MAX} ({CHECKPOINT_BYTES_MAX // 2**30} GiB) are "
            "allowed.",
            field="files",
        )
