"""The small real programme, and a database in which its index is committed."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from datetime import datetime

import pytest
from django.conf import settings
from django.db import transaction
from pytest_django import DjangoDbBlocker

from attribution.operations import indexes
from attribution.operations.base_pool import pay_by_base_pool
from tests.databases import cloned_database, on_database
from tests.worlds.programme import Programme
from tests.worlds.trained import NOW, SMALL_INDEX, Committed, IndexedDatabase, Trained, start_programme, train_small


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A second of real training. Shared by all tests, which only read it."""
    return train_small(tmp_path_factory.mktemp("model"))


@pytest.fixture
def programme(db: None, trained: Trained, at: datetime) -> Programme:
    return start_programme(trained, at)


@pytest.fixture(scope="session")
def indexed_database(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    trained: Trained,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[IndexedDatabase]:
    """Built once: an index takes seconds, and names works and holders by their ids."""
    data = tmp_path_factory.mktemp("indexed")
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch, cloned_database() as clone:
        patch.setattr(settings, "TRIBUTARY_DATA", data)
        with on_database(clone.name):
            programme = start_programme(trained, NOW)
            built = indexes.build_index(model_version=programme.model_version, config=SMALL_INDEX, at=NOW)
            # Not evaluated: an evaluation takes many times as long as all that these tests do with the index.
            programme.indexes.append(pay_by_base_pool(index=built, at=NOW))
        yield IndexedDatabase(clone.name, data, programme)


@pytest.fixture
def indexed(
    indexed_database: IndexedDatabase, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Programme]:
    """The programme with an index that serves, in a transaction that is rolled back. Not together with `db`."""
    monkeypatch.setattr(settings, "TRIBUTARY_DATA", indexed_database.data)
    with django_db_blocker.unblock(), on_database(indexed_database.name), transaction.atomic():
        yield copy.deepcopy(indexed_database.programme)
        transaction.set_rollback(True)


@pytest.fixture
def committed(
    indexed_database: IndexedDatabase, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Committed]:
    monkeypatch.setattr(settings, "TRIBUTARY_DATA", indexed_database.data)
    with django_db_blocker.unblock(), cloned_database(indexed_database.name) as clone, on_database(clone.name):
        environment = {**os.environ, **clone.environment(), "TRIBUTARY_DATA": str(indexed_database.data)}
        yield Committed(copy.deepcopy(indexed_database.programme), environment)
