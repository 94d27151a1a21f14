from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest
from django.conf import settings
from django.contrib.auth.hashers import reset_hashers

from contributors.models import Contributor, Dataset
from tests.contributors import people


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Argon2 is slow by design; a test makes many people and few of them log in."""
    monkeypatch.setattr(settings, "PASSWORD_HASHERS", ["django.contrib.auth.hashers.MD5PasswordHasher"])
    reset_hashers(setting="PASSWORD_HASHERS")
    yield
    reset_hashers(setting="PASSWORD_HASHERS")


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
