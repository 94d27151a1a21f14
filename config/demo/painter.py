"""The demo's second service, which draws: its makers' pictures, its model, its index and the evaluation of it.

The stages run on the same operations as those of the first service, and beside them where a core is free.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from attribution.models import AttributionIndex, ModelService, ModelVersion
from attribution.operations import indexes, manifests, model_versions
from config.demo import people, pictures
from config.demo.progress import Stages
from config.demo.reporting import Reported, start_service, watch_report
from contributors.models import Work
from contributors.operations import consents
from contributors.operations import works as works_operations
from people.models import User

MODEL_NAME = "icons-1"
AUDIT_SEED = 2026
OWN_GENERATIONS = 256


@dataclass
class Painter:
    """One service that draws, with the stages of the demo in which it does."""

    stages: Stages
    count: int
    """Of its generations."""
    figures: dict[str, Any] = field(default_factory=dict)
    works: dict[pictures.Picture, Work] = field(default_factory=dict)

    def register_works(self, *, at: datetime) -> None:
        """Each icon is a work of its maker; each maker allows training, from the day of registration on."""
        found = pictures.read_pictures()
        with self.stages.stage("pictures") as advance:
            for person in people.MAKERS:
                user = User.objects.get(email=person.email)
                contributor = user.contributors.get()
                own = [picture for picture in found if picture.maker.name == person.name]
                maker = own[0].maker
                dataset = works_operations.register_dataset(
                    contributor=contributor,
                    name=maker.collection,
                    description=f"Icons drawn from the font in the package `{maker.package}`.",
                    licence=maker.licence,
                    at=at,
                )
                new = [
                    works_operations.NewWork(title=one.title, modality=Work.Modality.IMAGE, content=one.content)
                    for one in own
                ]
                registered = works_operations.register_works(dataset=dataset, works=new, at=at)
                self.works |= dict(zip(own, registered, strict=True))
                consents.grant_consent(
                    contributor=contributor, scope="train_generative", valid_from=at, by=user, source="portal", at=at
                )
                advance(len(self.works), len(found))

    @contextlib.contextmanager
    def retrain_coalitions(self, *, processes: int) -> Iterator[None]:
        """Retrain the coalitions of the evaluation while the block runs."""
        from config.demo import drawing
        from influence.evaluation import lds
        from influence.scorers import IndexItem

        read = drawing.Pictures()
        items = [
            IndexItem(read.item(picture.content, None), self.works[picture].pk, self.works[picture].holder_id)
            for picture in self._trained_on
        ]
        with (
            lds.retrain_ahead(
                drawing.retraining(), items, cache=self._retrained, processes=processes, seed=AUDIT_SEED
            ) as running,
            self.stages.beside("draw_retrain", lambda: (running.done(), running.total)),
        ):
            yield

    def build_index(self, service: ModelService, *, at: datetime) -> AttributionIndex:
        """Train, register and index the drawing model, one stage after the other."""
        directory = self._train()
        version = self._register(service, directory, at=at)
        with self.stages.stage("draw_index") as advance:
            return indexes.build_index(
                model_version=version,
                config={"seed": AUDIT_SEED, "own_generations": OWN_GENERATIONS},
                at=at,
                progress=lambda _stage, done, total: advance(done, total),
            )

    def audit_index(self, index: AttributionIndex, *, processes: int, at: datetime) -> None:
        with self.stages.stage("draw_audit") as advance:
            audited = indexes.audit_index(
                index=index,
                at=at,
                # Noise is planted as sequences of tokens, which pictures have none of.
                controls=False,
                processes=processes,
                cache=self._retrained,
                progress=lambda _stage, done, total: advance(done, total),
            )
        self.figures["drawing_audit"] = {"weight_ppb": audited.weight_ppb, **(audited.audit or {})}

    @contextlib.contextmanager
    def reports(self, service: ModelService, *, url: str, since: datetime, until: datetime) -> Iterator[None]:
        """Hold the model service while the block runs; `report` lets it report."""
        wanted = Reported("drawing", MODEL_NAME, self._directory, self.count, since, until)
        with start_service(service, wanted, url=url) as process:
            self._process = process
            yield

    def report(self) -> None:
        with self.stages.stage("draw_report") as advance:
            said = watch_report(self._process, advance)
        self.figures |= {f"drawing_{name}": each for name, each in said.items()}

    @property
    def _directory(self) -> Path:
        return Path(settings.TRIBUTARY_DATA) / "demo" / "drawing"

    @property
    def _retrained(self) -> Path:
        return Path(settings.TRIBUTARY_DATA) / "demo" / "redrawn"

    @property
    def _trained_on(self) -> list[pictures.Picture]:
        return pictures.cut(tuple(self.works))[0]

    def _train(self) -> Path:
        """Train once and keep the checkpoint: an interrupted demo need not train again."""
        from config.demo import drawing

        complete = self._directory.with_suffix(".complete")
        with self.stages.stage("draw_train") as advance:
            if not complete.exists():
                items, held_out = pictures.cut(tuple(self.works))
                read = drawing.Pictures()
                drawing.train(
                    self._directory,
                    items=[read.item(picture.content, None) for picture in items],
                    held_out=[read.item(picture.content, None) for picture in held_out],
                    progress=lambda _stage, done, total: advance(done, total),
                )
                complete.touch()
        return self._directory

    def _register(self, service: ModelService, directory: Path, *, at: datetime) -> ModelVersion:
        """The service registers its model with the manifest: exactly the pictures that it was trained on."""
        with self.stages.stage("draw_manifest"):
            version = model_versions.register_model_version(
                service=service,
                name=MODEL_NAME,
                adapter="diffusion",
                factory="demo-drawing",
                purpose="train_generative",
                directory=directory,
                trained_at=at,
                at=at,
            )
            items = [
                manifests.NewItem(work_id=self.works[picture].pk, ordinal=ordinal)
                for ordinal, picture in enumerate(self._trained_on)
            ]
            manifests.register_manifest(model_version=version, items=items, at=at)
        return version
