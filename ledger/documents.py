"""Documents of generations, and how they travel to the server: as a COPY or as arrays, with the digest of both.

Knows no database: the journal posts them, and ledger_digest_documents makes the same digest of the stored documents.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt

_COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_COPY_TRAILER = struct.pack(">h", -1)
_INT8_OID = 20
_ELEMENT = np.dtype([("length", ">i4"), ("value", ">i8")])
_ROW_HEAD = struct.Struct(">hi16siiiqiqiqiq")
_ARRAY_HEAD = struct.Struct(">iiiii")
_DIGESTED = struct.Struct(">16siqqq")
_SIZE = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class Document:
    """One generation's credits, to be posted by `journal.post_accruals`.

    All accounts have one asset. `amounts` sum to `gross`; all are positive, or all negative in the reversal of
    revision -revision.
    """

    generation_id: UUID
    revision: int
    plan_id: int
    source_id: int
    gross: int
    account_ids: Sequence[int] | npt.NDArray[np.int64]
    amounts: Sequence[int] | npt.NDArray[np.int64]


@dataclass(slots=True)
class Wire:
    """Documents in key order as the server takes them, and the digest that ledger_digest_documents makes of them."""

    documents: list[Document]
    lengths: list[int]
    accounts: npt.NDArray[np.int64]
    amounts: npt.NDArray[np.int64]
    # Both arrays of each document as bigint[] is sent.
    arrays: list[tuple[bytes, bytes]]
    digest: bytes

    def stream(self, batch_id: int) -> bytes:
        """As a binary COPY."""
        parts = [_COPY_HEADER]
        for d, (accounts, amounts) in zip(self.documents, self.arrays, strict=True):
            head = (8, 16, d.generation_id.bytes, 4, d.revision, 8, batch_id, 8, d.source_id, 8, d.gross, 8, d.plan_id)
            parts += _ROW_HEAD.pack(*head), _SIZE.pack(len(accounts)), accounts, _SIZE.pack(len(amounts)), amounts
        parts.append(_COPY_TRAILER)
        return b"".join(parts)

    def arguments(self) -> list[str]:
        """As array literals, for ledger_post_documents."""
        columns: list[Iterable[object]] = [
            [d.generation_id for d in self.documents],
            [d.revision for d in self.documents],
            [d.source_id for d in self.documents],
            [d.gross for d in self.documents],
            [d.plan_id for d in self.documents],
            self.lengths,
            self.accounts.tolist(),
            self.amounts.tolist(),
        ]
        return ["{" + ",".join(map(str, column)) + "}" for column in columns]


def on_the_wire(documents: Sequence[Document]) -> Wire:
    ordered = sorted(documents, key=lambda d: (d.generation_id.bytes, d.revision))
    lengths = [len(d.amounts) for d in ordered]
    accounts = np.concatenate([np.asarray(d.account_ids, dtype=np.int64) for d in ordered])
    amounts = np.concatenate([np.asarray(d.amounts, dtype=np.int64) for d in ordered])
    # 12 bytes an element: its length, its value.
    elements = np.full(2 * len(accounts), 8, dtype=_ELEMENT)
    elements["value"][: len(accounts)], elements["value"][len(accounts) :] = accounts, amounts
    raw = elements.tobytes()
    arrays: list[tuple[bytes, bytes]] = []
    digested: list[bytes] = []
    start, half = 0, len(raw) // 2
    for d, n in zip(ordered, lengths, strict=True):
        end = start + 12 * n
        head = _ARRAY_HEAD.pack(1, 0, _INT8_OID, n, 1)
        pair = head + raw[start:end], head + raw[half + start : half + end]
        arrays.append(pair)
        digested += _DIGESTED.pack(d.generation_id.bytes, d.revision, d.source_id, d.gross, d.plan_id), *pair
        start = end
    return Wire(ordered, lengths, accounts, amounts, arrays, hashlib.sha256(b"".join(digested)).digest())
