"""One A4 document of a payout, drawn from plain strings: the same input gives the same bytes.

It knows nothing of models or money; payouts.remittance says what stands on it.
"""

from __future__ import annotations

import io
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

INK, QUIET, RULE, PANEL = (colors.HexColor(code) for code in ("#16202a", "#56636f", "#cfd6dc", "#f3f5f7"))
WIDTH = A4[0] - 40 * mm


@dataclass(frozen=True)
class Row:
    """One line of the sum: what it is, a sentence on where it comes from, the amount as it is printed."""

    label: str
    note: str
    amount: str
    total: bool = False


@dataclass(frozen=True)
class Document:
    title: str
    number: str
    payer: tuple[str, ...]
    payee: tuple[str, ...]
    headline: str
    headline_note: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    proof: tuple[tuple[str, str], ...]
    closing: tuple[str, ...]


@cache
def _fonts() -> frozenset[int]:
    """Register the two faces that reportlab brings; returns the characters that both can draw."""
    regular, bold = TTFont("Vera", "Vera.ttf"), TTFont("VeraBd", "VeraBd.ttf")
    pdfmetrics.registerFont(regular)
    pdfmetrics.registerFont(bold)
    return frozenset(regular.face.charToGlyph) & frozenset(bold.face.charToGlyph)


def drawable(text: str) -> str:
    """`text` in characters that the face has: an accent it lacks is dropped, another script is named by code point."""
    known = _fonts()
    out = []
    for character in unicodedata.normalize("NFC", text):
        if ord(character) in known or character == "\n":
            out.append(character)
            continue
        plain = [part for part in unicodedata.normalize("NFKD", character) if ord(part) in known]
        out.append("".join(plain) or f"[U+{ord(character):04X}]")
    return "".join(out)


def _style(name: str, size: float, *, bold: bool = False, **options: Any) -> ParagraphStyle:
    _fonts()
    options = {"textColor": INK, "leading": size * 1.4, **options}
    return ParagraphStyle(name, fontName="VeraBd" if bold else "Vera", fontSize=size, **options)


def _paragraph(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(escape(drawable(text)).replace("\n", "<br/>"), style)


def render(document: Document) -> bytes:
    """The PDF's bytes. No date of making and no random id goes in, so that a digest of it can be kept."""
    body = _style("body", 8.5)
    quiet = _style("quiet", 7.5, textColor=QUIET)
    label = _style("label", 7.5, textColor=QUIET)
    strong = _style("strong", 8.5, bold=True)
    right = _style("right", 8.5, alignment=TA_RIGHT)
    right_strong = _style("right strong", 9.5, bold=True, alignment=TA_RIGHT)
    code = _style("code", 7.5, wordWrap="CJK")

    def heading(text: str) -> list[Any]:
        return [Spacer(1, 6 * mm), _paragraph(text, _style("heading", 10, bold=True)), Spacer(1, 2 * mm)]

    def parties() -> Table:
        cells = [
            [_paragraph(name, label), *[_paragraph(line, strong if i == 0 else body) for i, line in enumerate(lines)]]
            for name, lines in (("From", document.payer), ("To", document.payee))
        ]
        return _table([cells], [WIDTH / 2] * 2, [("VALIGN", (0, 0), (-1, -1), "TOP")])

    def sums() -> Table:
        rows = [
            [
                [_paragraph(row.label, strong if row.total else body), _paragraph(row.note, quiet)],
                _paragraph(row.amount, right_strong if row.total else right),
            ]
            for row in document.rows
        ]
        rules = [
            ("LINEBELOW", (0, 0), (-1, -1), 0.5, RULE),
            ("TOPPADDING", (0, 0), (-1, -1), 4),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
            *[("BACKGROUND", (0, i), (-1, i), PANEL) for i, row in enumerate(document.rows) if row.total],
            *[("LINEABOVE", (0, i), (-1, i), 1, INK) for i, row in enumerate(document.rows) if row.total],
        ]
        return _table(rows, [WIDTH - 45 * mm, 45 * mm], rules, padding=4)

    def pairs(items: tuple[tuple[str, str], ...], style: ParagraphStyle) -> Table:
        rows = [[_paragraph(name, label), _paragraph(value, style)] for name, value in items]
        return _table(rows, [48 * mm, WIDTH - 48 * mm], [("BOTTOMPADDING", (0, 0), (-1, -1), 3)])

    story: list[Any] = [
        _paragraph(document.title, _style("title", 17, bold=True)),
        _paragraph(document.number, quiet),
        Spacer(1, 6 * mm),
        parties(),
        Spacer(1, 6 * mm),
        _table(
            [[[
                _paragraph(document.headline, _style("headline", 19, bold=True)),
                Spacer(1, 1.5 * mm),
                _paragraph(document.headline_note, body),
            ]]],
            [WIDTH],
            [("BACKGROUND", (0, 0), (-1, -1), PANEL), ("TOPPADDING", (0, 0), (-1, -1), 9),
             ("BOTTOMPADDING", (0, 0), (-1, -1), 10)],
            padding=10,
        ),
        *heading("How the amount came about"),
        sums(),
        *heading("The transfer"),
        pairs(document.facts, body),
        *heading("Where this can be checked"),
        pairs(document.proof, code),
        Spacer(1, 4 * mm),
        *[_paragraph(line, quiet) for line in document.closing],
    ]  # fmt: skip

    def footer(canvas: Any, template: Any) -> None:
        canvas.saveState()
        canvas.setFont("Vera", 7)
        canvas.setFillColor(QUIET)
        canvas.drawString(20 * mm + 6, 12 * mm, drawable(document.number))
        canvas.drawRightString(A4[0] - 20 * mm - 6, 12 * mm, f"Page {template.page}")
        canvas.restoreState()

    out = io.BytesIO()
    template = SimpleDocTemplate(
        out, pagesize=A4, leftMargin=20 * mm, rightMargin=20 * mm, topMargin=20 * mm, bottomMargin=22 * mm,
        title=drawable(f"{document.title} {document.number}"), author=drawable(document.payer[0]),
        lang="en-GB", invariant=1,
    )  # fmt: skip
    template.build(story, onFirstPage=footer, onLaterPages=footer)
    return out.getvalue()


def _table(rows: list[Any], widths: list[float], rules: list[Any], *, padding: float = 0) -> Table:
    base = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), padding),
        ("RIGHTPADDING", (0, 0), (-1, -1), padding),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
    ]
    return Table(rows, colWidths=widths, style=TableStyle([*base, *rules]), hAlign="LEFT")
