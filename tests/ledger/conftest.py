from __future__ import annotations

from pathlib import Path

import pytest

from tests.worlds.programme import Programme, build_programme


@pytest.fixture
def programme(db: None, tmp_path: Path) -> Programme:
    """Authors, services, models and a plan, and nothing generated yet."""
    return build_programme(tmp_path)


@pytest.fixture
def accrued(programme: Programme) -> Programme:
    """Thirty generations of October, attributed and accrued."""
    programme.attribute(programme.generate(30))
    programme.accrue()
    return programme
