"""A small real programme: four authors, a tiny real model trained on their words, a service that reports for it."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.test import Client
from pytest_django import DjangoDbBlocker

from attribution.models import AttributionIndex, ModelService, ModelVersion
from attribution.operations import indexes, manifests, model_services, model_versions, reports
from contributors.models import Contributor, Work
from contributors.operations import consents, people
from contributors.operations.works import NewWork, register_dataset, register_works
from people.models import User
from people.operations import users
from tests.databases import cloned_database, on_database

ITEM_TOKENS = 48
TRAINED_AT = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
REGISTERED_AT = datetime(2026, 10, 1, tzinfo=UTC)
OUTPUT = " and House of Representatives, the state of the Union is peace."
SMALL_INDEX: dict[str, Any] = {"coordinates": 256, "k": 16, "fit_items": 60, "pca_items": 120, "own_generations": 16}


@dataclass(frozen=True)
class Trained:
    """The files that training left on disk, and the works it used: `items` are (work, start, end)."""

    directory: Path
    addresses: tuple[Any, ...]
    items: tuple[tuple[int, int, int], ...]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A second of real training. Shared by all tests, which only read it."""
    from config.demo import corpus, model
    from influence.adapters import Example

    whole = {address.author: address for address in corpus.read_addresses()}
    addresses = tuple(
        corpus.Address(address.author, address.title, address.date, address.body[:4_500])
        for address in list(whole.values())[:4]
    )
    tokeniser = model.Tokeniser.train(address.body for address in addresses)
    items = tuple(
        (work, start, start + ITEM_TOKENS)
        for work, address in enumerate(addresses)
        for start in range(0, len(tokeniser.encode(address.body)) - ITEM_TOKENS, ITEM_TOKENS)
    )
    examples: list[Example] = [tokeniser.item(addresses[work].content, start, end) for work, start, end in items]
    directory = tmp_path_factory.mktemp("model")
    model.train(
        directory,
        items=examples[:-6],
        held_out=examples[-6:],
        tokeniser=tokeniser,
        training=model.Training(epochs=3, batch=16, warmup=5),
        shape=model.Shape(width=16, layers=1, heads=2),
    )
    return Trained(directory, addresses, items[:-6])


@dataclass
class Programme:
    """The participants, and the key with which the service reports."""

    user: User
    contributors: list[Contributor]
    works: list[Work]
    service: ModelService
    model_version: ModelVersion
    key: str
    at: datetime
    index: AttributionIndex | None = None
    client: Client = field(default_factory=lambda: Client(headers={"Host": "127.0.0.1"}))

    def generation(self, external_id: str = "g1", **changes: Any) -> dict[str, Any]:
        """A well-formed generation, as a service would report it."""
        body: dict[str, Any] = {
            "external_id": external_id,
            "model_version": self.model_version.name,
            "occurred_at": (self.at - timedelta(hours=1)).isoformat(),
            "prompt": {"text": "Fellow citizens of the Senate"},
            "output": {"text": OUTPUT},
        }
        return {**body, **changes}

    def recent(self, external_id: str, **changes: Any) -> dict[str, Any]:
        """A generation of a minute ago by the real clock, for processes that read it."""
        moment = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        return self.generation(external_id, occurred_at=moment, **changes)

    def report(self, *generations: Any) -> list[reports.ReportResult]:
        return reports.report_generations(service=self.service, generations=generations, at=self.at)

    def post(self, body: Any, *, key: str | None = None) -> Any:
        """The same through the API; `body` is sent as JSON unless it is bytes already."""
        return self.client.post(
            "/api/v1/generations",
            body,
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.key if key is None else key}"},
        )


def new_work(address: Any) -> NewWork:
    return NewWork(address.title, Work.Modality.TEXT, address.content.encode(), address.date)


def register_people(addresses: tuple[Any, ...]) -> tuple[User, list[Contributor], list[Work]]:
    """Register one contributor for each address; each consents to training."""
    at = REGISTERED_AT
    user = users.register_user(email="editor@example.org", password="a long enough phrase", at=at)
    contributors, works = [], []
    for address in addresses:
        contributor = people.register_contributor(
            user=user,
            kind="person",
            legal_name=address.author.name,
            display_name=address.author.name,
            country="US",
            at=at,
        )
        dataset = register_dataset(
            contributor=contributor, name="Addresses", description="", licence="public domain", at=at
        )
        works += register_works(dataset=dataset, works=[new_work(address)], at=at)
        consents.grant_consent(
            contributor=contributor, scope="train_generative", valid_from=at, by=user, source="test", at=at
        )
        contributors.append(contributor)
    return user, contributors, works


@pytest.fixture
def programme(db: None, trained: Trained, at: datetime) -> Programme:
    return start_programme(trained, at)


def start_programme(trained: Trained, at: datetime) -> Programme:
    user, contributors, works = register_people(trained.addresses)
    service = model_services.register_service(name="orator", at=at)
    _, key = model_services.issue_key(service=service, scopes=["generations:write", "generations:read"], at=at)
    version = register_version(service, trained, at=at)
    manifests.register_manifest(
        model_version=version,
        items=[
            manifests.NewItem(works[work].pk, ordinal, start, end)
            for ordinal, (work, start, end) in enumerate(trained.items)
        ],
        at=at,
    )
    version.refresh_from_db()
    return Programme(user, contributors, works, service, version, key, at)


def register_version(service: ModelService, trained: Trained, *, at: datetime, name: str = "orator-1") -> ModelVersion:
    return model_versions.register_model_version(
        service=service,
        name=name,
        adapter="causal_lm",
        factory="demo",
        purpose="train_generative",
        directory=trained.directory,
        trained_at=TRAINED_AT,
        at=at,
    )


@dataclass(frozen=True)
class IndexedDatabase:
    """A database in which the programme with its index is committed, and the files that belong to it."""

    name: str
    data: Path
    programme: Programme


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
            programme.index = indexes.build_index(model_version=programme.model_version, config=SMALL_INDEX, at=NOW)
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


@dataclass(frozen=True)
class Committed:
    """The programme with its index in a database of this test alone, where other processes can work on it."""

    programme: Programme
    environment: dict[str, str]


@pytest.fixture
def committed(
    indexed_database: IndexedDatabase, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Committed]:
    monkeypatch.setattr(settings, "TRIBUTARY_DATA", indexed_database.data)
    with django_db_blocker.unblock(), cloned_database(indexed_database.name) as clone, on_database(clone.name):
        environment = {**os.environ, **clone.environment(), "TRIBUTARY_DATA": str(indexed_database.data)}
        yield Committed(copy.deepcopy(indexed_database.programme), environment)
