"""A small real programme: four authors, a tiny real model trained on their words, a service that reports for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attribution.models import ModelService, ModelVersion
from attribution.operations import manifests, model_services, model_versions
from config.demo import corpus, model
from contributors.models import Contributor, Work
from contributors.operations import consents, people
from contributors.operations.works import NewWork, register_dataset, register_works
from influence.adapters import Example
from people.models import User
from people.operations import users
from tests.worlds.programme import Programme

ITEM_TOKENS = 48
TRAINED_AT = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
REGISTERED_AT = datetime(2026, 10, 1, tzinfo=UTC)
SMALL_INDEX: dict[str, Any] = {"coordinates": 256, "k": 16, "fit_items": 60, "pca_items": 120, "own_generations": 16}


@dataclass(frozen=True)
class Trained:
    """The files that training left on disk, and the works it used: `items` are (work, start, end)."""

    directory: Path
    addresses: tuple[Any, ...]
    items: tuple[tuple[int, int, int], ...]


def train_small(directory: Path) -> Trained:
    """Train the demo's model for a second on excerpts of four addresses."""
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
    model.train(
        directory,
        items=examples[:-6],
        held_out=examples[-6:],
        tokeniser=tokeniser,
        training=model.Training(epochs=3, batch=16, warmup=5),
        shape=model.Shape(width=16, layers=1, heads=2),
    )
    return Trained(directory, addresses, items[:-6])


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
    return Programme(contributors, [user], works, [service], [key], [version], at=at)


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


@dataclass(frozen=True)
class Committed:
    """The programme with its index in a database of this test alone, where other processes can work on it."""

    programme: Programme
    environment: dict[str, str]
