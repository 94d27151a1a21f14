"""Every address, with ids of nothing and with ids of somebody else: nobody reads a page that is not theirs."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver

from tests.people.test_audit_lines import _patterns
from tests.worlds import people

pytestmark = pytest.mark.django_db
KINDS: dict[str, Callable[[], str]] = {"uuid": lambda: str(uuid.uuid4()), "int": lambda: "987654321"}
# The offline verifier is a program for everybody.
PUBLIC = ("/portal/statements/verify_statement.py",)
# They end the session, or answer without end.
SKIPPED = ("accounts/logout/",)


def addresses(known: dict[str, str] | None = None) -> list[str]:
    """Each route, with ids of nothing in its places, or the `known` value of a place's kind."""
    found = []
    for _, route, _view in _patterns(get_resolver().url_patterns, "", ""):
        if route.startswith(("^", "console/tables/")) or "(?P" in route or route in SKIPPED:
            continue
        found.append("/" + re.sub(r"<(?:(\w+):)?\w+>", lambda place: _value(place[1] or "str", known or {}), route))
    return found


def _value(kind: str, known: dict[str, str]) -> str:
    return known.get(kind) or KINDS.get(kind, lambda: "nothing")()


def statuses(client: Client, known: dict[str, str] | None = None) -> dict[str, Any]:
    client.raise_request_exception = False
    return {address: client.get(address) for address in addresses(known)}


def test_nobody_without_a_role_reads_a_page_of_staff_or_of_somebody_else(client: Client, at: datetime) -> None:
    people.contributor("Ada", at)
    ben = people.contributor("Ben", at)
    theirs = people.dataset(ben, at, name="Secret dataset of Ben")
    known = {"uuid": str(theirs.public_id), "int": str(ben.pk)}
    people.log_in(client, "ada@example.org")
    for reader in (Client(), client):
        for address, answer in statuses(reader, known).items():
            assert answer.status_code < 500, address
            if address.startswith("/console/"):
                assert answer.status_code in (302, 403, 404, 405), (address, answer.status_code)
            if reader is not client and address.startswith("/portal/") and address not in PUBLIC:
                assert answer.status_code in (302, 404, 405), (address, answer.status_code)
            text = b"" if answer.streaming else answer.content
            for secret in (b"Secret dataset of Ben", b"Ben Legal", b"ben@example.org"):
                assert secret not in text, (address, secret)


@pytest.mark.parametrize("role", ["compliance", "admin", "model_team"])
def test_no_address_fails_for_staff_with_ids_of_nothing(client: Client, at: datetime, role: str) -> None:
    people.user("sam@example.org", at, (role,), second_factor=True)
    people.log_in(client, "sam@example.org", code=people.totp_code)
    broken = {address: answer.status_code for address, answer in statuses(client).items() if answer.status_code >= 500}
    assert not broken
