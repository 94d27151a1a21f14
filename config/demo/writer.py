"""The demo's first service, which writes: its authors' works and its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from attribution.operations import manifests
from config.demo import corpus, people
from config.demo.studio import Studio
from contributors.models import Work
from contributors.operations.works import NewWork
from people.models import User

if TYPE_CHECKING:
    from config.demo.model import Tokeniser
    from influence.adapters import Retrain
    from influence.scorers import IndexItem


@dataclass
class Writer(Studio):
    """The service that writes, with the stages of the demo in which it does."""

    works: dict[corpus.Address, Work] = field(default_factory=dict)

    kind: ClassVar[str] = "text"
    model_name: ClassVar[str] = "sotu-1"
    adapter: ClassVar[str] = "causal_lm"
    factory: ClassVar[str] = "demo"
    folder: ClassVar[str] = "model"

    def register_works(self, *, at: datetime) -> None:
        """Each address is a work of its author."""
        addresses = corpus.plant_copies(corpus.read_addresses())
        with self.stages.stage("works") as advance:
            for person in people.AUTHORS:
                own = [address for address in addresses if address.author.name == person.name]
                new = [
                    NewWork(
                        title=address.title,
                        modality=Work.Modality.TEXT,
                        content=address.content.encode(),
                        published_on=address.date,
                    )
                    for address in own
                ]
                registered = self.register_collection(
                    User.objects.get(email=person.email),
                    new,
                    at=at,
                    name="Annual messages to Congress",
                    description="Public domain text from the package `sotu`.",
                    licence="CC0-1.0",
                )
                self.works |= dict(zip(own, registered, strict=True))
                advance(len(self.works), len(addresses))

    @cached_property
    def _tokeniser(self) -> Tokeniser:
        from config.demo.model import Tokeniser

        return Tokeniser.train(address.body for address in self.works)

    @cached_property
    def _cut(self) -> corpus.Cut:
        return corpus.cut_works(list(self.works), encode=self._tokeniser.encode)

    def retraining(self) -> Retrain:
        from config.demo import model

        return model.retraining()

    def trained_items(self) -> list[IndexItem]:
        from config.demo import model
        from influence.scorers import IndexItem

        addresses = list(self.works)
        held = [self.works[addresses[item.work]] for item in self._cut.items]
        examples = model.examples(self._tokeniser, addresses, self._cut.items)
        return [IndexItem(example, work.pk, work.holder_id) for example, work in zip(examples, held, strict=True)]

    def manifest_items(self) -> list[manifests.NewItem]:
        addresses = list(self.works)
        return [
            manifests.NewItem(
                work_id=self.works[addresses[item.work]].pk,
                ordinal=ordinal,
                token_start=item.token_start,
                token_end=item.token_end,
            )
            for ordinal, item in enumerate(self._cut.items)
        ]

    def train_model(self, directory: Path, report: Callable[[str, int, int], None]) -> None:
        from config.demo import model

        addresses = list(self.works)
        model.train(
            directory,
            items=model.examples(self._tokeniser, addresses, self._cut.items),
            held_out=model.examples(self._tokeniser, addresses, self._cut.held_out),
            tokeniser=self._tokeniser,
            progress=report,
        )
