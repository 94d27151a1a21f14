"""A model service of the demo, from its works to its reports: the stages that both services go through alike."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings

from attribution.models import AttributionIndex, ModelService, ModelVersion
from attribution.operations import indexes, manifests, model_versions
from config.demo.progress import Stages
from config.demo.reporting import Reported, start_service, watch_report
from contributors.operations import consents
from contributors.operations import works as works_operations
from people.models import User

if TYPE_CHECKING:
    from contributors.models import Contributor, Work
    from influence.adapters import Retrain
    from influence.scorers import IndexItem

AUDIT_SEED = 2026
"""Damping and checkpoints were chosen on the coalitions of seed 0: the audit draws others."""


@dataclass
class Studio(ABC):
    """One model service with its makers, its model, its index and the evaluation of that, each a stage of the demo."""

    stages: Stages
    count: int
    """Of its generations."""
    figures: dict[str, Any] = field(default_factory=dict)

    kind: ClassVar[str]
    """The kind of process that samples and reports, in config/demo/service.py."""
    model_name: ClassVar[str]
    adapter: ClassVar[str]
    factory: ClassVar[str]
    folder: ClassVar[str]
    """Of the trained model, in the demo's data."""
    prefix: ClassVar[str] = ""
    """Of the names of its stages."""
    figures_prefix: ClassVar[str] = ""
    index_config: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def retraining(self) -> Retrain:
        """Train the same model on other items, for the evaluation."""

    @abstractmethod
    def trained_items(self) -> list[IndexItem]:
        """Read the items that the model is trained on, each with its work and holder, in the manifest's order."""

    @abstractmethod
    def manifest_items(self) -> list[manifests.NewItem]:
        """List the same items as the manifest names them."""

    @abstractmethod
    def train_model(self, directory: Path, report: Callable[[str, int, int], None]) -> None:
        """Train the model and keep its checkpoint in `directory`."""

    @property
    def directory(self) -> Path:
        return Path(settings.TRIBUTARY_DATA) / "demo" / self.folder

    @property
    def _retrained(self) -> Path:
        # Beside the model, and not below the model version that is yet to be registered: an interrupted demo begins
        # anew with both.
        return Path(settings.TRIBUTARY_DATA) / "demo" / f"{self.folder}-retrained"

    def register_collection(
        self, user: User, new: Sequence[works_operations.NewWork], *, at: datetime, **dataset: str
    ) -> list[Work]:
        """Register the works of one maker as a dataset; the maker allows training, from that day on."""
        contributor: Contributor = user.contributors.get()
        registered = works_operations.register_works(
            dataset=works_operations.register_dataset(contributor=contributor, at=at, **dataset), works=new, at=at
        )
        consents.grant_consent(
            contributor=contributor, scope="train_generative", valid_from=at, by=user, source="portal", at=at
        )
        return registered

    @contextlib.contextmanager
    def retrain_coalitions(self, *, processes: int) -> Iterator[None]:
        """Retrain the coalitions of the evaluation while the block runs."""
        from influence.evaluation import lds

        with (
            lds.retrain_ahead(
                self.retraining(), self.trained_items(), cache=self._retrained, processes=processes, seed=AUDIT_SEED
            ) as running,
            self.stages.beside(f"{self.prefix}retrain", lambda: (running.done(), running.total)),
        ):
            yield

    def train(self) -> None:
        """Train once and keep the checkpoint: an interrupted demo need not train again."""
        complete = self.directory.with_suffix(".complete")
        with self.stages.stage(f"{self.prefix}train") as advance:
            if not complete.exists():
                self.train_model(self.directory, lambda _stage, done, total: advance(done, total))
                complete.touch()

    def register(self, service: ModelService, *, at: datetime) -> ModelVersion:
        """The service registers its model with the manifest: exactly the items that it was trained on."""
        with self.stages.stage(f"{self.prefix}manifest"):
            version = model_versions.register_model_version(
                service=service,
                name=self.model_name,
                adapter=self.adapter,
                factory=self.factory,
                purpose="train_generative",
                directory=self.directory,
                trained_at=at,
                at=at,
            )
            manifests.register_manifest(model_version=version, items=self.manifest_items(), at=at)
        return version

    def build_index(self, version: ModelVersion, *, at: datetime) -> AttributionIndex:
        with self.stages.stage(f"{self.prefix}index") as advance:
            return indexes.build_index(
                model_version=version,
                config={"seed": AUDIT_SEED, **self.index_config},
                at=at,
                progress=lambda _stage, done, total: advance(done, total),
            )

    def audit_index(self, index: AttributionIndex, *, processes: int, at: datetime) -> None:
        with self.stages.stage(f"{self.prefix}audit") as advance:
            audited = indexes.audit_index(
                index=index,
                at=at,
                # One more training with noise and a copier in it: `manage.py audit_index` has the time for it.
                controls=False,
                processes=processes,
                cache=self._retrained,
                progress=lambda _stage, done, total: advance(done, total),
            )
        self.figures[f"{self.figures_prefix}audit"] = {"weight_ppb": audited.weight_ppb, **(audited.audit or {})}

    @contextlib.contextmanager
    def reports(self, service: ModelService, *, url: str, since: datetime, until: datetime) -> Iterator[None]:
        """Hold the model service while the block runs; `report` lets it report."""
        wanted = Reported(self.kind, self.model_name, self.directory, self.count, since, until)
        with start_service(service, wanted, url=url) as process:
            self._process = process
            yield

    def report(self) -> None:
        with self.stages.stage(f"{self.prefix}report") as advance:
            said = watch_report(self._process, advance)
        self.figures |= {f"{self.figures_prefix or 'service_'}{name}": each for name, each in said.items()}
