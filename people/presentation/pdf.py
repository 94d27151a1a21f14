"""PDF papers from plain values: one design (document.typ), set by Typst with the Noto fonts.

Names print as they are written, shaped and in their direction, in every script that people.presentation.glyphs can
draw. The same values give the same bytes: no clock and no random number goes in.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import typst

from people.presentation import glyphs

Kind = Literal["text", "soft", "amount", "code"]
DESIGN = Path(__file__).with_name("document.typ")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A cell of two lines: a label, and a note that explains it."""

    label: str
    note: str


Cell = str | Labelled


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; widths are relative to each other. Amounts are set flush right, codes small."""

    heading: str
    width: float
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[Cell, ...]
    total: bool = False


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Words:
    text: str
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Sum:
    """A figure that a reader looks for first, with a sentence about it."""

    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lines:
    """A table. Its heading is repeated on every page; `pdf` holds all its rows in memory, so callers limit them."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        assert all(len(row.cells) == len(self.columns) for row in self.rows), "a row has a cell for each column"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values, one pair a line."""

    pairs: tuple[tuple[str, str], ...]
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Together:
    """Blocks that stay on one page, where they fit on one."""

    blocks: tuple[Block, ...]


Block = Heading | Words | Sum | Lines | Facts | Together


@dataclass(frozen=True, slots=True)
class Paper:
    """A document on A4.

    `number` stands in the foot of every page and `running` in its head. The first line of each party is its name.
    `made_at` becomes the date of the file's making; without it the file has none. `country` (ISO 3166, of the reader)
    chooses the form of Chinese characters, which differs between Chinese, Japanese and Korean.
    """

    title: str
    running: str
    number: str
    sender: tuple[str, ...]
    recipient: tuple[str, ...]
    blocks: tuple[Block, ...]
    made_at: datetime | None = None
    country: str = ""


def pdf(paper: Paper) -> bytes:
    """Set the paper. A character without a glyph is shown by its code, such as [U+1D11E]."""
    values = {
        "title": paper.title,
        "running": paper.running,
        "number": paper.number,
        "author": paper.sender[0],
        "subject": ", ".join((*paper.recipient[:1], paper.number)),
        "parties": [["From", paper.sender], ["To", paper.recipient]],
        "blocks": [_values(block) for block in paper.blocks],
    }
    fonts = {"fonts": glyphs.families(paper.country), "dated": paper.made_at is not None}
    made_at = paper.made_at and paper.made_at.replace(microsecond=0)
    text = json.dumps(_drawable(values) | fonts, ensure_ascii=False)
    # A compiler is not shared between threads; the fonts are.
    compiler = typst.Compiler(root=str(DESIGN.parent), font_paths=_fonts(), ignore_system_fonts=True)
    made = compiler.compile(_design(), format="pdf", sys_inputs={"paper": text}, timestamp=made_at)
    assert isinstance(made, bytes)
    return made


def _values(block: Block) -> dict[str, Any]:
    return {"type": type(block).__name__.lower(), **dataclasses.asdict(block)} | (
        {"blocks": [_values(inner) for inner in block.blocks]} if isinstance(block, Together) else {}
    )


def _drawable(value: Any) -> Any:
    """Replace the characters that no font draws, in every text of nested values."""
    if isinstance(value, str):
        return glyphs.drawable(value)
    if isinstance(value, dict):
        return {key: _drawable(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_drawable(inner) for inner in value]
    return value


@cache
def _design() -> bytes:
    return DESIGN.read_bytes()


@cache
def _fonts() -> typst.Fonts:
    """Index the fonts once a process. Fonts of the system are left alone: they would change the bytes."""
    folders = sorted({str(path.parent) for path in glyphs.files()})
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=folders)
