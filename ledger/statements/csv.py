"""A statement as a file that a spreadsheet opens and `ledger.proof` verifies.

Decides the rows and their order; people.presentation.csv decides the form. Every row has the same number of fields.
The digest in the last row covers every byte between the byte-order mark and that row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ledger.proof import COLUMNS, FORMAT, digest_row
from ledger.statements.build import AccountStatement, Statement
from people.presentation import csv
from people.presentation.amounts import plain


def statement_csv(statement: Statement, issuer: str = "") -> bytes:
    """Return the file: the same bytes whenever the same statement and issuer are given."""
    return b"".join(csv_parts(statement, issuer))


def csv_parts(statement: Statement, issuer: str = "") -> Iterator[bytes]:
    """Yield the file in parts, so that a statement of a million credits is never held as a whole.

    `issuer` is the line of the legal entity.
    """
    digest = hashlib.sha256()
    mark = csv.MARK.encode()
    for part in csv.parts(COLUMNS, _rows(statement, issuer)):
        digest.update(part.removeprefix(mark))
        yield part
    yield b"digest," + digest_row(digest.hexdigest())


def _row(
    record: str,
    *,
    period: str = "",
    currency: str = "",
    account: str = "",
    item: str = "",
    reference: str = "",
    amount: str = "",
    digest: str = "",
) -> tuple[str, ...]:
    return (record, period, currency, account, item, reference, amount, digest)


def _rows(statement: Statement, issuer: str) -> Iterator[tuple[str, ...]]:
    period = statement.period
    yield _row(
        "statement", period=period, account=statement.contributor_name, item=FORMAT, reference=statement.contributor_id
    )
    if issuer:
        yield _row("note", item=f"Issued by {issuer}")
    for text in statement.notes:
        yield _row("note", item=text)
    for pot in statement.pots:
        named = [("opening", "", pot.opening)]
        named += [("line", line.kind, line.amount) for line in pot.lines]
        named += [("closing", "", pot.closing)]
        for record, item, amount in named:
            yield _row(
                record,
                period=period,
                currency=pot.currency,
                account=pot.name,
                item=item,
                amount=plain(amount, pot.scale),
            )
    for work in statement.works:
        yield _row(
            "work",
            period=period,
            currency=work.currency,
            item=work.title,
            reference=work.work_id,
            amount=plain(work.amount, work.scale),
        )
    for model in statement.models:
        yield _row(
            "model",
            period=period,
            currency=model.currency,
            account=model.service,
            item=model.name,
            reference=model.model_id,
            amount=plain(model.amount, model.scale),
        )
    for account in statement.accounts:
        yield from _account_rows(period, account)
    if statement.seal:
        for record, digest in (
            ("tree", statement.seal.tree),
            ("previous", statement.seal.previous),
            ("root", statement.seal.root),
        ):
            yield _row(record, period=period, digest=digest)


def _account_rows(period: str, account: AccountStatement) -> Iterator[tuple[str, ...]]:
    def row(
        record: str, *, item: str = "", reference: str = "", amount: int | None = None, digest: str = ""
    ) -> tuple[str, ...]:
        shown = "" if amount is None else plain(amount, account.scale)
        return _row(
            record,
            period=period,
            currency=account.currency,
            account=account.name,
            item=item,
            reference=reference,
            amount=shown,
            digest=digest,
        )

    yield row("account_opening", amount=account.opening)
    for line in account.journal:
        yield row("journal", item=line.group, reference=str(line.entry_id), amount=line.amount, digest=line.entry_hash)
    for credit in account.credits:
        item = f"{credit.entry_id} revision {credit.revision}"
        yield row("credit", item=item, reference=credit.generation_id, amount=credit.amount)
    yield row("account_closing", amount=account.closing)
    if account.leaf:
        yield row("leaf", reference=account.leaf.salt, digest=account.leaf.hash)
        for side, sibling in account.leaf.siblings:
            yield row("sibling", item=side, digest=sibling)
