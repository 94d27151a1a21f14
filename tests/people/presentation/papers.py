"""Read a PDF back: its text as a reader's program finds it, and the glyphs that it draws."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pypdfium2
from pypdf import PdfReader
from pypdf.generic import ContentStream

NOT_DEFINED = 0


def text_of(data: bytes) -> str:
    """Return the text of all pages, blanks joined."""
    document = pypdfium2.PdfDocument(data)
    return " ".join(" ".join(page.get_textpage().get_text_range() for page in document).split())


def glyphs_of(data: bytes) -> Iterator[tuple[str, int]]:
    """Yield font and number of every drawn glyph. Number NOT_DEFINED is the empty box of a missing glyph."""
    for page in PdfReader(io.BytesIO(data)).pages:
        font = ""
        for operands, operator in ContentStream(page["/Contents"], page.pdf).operations:
            if operator == b"Tf":
                font = str(operands[0])
            elif operator in (b"TJ", b"Tj"):
                parts = operands[0] if isinstance(operands[0], list) else operands
                for codes in (part.original_bytes for part in parts if hasattr(part, "original_bytes")):
                    yield from ((font, int.from_bytes(codes[i : i + 2], "big")) for i in range(0, len(codes), 2))


def numbers_of(data: bytes) -> list[int]:
    return [number for _, number in glyphs_of(data)]


def spans_of(data: bytes, wanted: str) -> list[tuple[float, float]]:
    """Return left and right of each character of the first `wanted`, in points, in the order of reading."""
    for page in pypdfium2.PdfDocument(data):
        words = page.get_textpage()
        found = words.search(wanted).get_next()
        if found:
            start, count = found
            boxes = (words.get_charbox(index) for index in range(start, start + count))
            return [(left, right) for left, _, right, _ in boxes]
    raise AssertionError(f"{wanted!r} is on no page")


def edges_of(data: bytes) -> tuple[float, float]:
    """Return how far left and right any character of any page reaches, in points."""
    pages = (page.get_textpage() for page in pypdfium2.PdfDocument(data))
    boxes = [words.get_charbox(index) for words in pages for index in range(words.count_chars())]
    drawn = [(left, right) for left, _, right, _ in boxes if right > left]
    return min(left for left, _ in drawn), max(right for _, right in drawn)
