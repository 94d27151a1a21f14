"""A statement on A4 paper: the same bytes whenever the same statement is given.

Decides the blocks and their order; every figure comes from the Statement, the design from people.presentation.pdf.
"""

from __future__ import annotations

from datetime import date

from ledger.statements.build import ModelEarnings, Pot, Statement, WorkEarnings
from people.presentation import dates
from people.presentation.amounts import grouped
from people.presentation.pdf import Block, Column, Facts, Heading, Lines, Paper, Row, Sum, Together, Words, pdf
from people.queries.programme import sender_of_papers

WORKS_MAX = 40
ENTRIES_MAX = 60


def statement_pdf(statement: Statement) -> bytes:
    """Return the PDF. A long table is cut at WORKS_MAX works and ENTRIES_MAX entries; the CSV lists all of them."""
    return pdf(paper_of(statement))


def paper_of(statement: Statement) -> Paper:
    """Lay the statement out as plain values."""
    pots: list[Block] = [_pot(pot) for pot in statement.pots]
    return Paper(
        title=f"Royalty statement, {statement.month}",
        running=f"Royalty statement {statement.period}",
        number=statement.contributor_id,
        sender=sender_of_papers(),
        recipient=tuple(dict.fromkeys([statement.legal_name, statement.contributor_name])),
        blocks=(
            Words(statement.state_sentence, soft=True),
            *(pots or [Words("Nothing was earned, moved or owed in this period.")]),
            *_works(statement),
            *_models(statement),
            *_method(statement),
            *_entries(statement),
            _proof(statement),
        ),
        made_at=statement.made_at,
        country=statement.country,
    )


def _pot(pot: Pot) -> Together:
    rows = [("Opening balance", pot.opening), *((line.label, line.amount) for line in pot.lines)]
    table = Lines(
        columns=(Column("Line", 66), Column(pot.currency, 34, "amount")),
        rows=(
            *(Row((label, grouped(amount, pot.scale))) for label, amount in rows),
            Row(("Closing balance, carried over", grouped(pot.closing, pot.scale)), total=True),
        ),
    )
    return Together((Sum(f"{pot.label}: {pot.currency} {grouped(pot.closing, pot.scale)}"), table))


def _works(statement: Statement) -> list[Block]:
    if not statement.works:
        return []
    rows = [Row((work.title, *_figures(work))) for work in statement.works[:WORKS_MAX]]
    rest = statement.works[WORKS_MAX:]
    for currency, scale in sorted({(work.currency, work.scale) for work in rest}):
        more = [work for work in rest if work.currency == currency]
        amount = grouped(sum(work.amount for work in more), scale)
        rows.append(Row((f"{len(more):,} more, listed in the CSV", "", amount)))
    columns = (Column("Work", 56), Column("Generations", 16, "amount"), Column(statement.currencies, 28, "amount"))
    return [Heading("Earned by each work"), Lines(columns, tuple(rows))]


def _models(statement: Statement) -> list[Block]:
    if not statement.models:
        return []
    rows = tuple(Row((model.name, model.service, *_figures(model))) for model in statement.models)
    columns = (
        Column("Model", 28),
        Column("Service", 28),
        Column("Generations", 16, "amount"),
        Column(statement.currencies, 28, "amount"),
    )
    return [Heading("Paid by each model"), Lines(columns, rows)]


def _figures(earned: WorkEarnings | ModelEarnings) -> tuple[str, str]:
    return f"{earned.generations:,}", grouped(earned.amount, earned.scale)


def _method(statement: Statement) -> list[Block]:
    if not statement.notes:
        return []
    return [Heading("Calculation"), *(Words(note, soft=True) for note in statement.notes)]


def _entries(statement: Statement) -> list[Block]:
    """List the journal entries behind the figures, with their hashes."""
    lines = statement.journal
    if not lines:
        return []
    columns = (
        Column("Entry", 8, "soft"),
        Column("Dated", 13, "soft"),
        Column("Line (account)", 18, "soft"),
        Column("Hash of the entry", 45, "code"),
        Column("Amount", 16, "amount"),
    )
    rows = tuple(
        Row(
            (
                str(line.entry_id),
                _day(line.effective),
                f"{line.label} ({account.title})",
                line.entry_hash,
                grouped(line.amount, account.scale),
            )
        )
        for account, line in lines[:ENTRIES_MAX]
    )
    blocks: list[Block] = [Heading("Journal entries"), Lines(columns, rows)]
    if len(lines) > ENTRIES_MAX:
        blocks.append(Words(f"{len(lines) - ENTRIES_MAX:,} more lines are listed in the CSV.", soft=True))
    return blocks


def _day(iso: str) -> str:
    return dates.day(date.fromisoformat(iso))


def _proof(statement: Statement) -> Block:
    if statement.seal is None:
        return Together(
            (Heading("Proof"), Words("This period is not sealed yet. Its proof follows with the seal.", soft=True))
        )
    words = Words(
        "The period is sealed. Each account below is one leaf of a Merkle tree. The CSV of this statement has the way "
        "from the leaf to the root, and verify_statement.py checks it offline.",
        soft=True,
    )
    pairs = (
        ("Published root", statement.seal.root),
        ("Root of the tree", statement.seal.tree),
        ("Root of the period before", statement.seal.previous),
        *((f"Leaf {account.name}", account.leaf.hash) for account in statement.accounts if account.leaf),
    )
    return Together((Heading("Proof"), words, Facts(pairs, "code")))
