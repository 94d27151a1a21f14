"""The people of the first day and their works: texts by translators, and icons by makers.

The texts are the translations of Django into 22 languages (BSD-3-Clause), each by its own translators: a model that
learned from one of them shows it. The icons are those of the demo. The language model has its base
from other languages.
"""

from __future__ import annotations

import gettext
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import django

from config.demo import pictures

LANGUAGES = {
    "de": "German", "el": "Greek", "ru": "Russian", "he": "Hebrew", "ar": "Arabic", "hi": "Hindi", "th": "Thai",
    "ja": "Japanese", "ko": "Korean", "zh_Hans": "Chinese", "ka": "Georgian", "hy": "Armenian", "bn": "Bengali",
    "ta": "Tamil", "te": "Telugu", "kn": "Kannada", "ml": "Malayalam", "km": "Khmer", "vi": "Vietnamese",
    "fa": "Persian", "mn": "Mongolian", "tr": "Turkish",
}  # fmt: skip
BASE_LANGUAGES = ("en_AU", "gl", "is", "hr", "sl", "lt", "fi", "hu")


@dataclass(frozen=True)
class Sizes:
    """The extent of a run. `quick` has as few of everything as still goes through every step."""

    bytes: int
    """Of text of each writer."""
    works: int
    """Of each writer."""
    icons: int
    """Of each maker."""
    generations: int
    """Of each model."""


FULL = Sizes(bytes=3_200, works=4, icons=20, generations=40)
QUICK = Sizes(bytes=2_400, works=2, icons=12, generations=12)


@dataclass
class Person:
    """A contributor with the files of its works, and a log-in."""

    email: str
    legal_name: str
    display_name: str
    country: str
    kind: str = "person"
    modality: str = "text"
    files: list[tuple[str, bytes]] = field(default_factory=list)


def people(sizes: Sizes) -> list[Person]:
    """Thirty contributors. The first two are those that the operator's page names."""
    writers = [_writer(code, sizes) for code in LANGUAGES]
    icons = pictures.read_pictures(per_maker=sizes.icons)
    makers = [_maker(maker, [one for one in icons if one.maker == maker]) for maker in pictures.MAKERS]
    writers[0].email, writers[0].legal_name, writers[0].display_name = "cara@example.org", "Cara Müller", "Cara Lyric"
    writers[0].country = "DE"
    makers[0].email, makers[0].legal_name, makers[0].display_name = "label@example.org", "Label Ltd", ""
    makers[0].kind, makers[0].country = "organisation", "GB"
    return [writers[0], makers[0], *writers[1:], *makers[1:]]


def base_text(characters: int) -> str:
    """Text for the base of the language model, in other languages: it is nobody's work here."""
    each = characters // len(BASE_LANGUAGES)
    return " ".join(_translations(code)[:each] for code in BASE_LANGUAGES)


def as_table(people: Sequence[Person]) -> str:
    """Write contributors as the CSV that the operator's page describes."""
    columns = ("email", "kind", "legal_name", "display_name", "country")
    rows = [",".join(columns), *(",".join(str(getattr(one, name)) for name in columns) for one in people)]
    return "\n".join(rows) + "\n"


def _writer(code: str, sizes: Sizes) -> Person:
    name, text, each = f"{LANGUAGES[code]} translators", _translations(code).encode(), sizes.bytes // sizes.works
    parts = [text[place * each : (place + 1) * each].decode(errors="ignore").strip() for place in range(sizes.works)]
    files = [(f"part_{number}.txt", part.encode()) for number, part in enumerate(parts, 1)]
    return Person(f"{LANGUAGES[code].lower()}@translators.example", name, name, "US", files=files)


def _maker(maker: pictures.Maker, own: Sequence[pictures.Picture]) -> Person:
    slug = re.sub(r"[^a-z]+", ".", maker.name.lower()).strip(".")
    files = [(f"{number:02d} {icon.title.replace('/', ' ')}.png", icon.content) for number, icon in enumerate(own, 1)]
    return Person(f"{slug}@makers.example", maker.name, maker.name, "US", modality="image", files=files)


def _translations(code: str) -> str:
    """Return the sentences of one language, without their placeholders and markup, in a fixed order."""
    root = Path(django.__file__).parent
    files = [root / "conf" / "locale" / code / "LC_MESSAGES" / "django.mo"]
    files += sorted(root.glob(f"contrib/*/locale/{code}/LC_MESSAGES/django.mo"))
    found: dict[str, None] = {}
    for path in files:
        with path.open("rb") as file:
            catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        for message, translated in catalogue.items():
            if message and isinstance(translated, str) and len(translated) > 20:
                words = re.sub(r"%\(\w+\)[sd]|%[sd]|<[^>]+>|[{}]|\s+", " ", translated)
                found.setdefault(" ".join(words.split()))
    return " ".join(found)
