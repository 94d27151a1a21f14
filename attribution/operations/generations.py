"""Many generations stored by one statement, and the files of those that are not text."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from django.db import connection

from attribution.models import Generation, GenerationPart
from attribution.operations.outputs import Part
from attribution.operations.retention import lock_output
from contributors.operations import contents
from contributors.queries.contents import OUTPUTS

WITHDRAWN = "It was taken back before it was attributed."


def insert_generations(rows: Sequence[Mapping[str, Any]]) -> dict[str, uuid.UUID]:
    """Insert generations of one service that are not stored yet; return the ids of the new ones by external id.

    A row names its columns; an absent column takes the default of its field. Bytes travel as hexadecimal text. A
    row with an external id that is stored already is passed over, also when another process stores it at this moment.
    """
    if not rows:
        return {}
    statement, defaults = _statement()
    # In one order everywhere: two reports of the same ids then wait for each other instead of locking crosswise.
    ordered = sorted(rows, key=lambda row: row["external_id"])
    text = orjson.dumps([{**defaults, **row} for row in ordered], default=_as_json)
    with connection.cursor() as cursor:
        cursor.execute(statement, [text.decode()])
        return dict(cursor.fetchall())


def insert_parts(parts_of: Mapping[uuid.UUID, Sequence[Part]]) -> None:
    """Keep the files of new generations, each under its digest, and name them by rows.

    A file is stored before its row: one that no row names is harmless, a row without its file is not.
    """
    rows = []
    kept = {part.sha256 for parts in parts_of.values() for part in parts if part.content is not None}
    for digest in sorted(kept):
        # No purge removes the file before this transaction has named it.
        lock_output(digest=digest, shared=True)
    for pk, parts in parts_of.items():
        for part in parts:
            if part.content is not None:
                contents.store(OUTPUTS, part.sha256, part.content)
            rows.append(
                GenerationPart(
                    generation_id=pk,
                    position=part.position,
                    modality=part.modality,
                    media_type=part.media_type,
                    sha256=part.sha256,
                    size_bytes=part.size_bytes,
                    is_kept=part.content is not None,
                    fingerprint=part.fingerprint,
                )
            )
    if rows:
        GenerationPart.objects.bulk_create(rows)


def withdraw(*, generation_id: uuid.UUID) -> bool:
    """Take a generation out of the queue that was voided before its attribution; returns whether it waited there.

    One that a worker holds at this moment is attributed. The void keeps it from earning anything all the same.
    """
    waiting = Generation.objects.select_for_update(skip_locked=True, no_key=True)
    row = waiting.filter(pk=generation_id, state=Generation.State.RECEIVED).first()
    if row is None:
        return False
    row.state, row.error = Generation.State.UNATTRIBUTABLE, WITHDRAWN
    row.save(update_fields=["state", "error"])
    return True


def _as_json(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return value.hex()
    raise TypeError(f"{type(value).__name__} is no value of a column")


@functools.cache
def _statement() -> tuple[str, dict[str, Any]]:
    """Make the statement of the table's columns, and the value of each column that a row may leave out.

    One JSON document and one statement: on 1,000 rows this takes a sixth of the ORM's time, and a twentieth more than
    COPY into the same table.
    """
    fields = Generation._meta.concrete_fields
    types = {str(field.column): str(field.db_type(connection)) for field in fields}
    columns = ", ".join(types)
    read = ", ".join(f"decode({name}, 'hex')" if kind == "bytea" else name for name, kind in types.items())
    typed = ", ".join(f"{name} {'text' if kind == 'bytea' else kind}" for name, kind in types.items())
    statement = (
        f"INSERT INTO {Generation._meta.db_table} ({columns}) "
        f"SELECT {read} FROM json_to_recordset(%s) AS given ({typed}) "
        "ON CONFLICT (service_id, external_id) DO NOTHING RETURNING external_id, id"
    )
    optional = [field for field in fields if not field.primary_key and (field.has_default() or field.blank)]
    return statement, {str(field.column): field.get_default() for field in optional}
