"""Logs of a running installation: bounded in size, and one line a request."""

from __future__ import annotations

import logging
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import get_resolver

from config.engine.processes import turn_log
from tests.databases import CommittedDatabase
from tests.people.test_audit_lines import _patterns
from tests.web_server import running_web


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


SECRET = "Zm9vYmFyLXNlY3JldC10b2tlbg"


def test_no_log_of_the_web_server_holds_a_one_time_token(committed_database: CommittedDatabase, tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    addresses = [
        *(f"/{name}/{SECRET}/" for name in settings.SECRET_ADDRESSES),
        f"/join/{SECRET}",
        f"/accounts/login/?next=/join/{SECRET}/",
        f"/accounts/login/?next=%2Faccounts%2Fpassword%2Freset%2Fkey%2F{SECRET}%2F",
    ]
    with running_web(os.environ, log=log) as port:
        for address in addresses:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{address}", timeout=20).close()
            except urllib.error.HTTPError as refused:
                refused.close()
        deadline = time.monotonic() + 10
        while log.read_text().count("[secret]") < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
    text = log.read_text()
    # Redirections have no line of their own.
    assert text.count("[secret]") >= 4
    assert "/join/[secret]/" in text
    assert SECRET not in text


def test_every_address_with_a_token_is_among_the_secret_ones() -> None:
    with_token = [
        route
        for _, route, _ in _patterns(get_resolver().url_patterns, "", "")
        if re.search(r"<(?:\w+:)?(?:token|key|uidb36)>", route) and not route.startswith("console/")
    ]
    assert len(with_token) >= 4
    for route in with_token:
        assert route.replace("^", "").startswith(tuple(f"{name}/" for name in settings.SECRET_ADDRESSES)), route


def test_a_crash_of_a_page_with_a_token_is_logged_without_it() -> None:
    clean: Any = settings.LOGGING["formatters"]["json"]["foreign_pre_chain"][-1]  # type: ignore[index]
    event: dict[str, Any] = {"event": f"Internal Server Error: /join/{SECRET}/", "code": 500}
    assert clean(None, "error", event)["event"] == "Internal Server Error: /join/[secret]/"
