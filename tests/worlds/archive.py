"""Files and partitions that an operator moves away, for the tests that go on without them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from attribution.models import AttributionIndex
from attribution.operations import indexes
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


def serve_by_sums(programme: Programme) -> AttributionIndex:
    """Let an index of rule 1, sums of holders, take over from the fixture's; the same one when it did before."""
    assert programme.index is not None
    if programme.index.rule == 1:
        return programme.index
    config = {**programme.index.config, "rule": 1}
    row = indexes.build_index(model_version=programme.model_version, config=config, at=programme.at)
    report = {"index_sha256": bytes(row.sha256 or b"").hex(), "passed": True, "weight_ppb": 0}
    programme.indexes[-1] = indexes.record_audit(index=row, report=report, at=programme.at)
    return programme.index
