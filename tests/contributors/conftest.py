from __future__ import annotations

from datetime import datetime

import pytest

from contributors.models import Contributor, Dataset
from tests.worlds import people


@pytest.fixture
def ada(db: None, at: datetime) -> Contributor:
    return people.contributor("Ada", at)


@pytest.fixture
def ben(db: None, at: datetime) -> Contributor:
    return people.contributor("Ben", at)


@pytest.fixture
def essays(ada: Contributor, at: datetime) -> Dataset:
    return people.dataset(ada, at)


@pytest.fixture
def reprints(ben: Contributor, at: datetime) -> Dataset:
    return people.dataset(ben, at, "Reprints")
