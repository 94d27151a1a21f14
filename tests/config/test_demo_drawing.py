"""The demo's pictures and the model that draws: real icons with makers and licences, drawn the same every time."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from config.demo import drawing, people, pictures
from influence.adapters import Media, UnableToEmbed, values_of


@pytest.fixture(scope="module")
def found() -> tuple[pictures.Picture, ...]:
    return pictures.read_pictures(per_maker=20)


def test_every_maker_is_named_with_its_licence_in_its_pictures(found: tuple[pictures.Picture, ...]) -> None:
    assert len(pictures.MAKERS) == 8
    assert {maker.name for maker in pictures.MAKERS} == {person.name for person in people.MAKERS}
    for maker in pictures.MAKERS:
        own = [picture for picture in found if picture.maker == maker]
        assert len(own) == min(20, pictures.FEW.get(maker.name, 20))
        with Image.open(io.BytesIO(own[0].content)) as picture:
            assert (picture.size, picture.mode) == ((pictures.SIDE, pictures.SIDE), "L")
            assert picture.info["Author"] == maker.name
            assert picture.info["Copyright"] == maker.licence
        assert pictures.maker_of(own[0].content) == maker
    assert len({picture.content for picture in found}) == len(found)
    assert found == pictures.read_pictures(per_maker=20)


def test_some_pictures_of_each_maker_are_held_out(found: tuple[pictures.Picture, ...]) -> None:
    kept, held_out = pictures.cut(found)
    assert set(kept) | set(held_out) == set(found)
    assert not set(kept) & set(held_out)
    assert {picture.maker for picture in held_out} == set(pictures.MAKERS) == {picture.maker for picture in kept}


def test_a_drawing_is_read_back_as_it_was_sampled(found: tuple[pictures.Picture, ...], tmp_path: Path) -> None:
    read = drawing.Pictures()
    kept, held_out = pictures.cut(found)
    items, apart = ([read.item(picture.content, None) for picture in part] for part in (kept, held_out))
    small = {"training": drawing.Training(steps=30, batch=8), "shape": drawing.Shape(width=8, layers=1)}
    model = drawing.train(tmp_path / "one", items=items, held_out=apart, **small)  # type: ignore[arg-type]
    again = drawing.train(tmp_path / "two", items=items, held_out=apart, **small)  # type: ignore[arg-type]
    assert model.sample is not None
    assert again.sample is not None
    drawn = model.sample(5, 1)
    assert drawn == again.sample(5, 1)
    for example in drawn:
        assert read.generation(drawing.prompt_of(example), [Media("image/png", drawing.as_png(example))]) == example
        assert float(values_of([example], drawing.SHAPE).abs().max()) <= 1
    assert model.held_out is not None
    assert model.held_out() == apart


def test_a_picture_of_an_unknown_maker_or_size_is_refused_in_words(found: tuple[pictures.Picture, ...]) -> None:
    read = drawing.Pictures()
    with pytest.raises(UnableToEmbed, match="names none of the makers"):
        read.item(pictures.as_png(Image.new("L", drawing.SHAPE)), None)
    with pytest.raises(UnableToEmbed, match="no part 3"):
        read.item(found[0].content, 3)
    with pytest.raises(UnableToEmbed, match="draws 16 x 16"):
        read.generation("in the manner of Google", [Media("image/png", pictures.as_png(Image.new("L", (8, 8))))])
    with pytest.raises(UnableToEmbed, match="such as “in the manner of"):
        read.generation("a cat", [Media("image/png", found[0].content)])
