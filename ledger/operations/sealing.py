"""The seal of a closed month: one leaf for each account, a Merkle tree above them, its root chained to the last one.

The bytes of a leaf are decided by `ledger.proof`, with which a payee proves its own leaf offline.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from ledger import proof
from ledger.models import Period, previous_period
from people.actor import Actor, lacks_role
from people.models import User

BATCH_LEAVES = 5000
SEALERS = ("finance_checker",)


class UnableToSeal(Exception):
    """The period is not closed, or the one before it is not sealed."""

    status = 409
    problem = "period-not-sealable"


@dataclass(frozen=True, slots=True)
class _Leaf:
    account_id: int
    name: str
    opening: int
    closing: int
    n_lines: int
    n_credits: int
    lines_sha256: bytes
    credits_sha256: bytes


def seal_period(*, period: Period | int, at: datetime, by: User | None = None) -> Period:
    """Seal a closed period. Done once; a sealed period is returned as it is. The period keeps `by`, the sealer.

    Raises UnableToSeal: it is not closed, the one before is not sealed, or `by` lacks the role.
    """
    if by is not None and (refusal := lacks_role(by=by, roles=SEALERS)):
        raise UnableToSeal(refusal)
    number = period if isinstance(period, int) else period.pk
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger seal'))")
        month = Period.objects.filter(pk=number).first()
        if month is None or month.state in (Period.State.OPEN, Period.State.CLOSING):
            raise UnableToSeal(
                f"Period {number} is {month.state if month else 'unknown'}; only a closed one is sealed."
            )
        if month.state == Period.State.SEALED:
            return month
        before = Period.objects.filter(pk=previous_period(number)).first()
        if before is not None and before.state != Period.State.SEALED:
            raise UnableToSeal(f"Period {before} must be sealed first.")
        previous = before.root_hex if before else proof.NO_ROOT
        salt = secrets.token_bytes(32)
        tree = proof.tree_root(_write_leaves(month, salt))
        month.state, month.sealed_at, month.sealed_by, month.salt = Period.State.SEALED, at, by, salt
        month.merkle_root, month.prev_root = bytes.fromhex(tree), bytes.fromhex(previous)
        month.root = bytes.fromhex(proof.period_root(tree=tree, previous=previous))
        month.save(update_fields=["state", "sealed_at", "sealed_by", "salt", "merkle_root", "prev_root", "root"])
        if by is not None:
            Actor(by, at).log(
                "seal_period",
                f"period:{month.code}",
                before={"state": Period.State.CLOSED},
                after={"state": month.state, "root": month.root_hex},
            )
    return month


def _write_leaves(month: Period, salt: bytes) -> list[str]:
    """Store the period's leaves in the order of their accounts; returns their hashes."""
    hashes: list[str] = []
    rows: list[tuple[Any, ...]] = []
    for leaf in _leaves(month):
        text = proof.leaf_text(
            period=month.code,
            account=leaf.name,
            salt=proof.leaf_salt(salt, leaf.account_id),
            opening=leaf.opening,
            lines_sha256=leaf.lines_sha256.hex(),
            credits_sha256=leaf.credits_sha256.hex(),
            closing=leaf.closing,
        )
        hashes.append(proof.leaf_hash(text))
        rows.append(
            (
                month.pk,
                len(hashes) - 1,
                leaf.account_id,
                leaf.opening,
                leaf.closing,
                leaf.n_lines,
                leaf.n_credits,
                leaf.lines_sha256,
                leaf.credits_sha256,
                bytes.fromhex(hashes[-1]),
            )
        )
        if len(rows) == BATCH_LEAVES:
            _insert(rows)
            rows = []
    _insert(rows)
    return hashes


def _insert(rows: list[tuple[Any, ...]]) -> None:
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO ledger_leaf (period_id, position, account_id, opening, closing, n_lines, n_credits,"
                " lines_digest, credits_digest, hash) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                rows,
            )


# The text of each row is that of proof.rows_sha256: fields apart by a space, each row ended by a line feed. Credits are
# the documents behind a contributor's accrual lines; the programme's own accounts have no statement and need none.
_LEAVES = """
WITH entries AS (
  SELECT id, batch_id FROM ledger_entry WHERE period_id = %(period)s
), moved AS (
  SELECT l.account_id, sum(l.amount)::bigint AS net, count(*) AS n,
         sha256(convert_to(string_agg(l.entry_id || ' ' || l.amount || E'\\n', '' ORDER BY l.entry_id), 'UTF8')) AS d
    FROM ledger_line l JOIN entries e ON e.id = l.entry_id
   WHERE l.entry_id BETWEEN (SELECT min(id) FROM entries) AND (SELECT max(id) FROM entries)
   GROUP BY l.account_id
), credited AS (
  SELECT c.account_id, count(*) AS n,
         sha256(convert_to(string_agg(c.generation_id || ' ' || c.revision || ' ' || c.entry_id || ' ' || c.amount
                                      || E'\\n', '' ORDER BY c.generation_id, c.revision), 'UTF8')) AS d
    FROM (SELECT u.account_id, d.generation_id, d.revision, e.id AS entry_id, u.amount
            FROM entries e JOIN ledger_accrual d ON d.batch_id = e.batch_id,
                 unnest(d.account_ids, d.amounts) AS u(account_id, amount)) c
    JOIN ledger_account a ON a.id = c.account_id AND a.kind = 'contributor_accrued'
   GROUP BY c.account_id
)
SELECT a.id, concat_ws(' ', a.kind, s.code, nullif(a.owner, ''), nullif(a.contract, '')),
       coalesce(p.closing, 0), coalesce(p.closing, 0) + coalesce(m.net, 0), coalesce(m.n, 0), coalesce(c.n, 0),
       coalesce(m.d, sha256('')), coalesce(c.d, sha256(''))
  FROM ledger_account a
  JOIN ledger_asset s ON s.id = a.asset_id
  LEFT JOIN moved m ON m.account_id = a.id
  LEFT JOIN credited c ON c.account_id = a.id
  LEFT JOIN ledger_leaf p ON p.account_id = a.id AND p.period_id = %(before)s
 WHERE m.account_id IS NOT NULL OR p.closing <> 0
 ORDER BY a.id"""


def _leaves(month: Period) -> Iterator[_Leaf]:
    with connection.cursor() as cursor:
        cursor.execute(_LEAVES, {"period": month.pk, "before": previous_period(month.pk)})
        for row in cursor:
            account, name, opening, closing, lines, credits, lines_sha256, credits_sha256 = row
            yield _Leaf(account, name, opening, closing, lines, credits, bytes(lines_sha256), bytes(credits_sha256))
