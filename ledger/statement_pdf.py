"""A statement on A4 paper: the same bytes whenever the same statement is given.

Decides the layout only; every figure comes from the Statement. Roboto is embedded (Latin, Greek, Cyrillic), so that a
name prints as it is written.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from font_roboto import font_files
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Flowable, Frame, KeepTogether, PageTemplate, Paragraph, Spacer, Table

from ledger.statements import Pot, Statement
from people.presentation.amounts import grouped

INK, SOFT, LINE = HexColor("#15242a"), HexColor("#4a5a60"), HexColor("#dddacf")
ACCENT, PANEL = HexColor("#0b5c6b"), HexColor("#f6f5f0")
MARGIN = 20 * mm
WIDTH = A4[0] - 2 * MARGIN
WORKS_MAX = 40
ENTRIES_MAX = 60

for _style in ("Regular", "Medium", "Bold"):
    _file = next(path for path in font_files.values() if path.endswith(f"Roboto-{_style}.ttf"))
    pdfmetrics.registerFont(TTFont(f"Roboto-{_style}", _file))

_BODY = ParagraphStyle("body", fontName="Roboto-Regular", fontSize=9, leading=12.5, textColor=INK)
_SOFT = ParagraphStyle("soft", parent=_BODY, textColor=SOFT, fontSize=8, leading=11)
_NOTE = ParagraphStyle("note", parent=_SOFT, spaceAfter=4)
_HASH = ParagraphStyle("hash", parent=_SOFT, fontSize=6.2, splitLongWords=1, wordWrap="CJK")
_RIGHT = ParagraphStyle("right", parent=_BODY, alignment=TA_RIGHT)
_STRONG = ParagraphStyle("strong", parent=_BODY, fontName="Roboto-Bold")
_STRONG_RIGHT = ParagraphStyle("strong right", parent=_STRONG, alignment=TA_RIGHT)
_HEAD = ParagraphStyle("head", parent=_SOFT, fontName="Roboto-Medium", fontSize=7.5, leading=10)
_HEAD_RIGHT = ParagraphStyle("head right", parent=_HEAD, alignment=TA_RIGHT)
_H1 = ParagraphStyle("h1", parent=_BODY, fontName="Roboto-Bold", fontSize=20, leading=25, spaceAfter=4)
_H2 = ParagraphStyle(
    "h2", parent=_BODY, fontName="Roboto-Bold", fontSize=11.5, leading=15, spaceBefore=14, spaceAfter=4
)
_SUM = ParagraphStyle("sum", parent=_BODY, fontName="Roboto-Bold", fontSize=15, leading=19)


class _NumberedCanvas(Canvas):  # type: ignore[misc]
    """A canvas that knows how many pages there are by the time it writes the first footer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._saved: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802
        self._saved.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for state in self._saved:
            self.__dict__.update(state)
            self.setFont("Roboto-Regular", 7.5)
            self.setFillColor(SOFT)
            self.drawRightString(A4[0] - MARGIN, 11 * mm, f"Page {self._pageNumber} of {len(self._saved)}")
            super().showPage()
        super().save()


def statement_pdf(statement: Statement) -> bytes:
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=A4,
        title=f"Royalty statement {statement.period}",
        author="Tributary",
        subject=f"{statement.legal_name}, {statement.contributor_id}",
        creator="Tributary",
        lang="en-GB",
        invariant=1,
    )
    frame = Frame(MARGIN, 18 * mm, WIDTH, A4[1] - 18 * mm - 24 * mm, 0, 0, 0, 0)
    document.addPageTemplates(PageTemplate("page", [frame], onPage=lambda canvas, _: _furniture(canvas, statement)))
    document.build(_story(statement), canvasmaker=_NumberedCanvas)
    return buffer.getvalue()


def _furniture(canvas: Canvas, statement: Statement) -> None:
    """Head and foot of every page."""
    canvas.saveState()
    canvas.setFillColor(ACCENT)
    canvas.rect(0, A4[1] - 5 * mm, A4[0], 5 * mm, stroke=0, fill=1)
    canvas.setFont("Roboto-Bold", 10)
    canvas.drawString(MARGIN, A4[1] - 15 * mm, "Tributary")
    canvas.setFont("Roboto-Regular", 8)
    canvas.setFillColor(SOFT)
    canvas.drawRightString(A4[0] - MARGIN, A4[1] - 15 * mm, f"Royalty statement {statement.period}")
    canvas.setStrokeColor(LINE)
    canvas.line(MARGIN, 15.5 * mm, A4[0] - MARGIN, 15.5 * mm)
    canvas.setFont("Roboto-Regular", 7.5)
    canvas.drawString(MARGIN, 11 * mm, f"{statement.contributor_id}   All times UTC")
    canvas.restoreState()


def _story(statement: Statement) -> list[Flowable]:
    story: list[Flowable] = [
        Paragraph(f"Royalty statement, {escape(statement.month)}", _H1),
        Paragraph(escape(statement.legal_name), _STRONG),
        Paragraph(escape(statement.state_sentence), _SOFT),
        Spacer(1, 12),
    ]
    for pot in statement.pots:
        story += _pot(pot)
    if not statement.pots:
        story.append(Paragraph("Nothing was earned, moved or owed in this period.", _BODY))
    story += _earnings(statement)
    story += _method(statement)
    story += _entries(statement)
    story += _proof(statement)
    return story


def _pot(pot: Pot) -> list[Flowable]:
    rows = [[_p("Opening balance", _BODY), _p(grouped(pot.opening, pot.scale), _RIGHT)]]
    rows += [[_p(line.label, _BODY), _p(grouped(line.amount, pot.scale), _RIGHT)] for line in pot.lines]
    rows.append([_p("Closing balance, carried over", _STRONG), _p(grouped(pot.closing, pot.scale), _STRONG_RIGHT)])
    head = [_p("Line", _HEAD), _p(pot.currency, _HEAD_RIGHT)]
    table = _table([head, *rows], [WIDTH * 0.66, WIDTH * 0.34], [("LINEABOVE", (0, -1), (-1, -1), 0.9, INK)])
    title = _p(f"{pot.label}: {pot.currency} {grouped(pot.closing, pot.scale)}", _SUM)
    return [KeepTogether([title, Spacer(1, 3), table]), Spacer(1, 10)]


def _earnings(statement: Statement) -> list[Flowable]:
    story: list[Flowable] = []
    if statement.works:
        rows = [
            [_p(work.title, _BODY), _p(f"{work.generations:,}", _RIGHT), _p(grouped(work.amount, work.scale), _RIGHT)]
            for work in statement.works[:WORKS_MAX]
        ]
        rest = statement.works[WORKS_MAX:]
        for currency, scale in sorted({(work.currency, work.scale) for work in rest}):
            amount = sum(work.amount for work in rest if work.currency == currency)
            rows.append([_p(f"{len(rest):,} more, listed in the CSV", _BODY), "", _p(grouped(amount, scale), _RIGHT)])
        head = [_p("Work", _HEAD), _p("Generations", _HEAD_RIGHT), _p(statement.currencies, _HEAD_RIGHT)]
        story += [_p("What each work earned", _H2), _table([head, *rows], [WIDTH * 0.56, WIDTH * 0.16, WIDTH * 0.28])]
    if statement.models:
        rows = [
            [_p(model.name, _BODY), _p(model.service, _BODY), _p(f"{model.generations:,}", _RIGHT),
             _p(grouped(model.amount, model.scale), _RIGHT)]
            for model in statement.models
        ]  # fmt: skip
        head = [_p("Model", _HEAD), _p("Service", _HEAD), _p("Generations", _HEAD_RIGHT),
                _p(statement.currencies, _HEAD_RIGHT)]  # fmt: skip
        widths = [WIDTH * 0.28, WIDTH * 0.28, WIDTH * 0.16, WIDTH * 0.28]
        story += [_p("What each model paid", _H2), _table([head, *rows], widths)]
    return story


def _method(statement: Statement) -> list[Flowable]:
    if not statement.notes:
        return []
    return [_p("How this was worked out", _H2), *[_p(note, _NOTE) for note in statement.notes]]


def _entries(statement: Statement) -> list[Flowable]:
    """The journal entries behind the figures, with their hashes."""
    lines = statement.journal
    if not lines:
        return []
    rows = [
        [_p(str(line.entry_id), _SOFT), _p(line.effective, _SOFT), _p(f"{line.label} ({account.title})", _SOFT),
         _p(line.entry_hash, _HASH), _p(grouped(line.amount, account.scale), _HASH_RIGHT)]
        for account, line in lines[:ENTRIES_MAX]
    ]  # fmt: skip
    head = [_p("Entry", _HEAD), _p("Dated", _HEAD), _p("What (account)", _HEAD), _p("Hash of the entry", _HEAD),
            _p("Amount", _HEAD_RIGHT)]  # fmt: skip
    widths = [WIDTH * 0.07, WIDTH * 0.11, WIDTH * 0.2, WIDTH * 0.46, WIDTH * 0.16]
    story: list[Flowable] = [_p("Journal entries", _H2), _table([head, *rows], widths)]
    if len(lines) > ENTRIES_MAX:
        story.append(_p(f"{len(lines) - ENTRIES_MAX:,} more lines are listed in the CSV.", _SOFT))
    return story


def _proof(statement: Statement) -> list[Flowable]:
    story: list[Flowable] = [_p("Proof", _H2)]
    if statement.seal is None:
        return [*story, _p("This period is not sealed yet. Its proof follows with the seal.", _SOFT)]
    story.append(
        _p(
            "The period is sealed. Each account below is one leaf of a Merkle tree; the CSV of this statement carries "
            "the way from the leaf to the root, and verify_statement.py checks it offline.",
            _SOFT,
        )
    )
    rows = [[_p("Published root", _SOFT), _p(statement.seal.root, _HASH)],
            [_p("Root of the tree", _SOFT), _p(statement.seal.tree, _HASH)],
            [_p("Root of the period before", _SOFT), _p(statement.seal.previous, _HASH)]]  # fmt: skip
    rows += [[_p(f"Leaf {account.name}", _SOFT), _p(account.leaf.hash, _HASH)]
             for account in statement.accounts if account.leaf]  # fmt: skip
    return [KeepTogether([*story, Spacer(1, 4), _table(rows, [WIDTH * 0.42, WIDTH * 0.58], head=False)])]


def _p(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(escape(text), style)


def _table(
    rows: Sequence[Sequence[Any]],
    widths: Sequence[float],
    more: Sequence[tuple[Any, ...]] = (),
    *,
    head: bool = True,
) -> Table:
    commands: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 4),
        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ("TOPPADDING", (0, 0), (-1, -1), 2.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
        *more,
    ]
    if head:
        commands.append(("BACKGROUND", (0, 0), (-1, 0), PANEL))
    return Table(rows, colWidths=list(widths), repeatRows=int(head), style=commands)


_HASH_RIGHT = ParagraphStyle("hash right", parent=_SOFT, fontSize=7.5, alignment=TA_RIGHT)
