"""Lines of a training manifest, one for each training item, checked before they are sent.

A line names its work by exactly one of `work`, `sha256`, `iscc` or `fingerprint`. It may name a part: `token_start` and
`token_end` for text, `part` for other media. Without either it is the whole work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Union

from tributary.errors import InvalidInput

REFERENCES = ("work", "sha256", "iscc", "fingerprint")
RANGE = ("token_start", "token_end")
FIELDS = frozenset({*REFERENCES, *RANGE, "part"})
JSON_LINES = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
PARQUET_MAGIC = b"PAR1"
LINE_BYTES_MAX = 16_384
BLOCK_BYTES = 256 * 1024

Item = Mapping[str, Any]
Source = Union[str, "os.PathLike[str]", Iterable[Item]]


def checked(item: Any, line: int) -> dict[str, Any]:
    """Return an item of a manifest, or raise InvalidInput with line and field."""
    if not isinstance(item, Mapping):
        raise InvalidInput('an object is needed, such as {"work": "0192..."}', line=line)
    found = {name: value for name, value in item.items() if value is not None}
    strangers = sorted(set(found) - FIELDS)
    if strangers:
        raise InvalidInput(f"nobody reads it; there is {', '.join(sorted(FIELDS))}", field=strangers[0], line=line)
    named = [name for name in REFERENCES if name in found]
    if len(named) != 1:
        told = " and ".join(named) or "none"
        raise InvalidInput(f"name the work by exactly one of {', '.join(REFERENCES)}; here is {told}", line=line)
    if not isinstance(found[named[0]], str) or not found[named[0]]:
        raise InvalidInput("a text is needed", field=named[0], line=line)
    _check_range(found, line)
    return found


def _check_range(found: Mapping[str, Any], line: int) -> None:
    for name in (*RANGE, "part"):
        value = found.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise InvalidInput(f"a whole number from 0 is needed, not {value!r:.40}", field=name, line=line)
    if sum(name in found for name in RANGE) == 1:
        raise InvalidInput("token_start and token_end belong together", field="token_start", line=line)
    if "token_start" in found and found["token_start"] >= found["token_end"]:
        raise InvalidInput(
            f"it ends at {found['token_end']}, not after its start {found['token_start']}", field="token_end", line=line
        )
    if "token_start" in found and "part" in found:
        raise InvalidInput("a line has a range of tokens or a part, not both", field="part", line=line)


def encoded(item: Item, line: int) -> bytes:
    """Encode a checked item as one line."""
    return json.dumps(checked(item, line), separators=(",", ":"), sort_keys=True).encode() + b"\n"


def read_items(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the items of a file of JSON lines. Raises InvalidInput with the line, and OSError."""
    with open(path, "rb") as file:
        number = 0
        while True:
            line = file.readline(LINE_BYTES_MAX + 1)
            if not line:
                return
            number += 1
            if len(line) > LINE_BYTES_MAX:
                raise InvalidInput(f"a line has at most {LINE_BYTES_MAX} bytes", line=number)
            if not line.isspace():
                yield checked(_parsed(line, number), number)


def _parsed(line: bytes, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"it is no JSON: {error}", line=number) from None


def media_type_of(path: str | os.PathLike[str]) -> str:
    """Tell JSON lines from Parquet by the first bytes of a file. Raises InvalidInput for an empty file."""
    with open(path, "rb") as file:
        first = file.read(len(PARQUET_MAGIC))
    if not first:
        raise InvalidInput(f"{os.fspath(path)} is empty: a manifest has one line for each training item")
    return PARQUET if first == PARQUET_MAGIC else JSON_LINES


def blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the bytes of an open file in blocks."""
    while True:
        block = file.read(BLOCK_BYTES)
        if not block:
            return
        yield block
