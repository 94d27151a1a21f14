"""Malformed bytes at the doors of protobuf and Parquet: a problem in bounded time and memory, never a server error."""

from __future__ import annotations

import contextlib
import gzip
import io
import time
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from django.conf import settings as django_settings
from django.core.cache import cache
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from attribution.operations import manifest_lines
from attribution.operations.manifest_lines import PARQUET, UnableToReadManifest, read_lines
from tests.attribution.operations.test_dialects import NUMBERED, SPAN, TRACE
from tests.worlds.programme import Programme

OTLP, PROTOBUF = "/api/v1/otlp/v1/traces", "application/x-protobuf"
MANY = settings(
    max_examples=250, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
WORK = "0192f0c1-7d5c-7e57-9c5d-0d1f6b8f3c11"
# (place, replaced bytes, new bytes): cut, overwritten, inserted.
CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 40), st.binary(max_size=40)), min_size=1, max_size=4)


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, settings: Any) -> None:
    settings.TRIBUTARY_DATA = tmp_path


def changed(content: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, gone, new in changes:
        at = place % (len(content) + 1)
        content = content[:at] + new + content[at + gone :]
    return content


def export() -> bytes:
    """An export of one span that tells of a generation."""
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans.add()
    made.trace_id, made.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    made.end_time_unix_nano = int(timezone.now().timestamp()) * 10**9
    for name, value in NUMBERED.items():
        made.attributes.add(key=name).value.string_value = str(value)
    content: bytes = request.SerializeToString()
    return content


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file, **options)
    return file.getvalue()


def count_of(content: bytes) -> int:
    with read_lines(io.BytesIO(content), media_type=PARQUET) as lines:
        return lines.count


GOOD = parquet({"work": [WORK] * 30, "token_start": list(range(30)), "token_end": list(range(5, 35))})


# --- Parquet --------------------------------------------------------------------------------------------------------
@MANY
@given(changes=CHANGES)
@example(changes=[(len(GOOD) - 8, 4, b"\xff\xff\xff\x7f")])
def test_damaged_parquet_is_read_or_refused(changes: list[tuple[int, int, bytes]]) -> None:
    # Any other error fails the test.
    with contextlib.suppress(UnableToReadManifest):
        assert count_of(changed(GOOD, changes)) >= 0


@MANY
@given(content=st.binary(max_size=300).map(lambda tail: b"PAR1" + tail + b"PAR1"))
def test_any_bytes_between_the_marks_are_refused(content: bytes) -> None:
    with pytest.raises(UnableToReadManifest):
        count_of(content)


def test_good_parquet_is_read_also_as_a_dictionary_and_as_bytes() -> None:
    assert count_of(GOOD) == 30
    digest = pyarrow.array([b"\x01" * 32] * 3, pyarrow.binary(32))
    assert count_of(parquet({"sha256": digest, "part": [None, 1, 2]})) == 3
    assert count_of(parquet({"work": pyarrow.array([WORK] * 4).dictionary_encode(), "iscc": [None] * 4})) == 4


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"work": [[WORK]]}, "holds|takes only"),
        ({"work": [{"a": WORK}]}, "takes only"),
        ({"work": pyarrow.array([2**62], pyarrow.timestamp("us", tz="UTC"))}, "holds INT64"),
        ({"work": pyarrow.array([10**11], pyarrow.date64())}, "holds INT32"),
        ({"work": pyarrow.array([b"\xff\xfe"]).cast(pyarrow.binary()).view(pyarrow.utf8())}, "no readable Parquet"),
        ({"work": ["x" * 3_000]}, "a value of 3,000 bytes"),
    ],
)
def test_columns_of_another_kind_are_refused_by_name(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(UnableToReadManifest, match=words):
        count_of(parquet(columns))


def test_bombs_are_refused_before_they_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of a megabyte that stands once and is repeated by each of 200,000 rows would be 200 GB of text."""
    long = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 200_000, pyarrow.int32()), ["x" * 2**20])
    bomb = parquet({"work": long}, compression="zstd")
    assert len(bomb) < 2**21
    began = time.monotonic()
    with pytest.raises(UnableToReadManifest, match="bytes"):
        count_of(bomb)
    assert time.monotonic() - began < 20
    monkeypatch.setattr(manifest_lines, "ROW_GROUP_BYTES_MAX", 1_000)
    with pytest.raises(UnableToReadManifest, match="bytes unpacked"):
        count_of(parquet({"work": [WORK] * 1_000}, use_dictionary=False))
    monkeypatch.setattr(manifest_lines, "ROW_GROUPS_MAX", 5)
    with pytest.raises(UnableToReadManifest, match="at most 5 row groups, not 30"):
        count_of(parquet({"work": [WORK] * 30}, row_group_size=1))
    monkeypatch.setattr(manifest_lines, "ITEMS_MAX", 29)
    with pytest.raises(UnableToReadManifest, match="at most 29 items, not 30"):
        count_of(GOOD)


# --- protobuf -------------------------------------------------------------------------------------------------------
def test_malformed_protobuf_gets_a_status_and_never_a_server_error(indexed: Programme) -> None:
    indexed.at = timezone.now()
    indexed.api.raise_request_exception = False
    good = export()

    def send(content: bytes, **headers: str) -> Any:
        cache.clear()
        headers = {"Authorization": f"Bearer {indexed.key}", **headers}
        return indexed.api.post(OTLP, content, content_type=PROTOBUF, headers=headers)

    assert send(good).status_code == 200

    @settings(MANY, max_examples=120)
    @given(content=st.one_of(st.binary(max_size=200), CHANGES.map(lambda changes: changed(good, changes))).filter(bool))
    def is_answered(content: bytes) -> None:
        answer = send(content)
        assert answer.status_code in (200, 400, 422), answer.content
        assert answer["Content-Type"] == PROTOBUF

    is_answered()
    packed = {"Content-Encoding": "gzip"}
    assert send(gzip.compress(good), **packed).status_code == 200
    for damaged in (gzip.compress(good)[:-9], b"\x1f\x8b" + b"\x00" * 50, gzip.compress(good)[3:]):
        assert send(damaged, **packed).status_code == 400
    began = time.monotonic()
    bomb = gzip.compress(b"\x00" * (20 * django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE), compresslevel=1)
    assert send(bomb, **packed).status_code == 413
    assert time.monotonic() - began < 30
