from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from tests.ledger.programme import Programme, build_programme


@pytest.fixture
def programme(db: None, tmp_path: Path) -> Iterator[Programme]:
    """Authors, services, models and a plan, and nothing generated yet."""
    # Argon2 is slow by design, and no test of the ledger is about passwords.
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield build_programme(tmp_path)


@pytest.fixture
def accrued(programme: Programme) -> Programme:
    """Thirty generations of October, attributed and accrued."""
    programme.attribute(programme.generate(30))
    programme.accrue()
    return programme
