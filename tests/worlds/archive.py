"""Files and partitions that an operator moves away, for the tests that go on without them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from attribution.models import AttributionIndex
from config.engine.roles import APP_ROLE, OWNER_ROLE
from tests.worlds.programme import Programme


def detach_documents() -> None:
    """Detach a closed month, as the database's administrator may."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SELECT DISTINCT tableoid::regclass::text FROM ledger_accrual")
        partitions = [row[0] for row in cursor.fetchall()]
        cursor.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
        for partition in partitions:
            cursor.execute(f"ALTER TABLE ledger_accrual DETACH PARTITION {partition}")
        cursor.execute(f"SET LOCAL ROLE {APP_ROLE}")


def own_copy(programme: Programme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AttributionIndex:
    """The fixture's index is shared: a test that changes its files works on a copy."""
    shutil.copytree(settings.TRIBUTARY_DATA, tmp_path / "own")
    monkeypatch.setattr(settings, "TRIBUTARY_DATA", tmp_path / "own")
    assert programme.index is not None
    return programme.index
