"""Logs of a running installation: bounded in size, and one line a request."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from django.test import Client

from config.engine.processes import turn_log


def test_a_large_log_is_turned_and_the_program_goes_on_in_the_same_file(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    with log.open("ab", buffering=0) as program:
        program.write(b"a" * 11)
        turn_log(log, bytes_max=11)
        assert not (tmp_path / "web.log.1").exists()
        program.write(b"b")
        turn_log(log, bytes_max=11)
        program.write(b"c")
    assert (tmp_path / "web.log.1").read_bytes() == b"a" * 11 + b"b"
    assert log.read_bytes() == b"c"


def test_a_request_writes_one_line(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for path in ("/livez", "/api/v1/nothing"):
        caplog.clear()
        client.get(path)
        lines = [str(record.msg) for record in caplog.records if path in str(record.msg)]
        assert len(lines) == 1, lines
        assert "request_finished" in lines[0]
