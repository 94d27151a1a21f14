"""A small programme of pictures: icons by eight makers, and the service of a tiny real model that draws."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from attribution.models import AttributionIndex, ModelService, ModelVersion
from attribution.operations import indexes, manifests, model_services, model_versions
from attribution.operations.base_pool import pay_by_base_pool
from config.demo import drawing, pictures
from contributors.models import Contributor, Work
from contributors.operations import consents, people
from contributors.operations.works import NewWork, register_dataset, register_works
from influence.adapters import Example
from people.models import User
from people.operations import users
from tests.worlds.programme import Programme
from tests.worlds.trained import REGISTERED_AT, SMALL_INDEX, TRAINED_AT

PER_MAKER = 7
HELD_OUT = 1


@dataclass(frozen=True)
class Painted:
    """The files that training left on disk, the pictures it used, and some drawings of the model."""

    directory: Path
    pictures: tuple[pictures.Picture, ...]
    drawn: tuple[Example, ...]


def train_small(directory: Path) -> Painted:
    """Train the demo's drawing model for a second on a few icons of each maker."""
    found = pictures.read_pictures(per_maker=PER_MAKER)
    read = drawing.Pictures()
    examples = [read.item(picture.content, None) for picture in found]
    kept = [place for place in range(len(found)) if place % PER_MAKER >= HELD_OUT]
    model = drawing.train(
        directory,
        items=[examples[place] for place in kept],
        held_out=[example for place, example in enumerate(examples) if place not in set(kept)],
        training=drawing.Training(steps=240, batch=32),
        shape=drawing.Shape(width=32, layers=1),
    )
    assert model.sample is not None
    return Painted(directory, tuple(found[place] for place in kept), tuple(model.sample(16, 1)))


@dataclass
class Painting:
    """The programme, and the painter's index."""

    programme: Programme
    painted: Painted
    index: AttributionIndex

    def drawing(self, number: int = 0, external_id: str = "p1", **changes: Any) -> dict[str, Any]:
        """A well-formed report of one of the model's drawings."""
        example = self.painted.drawn[number]
        body: dict[str, Any] = {
            "external_id": external_id,
            "model_version": self.programme.model_version.name,
            "occurred_at": (self.programme.at - timedelta(hours=1)).isoformat(),
            "prompt": {"text": drawing.prompt_of(example)},
            "output": {"media": {"type": "image/png", "base64": base64.b64encode(drawing.as_png(example)).decode()}},
        }
        return {**body, **changes}


def register_makers(painted: Painted) -> tuple[list[User], list[Contributor], list[Work]]:
    """Register each maker with its pictures; each consents to training."""
    at = REGISTERED_AT
    members, contributors, works = [], [], []
    for place, maker in enumerate(pictures.MAKERS):
        user = users.register_user(
            email=f"maker{place}@example.org", password="a long enough phrase", name=maker.name, at=at
        )
        contributor = people.register_contributor(
            user=user, kind="person", legal_name=maker.name, display_name=maker.name, country="US", at=at
        )
        dataset = register_dataset(
            contributor=contributor, name=maker.collection, description="", licence=maker.licence, at=at
        )
        own = [picture for picture in painted.pictures if picture.maker == maker]
        works += register_works(
            dataset=dataset,
            works=[NewWork(picture.title, Work.Modality.IMAGE, picture.content) for picture in own],
            at=at,
        )
        consents.grant_consent(
            contributor=contributor, scope="train_generative", valid_from=at, by=user, source="test", at=at
        )
        members.append(user)
        contributors.append(contributor)
    return members, contributors, works


def start_painting(painted: Painted, at: datetime) -> Painting:
    members, contributors, works = register_makers(painted)
    service = model_services.register_service(name="Icon painter", at=at)
    _, key = model_services.issue_key(service=service, scopes=["generations:write", "generations:read"], at=at)
    version = register_version(service, painted, at=at)
    manifests.register_manifest(
        model_version=version,
        items=[manifests.NewItem(work.pk, ordinal) for ordinal, work in enumerate(works)],
        at=at,
    )
    version.refresh_from_db()
    built = indexes.build_index(model_version=version, config=SMALL_INDEX, at=at)
    # Not evaluated: one test does that.
    index = pay_by_base_pool(index=built, at=at)
    programme = Programme(contributors, members, works, [service], [key], [version], [index], at=at)
    return Painting(programme, painted, index)


def register_version(service: ModelService, painted: Painted, *, at: datetime, name: str = "icons-1") -> ModelVersion:
    return model_versions.register_model_version(
        service=service,
        name=name,
        adapter="diffusion",
        factory="demo-drawing",
        purpose="train_generative",
        directory=painted.directory,
        trained_at=TRAINED_AT,
        at=at,
    )
