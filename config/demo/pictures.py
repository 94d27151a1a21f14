"""The demo's real pictures: icons by eight makers, drawn from the fonts in the PyPI packages `iconipy` and `qtawesome`.

Decides the makers, the extent of a work (one icon) and its form: a grey picture of 16 x 16 pixels as a PNG that names
its title, maker and licence, as a PNG can. Knows nothing of the database.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

SIDE = 16
"""Of a picture, in pixels."""
LARGE = 64
"""Side at which a glyph is drawn, before it is made small."""
PER_MAKER = 60
FEW = {"Kazuyuki Motoyama": 12}
"""Makers that registered fewer: somebody in the demo has to earn less than the threshold."""
HELD_OUT_PART = 15
"""Of so many pictures of a maker one is never trained on."""
SEED = 2026


@dataclass(frozen=True, slots=True)
class Maker:
    """A maker of icons, the name of its set, its licence, and where the installed packages have its font."""

    name: str
    collection: str
    licence: str
    package: str
    font: str
    names: str = ""
    """The file with the names of its glyphs, where the font itself has none."""


MAKERS = (
    Maker(
        "Aniket Suvarna",
        "Boxicons",
        "MIT",
        "iconipy",
        "assets/boxicons/boxicons.ttf",
        "assets/boxicons/boxicons.css",
    ),
    Maker(
        "Kazuyuki Motoyama",
        "Ligature Symbols",
        "OFL-1.1",
        "iconipy",
        "assets/ligature_symbols/LigatureSymbols-2.11.ttf",
    ),
    Maker("Lineicons", "Lineicons", "MIT", "iconipy", "assets/lineicons/lineicons.ttf"),
    Maker("Lucide Contributors", "Lucide", "ISC", "iconipy", "assets/lucide/lucide.ttf"),
    Maker(
        "Google",
        "Material Icons",
        "Apache-2.0",
        "iconipy",
        "assets/material_icons_regular/MaterialIcons-Regular.ttf",
        "assets/material_icons_regular/MaterialIcons-Regular.codepoints",
    ),
    Maker("Stephen Hutchings", "Typicons", "OFL-1.1", "iconipy", "assets/typicons/typicons.ttf"),
    Maker(
        "Phosphor Icons",
        "Phosphor",
        "MIT",
        "qtawesome",
        "fonts/phosphor-1.3.0.ttf",
        "fonts/phosphor-charmap-1.3.0.json",
    ),
    Maker("Remix Design", "Remix Icon", "Apache-2.0", "qtawesome", "fonts/remixicon-2.5.0.ttf"),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A work: one icon. `content` is the registered PNG."""

    maker: Maker
    title: str
    content: bytes


class UnableToReadPictures(Exception):
    status = 500
    problem = "unable-to-read-pictures"


def read_pictures(*, per_maker: int = PER_MAKER) -> tuple[Picture, ...]:
    """Draw so many icons of each maker, by maker and title. Raises UnableToReadPictures without the packages."""
    return tuple(
        picture for maker in MAKERS for picture in _drawn(maker, min(per_maker, FEW.get(maker.name, per_maker)))
    )


def cut(found: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Divide pictures into those that a model is trained on and, of each maker, those that are held out."""
    held_out: list[Picture] = []
    for maker in MAKERS:
        own = [picture for picture in found if picture.maker == maker]
        held_out += random.Random(f"{SEED}:{maker.name}:held out").sample(own, -(-len(own) // HELD_OUT_PART))
    kept = set(held_out)
    return [picture for picture in found if picture not in kept], held_out


def maker_of(content: bytes) -> Maker | None:
    """Return the maker that a PNG names as its author; None for another or no author."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        author = str(picture.info.get("Author", ""))
    return next((maker for maker in MAKERS if maker.name == author), None)


def as_png(grey: Image.Image, *, title: str = "", author: str = "", licence: str = "") -> bytes:
    """Write a grey picture as a PNG with its facts."""
    facts = PngImagePlugin.PngInfo()
    for name, value in (("Title", title), ("Author", author), ("Copyright", licence)):
        if value:
            facts.add_itxt(name, value)
    written = io.BytesIO()
    grey.save(written, "PNG", pnginfo=facts)
    return written.getvalue()


def _drawn(maker: Maker, count: int) -> list[Picture]:
    package = _package(maker.package)
    names = _glyphs(package / (maker.names or maker.font))
    font = ImageFont.truetype(str(package / maker.font), LARGE)
    chosen = sorted(names)
    random.Random(f"{SEED}:{maker.name}").shuffle(chosen)
    pictures: dict[bytes, Picture] = {}
    for name in chosen:
        grey = _glyph(font, chr(names[name]))
        if grey is None or grey.tobytes() in pictures:
            continue
        title = name.removeprefix("lni-").removeprefix("bx-").replace("_", " ").replace("-", " ").strip()
        content = as_png(grey, title=title, author=maker.name, licence=maker.licence)
        pictures[grey.tobytes()] = Picture(maker, title, content)
        if len(pictures) == count:
            break
    return sorted(pictures.values(), key=lambda picture: picture.title)


def _glyphs(path: Path) -> dict[str, int]:
    """Return name and code point of every icon, from a font or from the list beside it."""
    if path.suffix == ".ttf":
        # Some of these fonts have a few bytes too many, which costs nobody anything.
        logging.getLogger("fontTools").setLevel(logging.ERROR)
        return {name: code for code, name in TTFont(path, lazy=True).getBestCmap().items() if code >= 0xE000}
    text = path.read_text(encoding="utf-8")
    pairs = re.findall(_LISTS[path.suffix], text)
    return {name: int(code, 16) for name, code in pairs}


_LISTS = {
    ".css": r"\.([a-z][\w-]+):before\s*\{\s*content: \"\\([0-9a-f]+)\"",
    ".codepoints": r"(?m)^(\w+) ([0-9a-f]+)$",
    ".json": r"\"([\w-]+)\": \"0x([0-9a-f]+)\"",
}


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> Image.Image | None:
    """Draw one glyph, white on black, fitted into the picture with a margin of one pixel; None for an empty one."""
    left, top, right, bottom = font.getbbox(character)
    if right - left < LARGE // 4 or bottom - top < LARGE // 4:
        return None
    side = int(max(right - left, bottom - top))
    large = Image.new("L", (side, side))
    at = ((side - (right - left)) / 2 - left, (side - (bottom - top)) / 2 - top)
    ImageDraw.Draw(large).text(at, character, fill=255, font=font)
    small = large.resize((SIDE - 2, SIDE - 2), Image.Resampling.LANCZOS)
    framed = Image.new("L", (SIDE, SIDE))
    framed.paste(small, (1, 1))
    return framed


def _package(name: str) -> Path:
    # The packages import toolkits of windows, which nothing here needs: their files are found without importing them.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UnableToReadPictures(f"The package `{name}` is not installed.")
    return Path(spec.submodule_search_locations[0])
