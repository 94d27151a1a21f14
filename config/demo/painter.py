"""The demo's second service, which draws: its makers' pictures and its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attribution.operations import manifests
from config.demo import people, pictures
from config.demo.studio import Studio
from contributors.models import Work
from contributors.operations.works import NewWork
from people.models import User

if TYPE_CHECKING:
    from influence.adapters import Example, Retrain
    from influence.scorers import IndexItem


@dataclass
class Painter(Studio):
    """The service that draws, with the stages of the demo in which it does."""

    works: dict[pictures.Picture, Work] = field(default_factory=dict)

    kind: ClassVar[str] = "drawing"
    model_name: ClassVar[str] = "icons-1"
    adapter: ClassVar[str] = "diffusion"
    factory: ClassVar[str] = "demo-drawing"
    folder: ClassVar[str] = "drawing"
    prefix: ClassVar[str] = "draw_"
    figures_prefix: ClassVar[str] = "drawing_"
    index_config: ClassVar[Mapping[str, Any]] = {"own_generations": 256}

    def register_works(self, *, at: datetime) -> None:
        """Each icon is a work of its maker."""
        found = pictures.read_pictures()
        with self.stages.stage("pictures") as advance:
            for person in people.MAKERS:
                own = [picture for picture in found if picture.maker.name == person.name]
                maker = own[0].maker
                registered = self.register_collection(
                    User.objects.get(email=person.email),
                    [NewWork(title=one.title, modality=Work.Modality.IMAGE, content=one.content) for one in own],
                    at=at,
                    name=maker.collection,
                    description=f"Icons drawn from the font in the package `{maker.package}`.",
                    licence=maker.licence,
                )
                self.works |= dict(zip(own, registered, strict=True))
                advance(len(self.works), len(found))

    @property
    def _trained_on(self) -> list[pictures.Picture]:
        return pictures.cut(tuple(self.works))[0]

    def retraining(self) -> Retrain:
        from config.demo import drawing

        return drawing.retraining()

    def trained_items(self) -> list[IndexItem]:
        from influence.scorers import IndexItem

        trained = self._trained_on
        return [
            IndexItem(example, self.works[picture].pk, self.works[picture].holder_id)
            for picture, example in zip(trained, _read(trained), strict=True)
        ]

    def manifest_items(self) -> list[manifests.NewItem]:
        return [
            manifests.NewItem(work_id=self.works[picture].pk, ordinal=ordinal)
            for ordinal, picture in enumerate(self._trained_on)
        ]

    def train_model(self, directory: Path, report: Callable[[str, int, int], None]) -> None:
        from config.demo import drawing

        items, held_out = pictures.cut(tuple(self.works))
        drawing.train(directory, items=_read(items), held_out=_read(held_out), progress=report)


def _read(pictures_read: Sequence[pictures.Picture]) -> list[Example]:
    from config.demo import drawing

    reader = drawing.Pictures()
    return [reader.item(picture.content, None) for picture in pictures_read]
