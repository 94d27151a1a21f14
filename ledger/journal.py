"""The journal: the only writer of entries and lines, and the reader of balances.

Decides nothing about royalties and knows no other app: it posts balanced lines and documents, reverses, and reads
balances. The functions and triggers of ledger/sql hold the rules stated here against every connection.

Order of locks, everywhere: the batch of documents, chain_head, balances. `post` comes last in its transaction.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, connection, transaction

from ledger.documents import Document, on_the_wire
from ledger.models import EntryKind, utc_date
from ledger.money import ASSETS, UNITS_MAX

LINES_MAX = 50_000
DOCUMENTS_MAX = 5_000


class UnableToPost(Exception):
    """An entry that the journal refuses; `problem` names the rule, the message names the fault. No row was written."""

    status = 422
    problem = "entry-refused"

    def __init__(self, message: str, problem: str = "entry-refused", status: int = 422) -> None:
        super().__init__(message)
        self.problem = problem
        self.status = status


@dataclass(frozen=True, slots=True)
class AccountKind:
    """A row of the chart of accounts: the normal side, and whether the balance on that side may go below zero."""

    normal_side: str
    never_negative: bool
    # The first word of the owner, "" for an account of the programme itself.
    owner: str
    takes_contract: bool = False


def _kinds(side: str, *rows: tuple[str, bool, str] | tuple[str, bool, str, bool]) -> dict[str, AccountKind]:
    return {row[0]: AccountKind(side, *row[1:]) for row in rows}


# The chart of accounts. ledger/sql/chart.sql holds the same rows; a test compares them.
CHART: dict[str, AccountKind] = {
    **_kinds(
        "D",
        ("bank", False, ""), ("stripe_balance", False, ""), ("service_unbilled", False, "service"),
        ("service_receivable", False, "service"), ("advance", True, "contributor", True),
        ("contributor_receivable", True, "contributor"), ("fees", False, ""), ("programme_cost", False, ""),
    ),
    **_kinds(
        "C",
        ("service_deposit", True, "service"), ("royalty_pool", False, "plan"), ("floor_pool", False, "plan"),
        ("contributor_accrued", False, "contributor", True), ("contributor_payable", True, "contributor"),
        ("reserve_held", True, "contributor", True), ("on_hold", True, "dispute"),
        ("suspense_unmatched", True, "work"), ("unclaimed", True, "contributor"),
        ("payouts_in_transit", True, "rail"), ("tax_payable", False, "jurisdiction"), ("platform_fee", False, ""),
        ("programme_equity", False, ""),
    ),
    **_kinds("E", ("fx_clearing", False, ""), ("fx_gain_loss", False, ""), ("suspense_cash", False, "")),
}  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class AccountKey:
    """The name of an account: AccountKey("contributor_payable", "USD", "contributor:42")."""

    kind: str
    asset: str
    owner: str = ""
    contract: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.asset, self.owner, self.contract) if part)


@dataclass(frozen=True, slots=True)
class Posted:
    """A stored entry. `replayed` says that it was there already and that nothing was written."""

    entry_id: int
    replayed: bool


# SQLSTATE of ledger/sql -> the problem's slug and the status of an answer that reports it.
_PROBLEMS: dict[str, tuple[str, int]] = {
    "LG001": ("unbalanced", 422),
    "LG002": ("unknown-account", 422),
    "LG003": ("key-reused", 409),
    "LG004": ("period-not-open", 422),
    "LG005": ("not-reversible", 422),
    "LG006": ("already-reversed", 409),
    "LG007": ("document-refused", 422),
    "LG008": ("immutable", 409),
    "LG009": ("amount-invalid", 422),
    "22003": ("amount-out-of-range", 422),
    "23514": ("document-refused", 422),
    "23505": ("document-exists", 409),
    "40P01": ("try-again", 409),
}


def _refused(error: DatabaseError) -> UnableToPost | None:
    """The refusal that a database error stands for; None for an error that is no refusal (a lost connection)."""
    cause = error.__cause__
    code = getattr(cause, "pgcode", None)
    message = str(getattr(getattr(cause, "diag", None), "message_primary", None) or error)
    if code == "23514" and "balance_is_within_its_limits" in message:
        return UnableToPost("An account would fall below its minimum.", "below-minimum", 422)
    if code == "23503" and "ledger_entry_first_account" in message:
        return UnableToPost("An account is not open: open it before anything is posted on it.", "unknown-account")
    if code in _PROBLEMS:
        return UnableToPost(message, *_PROBLEMS[code])
    return None


def _fetch(sql: str, params: Sequence[Any]) -> Any:
    return _fetch_all(sql, params)[0]


def _fetch_all(sql: str, params: Sequence[Any]) -> list[Any]:
    """The rows of one statement that is done as a whole or not at all, with a refusal raised as UnableToPost.

    Inside a transaction that takes a savepoint, so that the transaction can go on after a refusal. Outside, the
    statement is a transaction by itself, in a single round trip.
    """
    whole = transaction.atomic() if connection.in_atomic_block else contextlib.nullcontext()
    try:
        with whole, connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())
    except DatabaseError as error:
        if refusal := _refused(error):
            raise refusal from error
        raise


def _check_key(key: AccountKey) -> None:
    kind = CHART.get(key.kind)
    if kind is None:
        raise UnableToPost(f"The chart of accounts has no kind {key.kind!r}.", "unknown-account")
    if key.asset not in ASSETS:
        raise UnableToPost(f"The ledger keeps no currency {key.asset!r}.", "unknown-asset")
    word, _, rest = key.owner.partition(":")
    if word != kind.owner or bool(rest) != bool(kind.owner):
        wanted = f"an owner such as {kind.owner}:1" if kind.owner else "no owner"
        raise UnableToPost(f"An account {key.kind} has {wanted}, not {key.owner!r}.", "unknown-account")
    if key.contract and not kind.takes_contract:
        raise UnableToPost(f"An account {key.kind} has no contract.", "unknown-account")


def check_lines(lines: Sequence[tuple[AccountKey, int]]) -> None:
    """Raise UnableToPost for lines that no entry can have at any balance."""
    if not 2 <= len(lines) <= LINES_MAX:
        raise UnableToPost(f"An entry has 2 to {LINES_MAX:,} lines, not {len(lines)}.", "unbalanced")
    sums: dict[str, int] = {}
    for key, amount in lines:
        _check_key(key)
        if type(amount) is not int or amount == 0:
            raise UnableToPost(
                f"A line on {key} has the amount {amount!r}; it must be a whole number but 0.", "amount-invalid"
            )
        if abs(amount) > UNITS_MAX:
            raise UnableToPost(f"{amount} on {key} is larger than the ledger can hold.", "amount-out-of-range")
        sums[key.asset] = sums.get(key.asset, 0) + amount
    if off := {asset: amount for asset, amount in sums.items() if amount}:
        raise UnableToPost(f"Debits and credits differ: {off}.", "unbalanced")


def open_accounts(keys: Sequence[AccountKey]) -> list[int]:
    """The numbers of accounts, in order; opens those that are missing (under chain_head, until commit)."""
    for key in keys:
        _check_key(key)
    row = _fetch("SELECT ledger_open_accounts(%s::text[], %s::text[], %s::text[], %s::text[])", _columns(keys))
    return list(row[0])


def _columns(keys: Sequence[AccountKey]) -> list[list[str]]:
    return [[k.kind for k in keys], [k.asset for k in keys], [k.owner for k in keys], [k.contract for k in keys]]


def post(
    *,
    kind: str,
    idem_key: str,
    effective: dt.date,
    lines: Sequence[tuple[AccountKey, int]],
    earned_period: int | None = None,
    reverses: int | None = None,
    reference: str = "",
    rule_version: str | None = None,
) -> Posted:
    """Post one entry. Credit positive, debit negative; the lines of each asset sum to zero; accounts open as needed.

    The same key and body again returns the stored entry, even with another `effective`. The date tells when the entry
    was first posted and is no part of its content. Raises UnableToPost: unbalanced, amount-invalid,
    amount-out-of-range, unknown-account, unknown-asset, key-reused (other body), period-not-open, below-minimum,
    not-reversible, already-reversed.
    """
    check_lines(lines)
    row = _fetch(
        "SELECT entry_id, replayed FROM ledger_post(%s, %s, %s,"
        " ledger_open_accounts(%s::text[], %s::text[], %s::text[], %s::text[]), %s::bigint[], %s, %s, %s, %s)",
        [
            EntryKind(kind).value,
            idem_key,
            effective,
            *_columns([key for key, _ in lines]),
            [amount for _, amount in lines],
            earned_period,
            reverses,
            reference,
            rule_version or "",
        ],
    )
    return Posted(*row)


@dataclass(frozen=True, slots=True)
class Draft:
    """One entry for `post_many`: its key, its lines (credit positive) and its reference."""

    idem_key: str
    lines: Sequence[tuple[AccountKey, int]]
    reference: str = ""
    rule_version: str = ""


def post_many(*, kind: str, effective: dt.date, drafts: Sequence[Draft]) -> list[Posted]:
    """Post several entries of one kind and date in one statement, in order: all or none. Each is as `post` makes it,
    with a key of its own; a refusal (as `post` raises it) does not say which of them it was."""
    if not drafts:
        return []
    row = "(%s, %s, %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s, %s)"
    values: list[Any] = []
    for place, draft in enumerate(drafts):
        check_lines(draft.lines)
        values += [
            place,
            draft.idem_key,
            *_columns([key for key, _ in draft.lines]),
            [amount for _, amount in draft.lines],
            draft.reference,
            draft.rule_version,
        ]
    rows = _fetch_all(
        f"SELECT posted.entry_id, posted.replayed FROM (VALUES {', '.join([row] * len(drafts))})"
        " AS d(place, key, kinds, assets, owners, contracts, amounts, reference, rule)"
        " CROSS JOIN LATERAL ledger_post(%s, d.key, %s, ledger_open_accounts(d.kinds, d.assets, d.owners, d.contracts),"
        " d.amounts, NULL, NULL, d.reference, d.rule) AS posted ORDER BY d.place",
        [*values, EntryKind(kind).value, effective],
    )
    return [Posted(*row) for row in rows]


def reverse(
    *, entry_id: int, idem_key: str, effective: dt.date, reference: str, kind: str = EntryKind.REVERSE
) -> Posted:
    """Post the opposite of an entry. Refused for an entry with documents (restating posts documents), for one that
    is reversed already, and for a reversal."""
    row = _fetch(
        "SELECT entry_id, replayed FROM ledger_reverse(%s, %s, %s, %s, %s)",
        [entry_id, EntryKind(kind).value, idem_key, effective, reference],
    )
    return Posted(*row)


# --- documents ----------------------------------------------------------------------------------------------------
_COPY = (
    "COPY ledger_accrual (generation_id, revision, batch_id, source_id, gross, plan_id, account_ids, amounts)"
    " FROM STDIN WITH (FORMAT binary)"
)
_POST_DOCUMENTS = (
    "SELECT entry_id, replayed FROM ledger_post_documents(%s, %s, %s, %s, %s, %s, %s, %s, %s::uuid[], %s::integer[],"
    " %s::bigint[], %s::bigint[], %s::bigint[], %s::integer[], %s::bigint[], %s::bigint[])"
)
# Up to here a batch is sent in the call that posts it; a larger one is copied first.
INLINE_CREDITS_MAX = 1000


def _request_hash(kind: str, earned: int, reference: str, rule_version: str, body: bytes) -> bytes:
    """Compute the same hash as ledger_request_hash: over the header as JSON, then the digest of the body."""
    header = json.dumps([kind, earned, None, reference, rule_version], ensure_ascii=False)
    return hashlib.sha256(header.encode() + body).digest()


def _check_documents(documents: Sequence[Document]) -> None:
    if not 1 <= len(documents) <= DOCUMENTS_MAX:
        raise UnableToPost(f"A batch has 1 to {DOCUMENTS_MAX:,} documents, not {len(documents)}.", "document-refused")
    for d in documents:
        if len(d.account_ids) != len(d.amounts) or not len(d.amounts):
            raise UnableToPost(f"{d.generation_id}: accounts and amounts differ in number.", "document-refused")
        if not d.revision or not -UNITS_MAX <= d.gross <= UNITS_MAX:
            raise UnableToPost(f"{d.generation_id}: revision or gross is out of range.", "document-refused")


def post_accruals(
    *,
    kind: str = EntryKind.ACCRUE,
    idem_key: str,
    effective: dt.date,
    earned_period: int,
    documents: Sequence[Document],
    reference: str = "",
    rule_version: str = "",
) -> Posted:
    """Post a batch of documents and the one entry above them. Its lines are the documents' sums by account.

    One batch has one asset and one earned period. Idempotent as `post`. Raises UnableToPost: document-refused (sums,
    signs, assets, a generation accrued already), document-exists, and the problems of `post`.
    """
    _check_documents(documents)
    wire = on_the_wire(documents)
    batch_id = int.from_bytes(hashlib.sha256(idem_key.encode()).digest()[:8], "big") >> 1
    word = EntryKind(kind).value
    request = _request_hash(word, earned_period, reference, rule_version, wire.digest)
    body: list[Any] = [word, idem_key, request, effective, batch_id, earned_period, reference, rule_version]
    if len(wire.amounts) <= INLINE_CREDITS_MAX:
        return Posted(*_fetch(_POST_DOCUMENTS, [*body, *wire.arguments()]))
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # Serialises two deliveries of one batch before either copies a row.
            cursor.execute("SELECT entry_id FROM ledger_begin_batch(%s, %s, %s)", [idem_key, batch_id, request])
            (stored,) = cursor.fetchone()
            if stored is not None:
                return Posted(stored, True)
            with connection.wrap_database_errors:
                cursor.copy_expert(_COPY, io.BytesIO(wire.stream(batch_id)))
            cursor.execute("SELECT ledger_post_accruals(%s, %s, %s, %s, %s, %s, %s, %s)", body)
            return Posted(cursor.fetchone()[0], False)
    except DatabaseError as error:
        if refusal := _refused(error):
            raise refusal from error
        raise


# --- reads --------------------------------------------------------------------------------------------------------
def find(idem_key: str) -> int | None:
    """The entry posted under a key, if any. An operation asks before it computes when its lines depend on balances."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM ledger_entry WHERE idem_key = %s", [idem_key])
        row = cursor.fetchone()
    return int(row[0]) if row else None


def hold_still() -> None:
    """Take chain_head until commit, so that balances read from here on stand until `post`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_hold_still()")


def sequence_at(as_of: dt.datetime | int | None) -> int | None:
    """The last entry at a moment, as known then; an entry number stands for itself; None is now."""
    if as_of is None or isinstance(as_of, int):
        return as_of
    utc_date(as_of)
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM ledger_entry WHERE posted_at <= %s", [as_of])
        return int(cursor.fetchone()[0])


def balances(keys: Sequence[AccountKey], as_of: dt.datetime | int | None = None) -> dict[AccountKey, int]:
    """The balance of each account, credit positive; 0 for one that was never opened."""
    if not keys:
        return {}
    sequence = sequence_at(as_of)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT posted FROM ledger_balances(%s::text[], %s::text[], %s::text[], %s::text[], %s) ORDER BY place",
            [*_columns(keys), sequence],
        )
        return {key: int(row[0]) for key, row in zip(keys, cursor.fetchall(), strict=True)}


def balance(key: AccountKey, as_of: dt.datetime | int | None = None) -> int:
    """The balance of one account in units, credit positive: now, at an entry, or at a moment as known then."""
    return balances([key], as_of)[key]


def owed(key: AccountKey) -> int:
    """The balance of one account on its normal side."""
    return -balance(key) if CHART[key.kind].normal_side == "D" else balance(key)


def matured_balances(keys: Sequence[AccountKey], before: dt.date | dt.datetime) -> dict[AccountKey, int]:
    """The amount that a payout may take of each payable, in units: the balance less the credits of closes dated on or
    after `before`.

    Money that a payout took and gave back is as old as it was.
    """
    if not keys:
        return {}
    day = utc_date(before) if isinstance(before, dt.datetime) else before
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT matured FROM ledger_matured(%s::text[], %s::text[], %s::text[], %s::text[], %s) ORDER BY place",
            [*_columns(keys), day],
        )
        return {key: int(row[0]) for key, row in zip(keys, cursor.fetchall(), strict=True)}


def matured(key: AccountKey, before: dt.date | dt.datetime) -> int:
    """The amount that a payout may take of one payable, in units."""
    return matured_balances([key], before)[key]
