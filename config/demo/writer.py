"""The demo's first service, which writes: its authors' works, its model, its index and the evaluation of it."""

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
from config.demo import corpus, people
from config.demo.progress import Stages
from config.demo.reporting import Reported, start_service, watch_report
from contributors.models import Work
from contributors.operations import consents
from contributors.operations import works as works_operations
from people.models import User

MODEL_NAME = "sotu-1"
AUDIT_SEED = 2026


@dataclass
class Writer:
    """One service that writes, with the stages of the demo in which it does."""

    stages: Stages
    count: int
    """Of its generations."""
    figures: dict[str, Any] = field(default_factory=dict)
    works: dict[corpus.Address, Work] = field(default_factory=dict)

    def register_works(self, *, at: datetime) -> None:
        """Each address is a work of its author; each author allows training, from the day of registration on."""
        addresses = corpus.plant_copies(corpus.read_addresses())
        with self.stages.stage("works") as advance:
            for person in people.AUTHORS:
                user = User.objects.get(email=person.email)
                contributor = user.contributors.get()
                own = [address for address in addresses if address.author.name == person.name]
                dataset = works_operations.register_dataset(
                    contributor=contributor,
                    name="Annual messages to Congress",
                    description="Public domain text from the package `sotu`.",
                    licence="CC0-1.0",
                    at=at,
                )
                works = works_operations.register_works(
                    dataset=dataset,
                    works=[
                        works_operations.NewWork(
                            title=address.title,
                            modality=Work.Modality.TEXT,
                            content=address.content.encode(),
                            published_on=address.date,
                        )
                        for address in own
                    ],
                    at=at,
                )
                self.works |= dict(zip(own, works, strict=True))
                consents.grant_consent(
                    contributor=contributor, scope="train_generative", valid_from=at, by=user, source="portal", at=at
                )
                advance(len(self.works), len(addresses))

    @contextlib.contextmanager
    def retrain_coalitions(self, *, processes: int) -> Iterator[None]:
        """Retrain the coalitions of the evaluation while the block runs."""
        from config.demo import model
        from influence.evaluation import lds
        from influence.scorers import IndexItem

        addresses = list(self.works)
        tokeniser = model.Tokeniser.train(address.body for address in addresses)
        cut = corpus.cut_works(addresses, encode=tokeniser.encode)
        held = [self.works[addresses[item.work]] for item in cut.items]
        items = [
            IndexItem(example, work.pk, work.holder_id)
            for example, work in zip(model.examples(tokeniser, addresses, cut.items), held, strict=True)
        ]
        with (
            lds.retrain_ahead(
                model.retraining(), items, cache=self._retrained, processes=processes, seed=AUDIT_SEED
            ) as running,
            self.stages.beside("retrain", lambda: (running.done(), running.total)),
        ):
            yield

    @property
    def _directory(self) -> Path:
        return Path(settings.TRIBUTARY_DATA) / "demo" / "model"

    @property
    def _retrained(self) -> Path:
        # Beside the model, and not below the model version that is yet to be registered: an interrupted demo begins
        # anew with both.
        return Path(settings.TRIBUTARY_DATA) / "demo" / "retrained"

    def train(self) -> Path:
        """Train once and keep the checkpoint: an interrupted demo need not train again."""
        from config.demo import model

        directory = self._directory
        complete = directory.with_suffix(".complete")
        with self.stages.stage("train") as advance:
            if complete.exists():
                return directory
            addresses = list(self.works)
            tokeniser = model.Tokeniser.train(address.body for address in addresses)
            cut = corpus.cut_works(addresses, encode=tokeniser.encode)
            model.train(
                directory,
                items=model.examples(tokeniser, addresses, cut.items),
                held_out=model.examples(tokeniser, addresses, cut.held_out),
                tokeniser=tokeniser,
                progress=lambda _stage, done, total: advance(done, total),
            )
            complete.touch()
        return directory

    def register(self, service: ModelService, *, at: datetime) -> ModelVersion:
        """The service registers its model with the manifest: exactly the items that it was trained on."""
        from config.demo import model

        with self.stages.stage("manifest"):
            version = model_versions.register_model_version(
                service=service,
                name=MODEL_NAME,
                adapter="causal_lm",
                factory="demo",
                purpose="train_generative",
                directory=self._directory,
                trained_at=at,
                at=at,
            )
            addresses = list(self.works)
            tokeniser = model.load(self._directory).tokeniser
            cut = corpus.cut_works(addresses, encode=tokeniser.encode)
            manifests.register_manifest(
                model_version=version,
                items=[
                    manifests.NewItem(
                        work_id=self.works[addresses[item.work]].pk,
                        ordinal=ordinal,
                        token_start=item.token_start,
                        token_end=item.token_end,
                    )
                    for ordinal, item in enumerate(cut.items)
                ],
                at=at,
            )
        return version

    def build_index(self, version: ModelVersion, *, at: datetime) -> AttributionIndex:
        with self.stages.stage("index") as advance:
            return indexes.build_index(
                model_version=version,
                # Damping and checkpoints were chosen on the coalitions of seed 0: the audit draws others.
                config={"seed": AUDIT_SEED},
                at=at,
                progress=lambda _stage, done, total: advance(done, total),
            )

    def audit_index(self, index: AttributionIndex, *, processes: int, at: datetime) -> None:
        with self.stages.stage("audit") as advance:
            audited = indexes.audit_index(
                index=index,
                at=at,
                # One more training with noise and a copier in it: `manage.py audit_index` has the time for it.
                controls=False,
                processes=processes,
                cache=self._retrained,
                progress=lambda _stage, done, total: advance(done, total),
            )
        self.figures["audit"] = {"weight_ppb": audited.weight_ppb, **(audited.audit or {})}

    @contextlib.contextmanager
    def reports(self, service: ModelService, *, url: str, since: datetime, until: datetime) -> Iterator[None]:
        """Hold the model service while the block runs; `report` lets it report."""
        wanted = Reported("text", MODEL_NAME, self._directory, self.count, since, until)
        with start_service(service, wanted, url=url) as process:
            self._process = process
            yield

    def report(self) -> None:
        with self.stages.stage("report") as advance:
            said = watch_report(self._process, advance)
        self.figures |= {f"service_{name}": each for name, each in said.items()}
