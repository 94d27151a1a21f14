"""The spool: a line that report() has written is sent, also after kill -9, a full disk and a half line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clients.python.tests.servers import KEY, QUICK, Reply, Request, Server, stored
from tributary import Tributary
from tributary.spool import SpoolBuffer


def client_of(server: Server, folder: Path, **options: Any) -> Tributary:
    return Tributary(server.url, KEY, spool=folder, backoff=QUICK, interval_seconds=0.05, **options)


def names_of(server: Server) -> list[str]:
    return [name for request in server.received for name in request.ids]


def test_a_spooled_report_arrives_and_leaves_no_file(server: Server, tmp_path: Path) -> None:
    with client_of(server, tmp_path / "spool") as client:
        for number in range(5):
            client.report(model_version="m", output="x", external_id=f"g{number}")
        assert client.flush(5)
    assert names_of(server) == [f"g{number}" for number in range(5)]
    assert list((tmp_path / "spool").iterdir()) == []


PRODUCER = """
import sys
from tributary import Tributary
client = Tributary(sys.argv[1], "trib_test_key", spool=sys.argv[2], interval_seconds=0.01)
for number in range(100_000):
    name = client.report(model_version="m", output="x" * 200, external_id=f"{sys.argv[3]}-{number}")
    sys.stdout.write(name + "\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("away", [True, False], ids=["server away", "server there"])
def test_kill_9_loses_nothing_that_was_spooled(server: Server, tmp_path: Path, away: bool) -> None:
    address = "http://127.0.0.1:9" if away else server.url
    acknowledged: list[str] = []
    for turn in range(3):
        command = [sys.executable, "-c", PRODUCER, address, str(tmp_path), f"turn{turn}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged += [process.stdout.readline().strip() for _ in range(400 * (turn + 1))]
            process.send_signal(signal.SIGKILL)
            acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
    with client_of(server, tmp_path) as client:
        assert client.flush(30)
    assert set(acknowledged) <= set(names_of(server))
    assert list(tmp_path.iterdir()) == []


def test_reports_of_a_closed_client_are_sent_by_the_next_one(server: Server, tmp_path: Path) -> None:
    away = Tributary("http://127.0.0.1:9", KEY, spool=tmp_path, backoff=QUICK)
    for number in range(3):
        away.report(model_version="m", output="x", external_id=f"g{number}")
    assert not away.close(0.1)
    assert away.counts().dropped == 0
    with client_of(server, tmp_path) as client:
        assert client.flush(5)
    assert names_of(server) == ["g0", "g1", "g2"]


def test_answered_lines_are_not_sent_again(server: Server, tmp_path: Path) -> None:
    first = SpoolBuffer(tmp_path, 10**6)
    lines = [b'{"external_id":"g%d"}' % number for number in range(6)]
    assert all(first.put(line) for line in lines)
    assert first.take(4, 10**6) == lines[:4]
    first.settle(4)
    first.close()
    second = SpoolBuffer(tmp_path, 10**6)
    assert len(second) == 2
    assert second.take(10, 10**6) == lines[4:]
    second.close()


def test_a_half_line_of_a_killed_process_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"external_id":"whole"}\n{"external_id":"ha')
    buffer = SpoolBuffer(tmp_path, 10**6)
    assert buffer.take(10, 10**6) == [b'{"external_id":"whole"}']
    assert buffer.torn == 1
    buffer.close()


def test_a_segment_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    living = SpoolBuffer(tmp_path, 10**6)
    living.put(b"{}")
    other = SpoolBuffer(tmp_path, 10**6)
    assert (len(living), len(other)) == (1, 0)
    living.close()
    other.close()


def test_segments_are_changed_and_removed_when_they_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tributary.spool.SEGMENT_BYTES", 100)
    buffer = SpoolBuffer(tmp_path, 10**6)
    lines = [b"%050d" % number for number in range(20)]
    assert all(buffer.put(line) for line in lines)
    assert len(list(tmp_path.glob("*.jsonl"))) == 10
    sent = []
    while len(buffer):
        batch = buffer.take(3, 10**6)
        sent += batch
        buffer.settle(len(batch))
    assert sent == lines
    assert len(list(tmp_path.iterdir())) <= 2
    buffer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_spool_drops_and_counts(server: Server, tmp_path: Path) -> None:
    client = Tributary("http://127.0.0.1:9", KEY, spool=tmp_path, spool_bytes=1_000, backoff=QUICK)
    for _ in range(10):
        client.report(model_version="m", output="x" * 300)
    counts = client.counts()
    assert counts.buffered + counts.dropped == 10
    assert 0 < counts.buffered < 4
    client.close(0.0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_drops_and_counts(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path, 10**6)
    assert buffer.put(b"one")
    full = os.open("/dev/full", os.O_WRONLY)
    kept = os.dup(buffer._segments[-1].file)
    os.dup2(full, buffer._segments[-1].file)
    assert not buffer.put(b"two")
    os.dup2(kept, buffer._segments[-1].file)
    assert buffer.put(b"three")
    assert buffer.take(10, 10**6) == [b"one", b"three"]
    buffer.close()
    os.close(full)
    os.close(kept)


def test_a_server_that_refuses_a_batch_gets_every_line_in_order(server: Server, tmp_path: Path) -> None:
    answers = iter([503, 500, 429])

    def reply(request: Request) -> Reply:
        status = next(answers, None)
        return Reply(status, {}) if status else stored(request)

    server.reply = reply
    with client_of(server, tmp_path, batch_items=4) as client:
        for number in range(10):
            client.report(model_version="m", output="x", external_id=f"g{number}")
        assert client.flush(10)
    assert client.counts().stored == 10
    taken = [name for request in server.received[3:] for name in request.ids]
    assert taken == [f"g{number}" for number in range(10)]


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path / "spool", 10**6)
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "spool").iterdir())
    buffer.close()
