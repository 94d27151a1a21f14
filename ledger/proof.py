"""Proves a statement to the person it was made for, offline: with this one file and Python's standard library.

Decides the bytes of a leaf, of the tree above the leaves and of the chain of period roots, and checks a statement's
CSV against them. It imports nothing of ours and nothing installed, so that it can be copied out and read:

    python verify_statement.py statement.csv --root 5f2c...        (the root that was published for the period)

The programme publishes every root, with the chain, at /roots/ and as JSON at /roots.json, for anybody without an
account. A copy kept elsewhere is better evidence: it cannot be changed together with the books.

One leaf is one account in one period. Hashes are SHA-256 over plain text, so that `sha256sum` can repeat each step;
the tree is that of RFC 6962 (a lone node moves up unchanged; leaves and nodes are hashed under different prefixes).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

FORMAT = "tributary-statement-1"
COLUMNS = ("record", "period", "currency", "account", "item", "reference", "amount", "hash")
NO_ROOT = "0" * 64
"""The root before the first sealed period."""
BYTES_MAX = 16 * 1024**3
"""A statement of a hundred million generations; what is longer is none."""
ROW_BYTES_MAX = 1024 * 1024

# Which pot of the statement an account's kind belongs to. An account of a kind that is missing here is no account of a
# contributor.
POTS = {
    "contributor_accrued": "owed",
    "contributor_payable": "owed",
    "contributor_receivable": "owed",
    "reserve_held": "held",
    "on_hold": "held",
    "unclaimed": "held",
    "advance": "advance",
}
# A statement's line -> the group of journal lines that it is made of, where the two differ: tax withheld from a payout
# lies on an account of the tax office, so the journal lines of the payee prove the sum of both.
LINE_GROUPS = {"withholding": "payouts"}
_AMOUNT = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,18})?")
_NUMBER = re.compile(r"-?[0-9]{1,19}")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""The mark by which a spreadsheet knows UTF-8. It may stand before the first column, and the digest leaves it out."""
DIGEST_WORDS = ("sha256 of every byte between the byte-order mark and this row", "sha256 of every byte before this row")
"""The words of the last row about its digest: as written now, and as written before files had a mark."""
_HEX = re.compile(r"[0-9a-f]{64}")


# --- the bytes that are hashed ------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Leaf:
    """One account in one period. Amounts are integers in units of the asset's scale; credit is positive.

    `lines` are (entry id, amount), ascending. `credits` are (generation id, revision, entry id, amount), ascending by
    the id's text and then the revision: the documents behind the accrual lines.
    """

    period: str
    account: str
    salt: str
    opening: int
    lines: tuple[tuple[int, int], ...]
    credits: tuple[tuple[str, int, int, int], ...]
    closing: int

    @property
    def text(self) -> str:
        return leaf_text(
            period=self.period,
            account=self.account,
            salt=self.salt,
            opening=self.opening,
            lines_sha256=rows_sha256(self.lines),
            credits_sha256=rows_sha256(self.credits),
            closing=self.closing,
        )

    @property
    def hash(self) -> str:
        return leaf_hash(self.text)


def rows_sha256(rows: Iterable[Sequence[object]]) -> str:
    """The digest of rows: fields joined by a space, each row ended by a line feed."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row_bytes(row))
    return digest.hexdigest()


def row_bytes(row: Sequence[object]) -> bytes:
    return (" ".join(str(value) for value in row) + "\n").encode()


def leaf_text(
    *, period: str, account: str, salt: str, opening: int, lines_sha256: str, credits_sha256: str, closing: int
) -> str:
    return (
        f"tributary-leaf-1\nperiod {period}\naccount {account}\nsalt {salt}\nopening {opening}\n"
        f"lines {lines_sha256}\ncredits {credits_sha256}\nclosing {closing}\n"
    )


def leaf_salt(period_salt: bytes, account_number: int) -> str:
    """The salt that hides a leaf's amounts from a reader of its hash alone; only the payee of that account gets it."""
    return hashlib.sha256(period_salt + account_number.to_bytes(8, "big")).hexdigest()


def leaf_hash(text: str) -> str:
    return hashlib.sha256(b"\x00" + text.encode()).hexdigest()


def node_hash(left: str, right: str) -> str:
    return hashlib.sha256(b"\x01" + bytes.fromhex(left) + bytes.fromhex(right)).hexdigest()


def tree_root(leaves: Sequence[str]) -> str:
    """The root above leaf hashes in their given order; NO_ROOT above none."""
    level = list(leaves)
    while len(level) > 1:
        level = _level_above(level)
    return level[0] if level else NO_ROOT


def siblings(leaves: Sequence[str], position: int) -> list[tuple[str, str]]:
    """The way from one leaf up to the root: ("left" | "right", hash) of each sibling, lowest first."""
    if not 0 <= position < len(leaves):
        raise IndexError(f"there is no leaf {position} among {len(leaves)}")
    way, level = [], list(leaves)
    while len(level) > 1:
        beside = position ^ 1
        if beside < len(level):
            way.append(("right" if beside > position else "left", level[beside]))
        level, position = _level_above(level), position // 2
    return way


def _level_above(level: Sequence[str]) -> list[str]:
    paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return paired + ([level[-1]] if len(level) % 2 else [])


def climb(leaf: str, way: Iterable[tuple[str, str]]) -> str:
    """The root that a leaf and its siblings lead to."""
    for side, sibling in way:
        leaf = node_hash(leaf, sibling) if side == "right" else node_hash(sibling, leaf)
    return leaf


def period_root(*, tree: str, previous: str) -> str:
    """The published root of a period: its tree's root chained to the root of the sealed period before it."""
    return hashlib.sha256(bytes.fromhex(previous) + bytes.fromhex(tree)).hexdigest()


# --- the file -----------------------------------------------------------------------------------------------------
class UnableToVerify(Exception):
    """The statement differs from the sealed one; the message is the reason."""


@dataclass(slots=True)
class _Account:
    opening: int | None = None
    closing: int | None = None
    salt: str = ""
    leaf: str = ""
    lines: list[tuple[int, int]] = field(default_factory=list)
    groups: list[tuple[str, int]] = field(default_factory=list)
    # Of the credits, which may be millions: their number, their sum by entry, and the digest of their rows so far.
    credits: int = 0
    credited: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    credits_sha256: Any = field(default_factory=hashlib.sha256)
    siblings: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _File:
    period: str = ""
    reference: str = ""
    pots: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    accounts: dict[tuple[str, str], _Account] = field(default_factory=dict)
    earned: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    breakdowns: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    owner: list[str] | None = None
    roots: dict[str, str] = field(default_factory=dict)
    scales: dict[str, int] = field(default_factory=dict)
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    period: str
    reference: str
    accounts: int
    credits: int
    root: str
    """Empty for a period that is not sealed: the figures agree with each other, and nothing is proved yet."""


def verify(data: bytes, *, root: str = "") -> Verified:
    """Check a statement's CSV; `root` is the published one, where the reader has it. Raises UnableToVerify."""
    return verify_file(io.BytesIO(data), root=root)


def verify_file(file: BinaryIO, *, root: str = "") -> Verified:
    """The same of an open file, row by row: no more than one credit is held at a time. Raises UnableToVerify."""
    rows = _Rows(file)
    read = _read(rows)
    _check_pots(read)
    _check_accounts(read)
    _check_breakdowns(read)
    proved = _check_proof(read, root)
    rows.check_digest()
    credits = sum(account.credits for account in read.accounts.values())
    return Verified(read.period, read.reference, len(read.accounts), credits, proved)


class _Rows:
    """The lines of a file as text, while their bytes are digested: all but the last, which holds the digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._last = b""
        self._before_last = b""
        self._bytes = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(ROW_BYTES_MAX + 1):
            self._bytes += len(line)
            if len(line) > ROW_BYTES_MAX or self._bytes > BYTES_MAX:
                raise UnableToVerify("the file is too large to be a statement")
            if self._bytes == len(line):
                line = line.removeprefix(BYTE_ORDER_MARK)
            self._digest.update(self._last)
            self._before_last, self._last = self._last, line
            yield line.decode("utf-8")

    def check_digest(self) -> None:
        """Find a change in text that no figure depends on, such as a title, and a file that was cut short."""
        if not self._last.startswith(b"digest,") or not self._before_last.endswith(b"\r\n"):
            raise UnableToVerify("the `digest` row is missing: the file was cut short or is no statement as downloaded")
        rows = [b"digest," + digest_row(self._digest.hexdigest(), words) for words in DIGEST_WORDS]
        if self._last not in rows:
            raise UnableToVerify("the file was changed after it was made: its digest differs")


def _read(rows: Iterable[str]) -> _File:
    reader = csv.reader(rows, strict=True)
    read = _File()
    number = 0
    try:
        for number, row in enumerate(reader, start=1):
            if number == 1:
                if tuple(row) != COLUMNS:
                    break
            else:
                _take_row(read, number, row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnableToVerify(f"the file is no CSV in UTF-8: {error}") from error
    if number < 2:
        raise UnableToVerify(f"the first line does not name the columns {', '.join(COLUMNS)}")
    if not read.period:
        raise UnableToVerify("the file has no `statement` row")
    return read


def _take_row(read: _File, number: int, row: list[str]) -> None:
    if len(row) != len(COLUMNS):
        raise UnableToVerify(f"row {number} has {len(row)} fields, not {len(COLUMNS)}")
    try:
        _take(read, dict(zip(COLUMNS, row, strict=True)))
    except (ValueError, KeyError) as error:
        raise UnableToVerify(f"row {number} ({row[0]}) cannot be read: {error}") from error


def _take(read: _File, row: dict[str, str]) -> None:
    record, currency, item = row["record"], row["currency"], row["item"]
    if record == "statement":
        if item != FORMAT:
            raise ValueError(f"the format is {item!r}, this verifier reads {FORMAT}")
        if read.period:
            raise ValueError("a file is one statement, and this is a second one")
        read.period, read.reference = row["period"], row["reference"]
        return
    if record in {"note", "digest"}:
        return
    if row["period"] != read.period:
        raise ValueError(f"it speaks of period {row['period']!r}, the statement of {read.period!r}")
    if record in {"opening", "line", "closing"}:
        pot = read.pots.setdefault((currency, row["account"]), {})
        name = item if record == "line" else record
        if name in pot:
            raise ValueError(f"{name} stands there twice")
        pot[name] = _amount(read, row)
    elif record in {"work", "model"}:
        read.breakdowns[currency, record] += _amount(read, row)
    elif record in {"root", "tree", "previous"}:
        if record in read.roots:
            raise ValueError(f"{record} stands there twice")
        read.roots[record] = _hash(row)
        read.sealed = True
    else:
        _take_of_account(read, record, row)


def _take_of_account(read: _File, record: str, row: dict[str, str]) -> None:
    kind = row["account"].split(" ", 1)[0]
    if POTS.get(kind) is None:
        raise ValueError(f"{row['account']!r} is no account of a contributor")
    owner = row["account"].split(" ")[2:3]
    if read.owner not in (None, owner):
        raise ValueError(f"{row['account']!r} is somebody else's account than those before it")
    read.owner = owner
    account = read.accounts.setdefault((row["currency"], row["account"]), _Account())
    once = {"account_opening": account.opening, "account_closing": account.closing, "leaf": account.leaf or None}
    if once.get(record) is not None:
        raise ValueError(f"{record} of {row['account']} stands there twice")
    if record == "account_opening":
        account.opening = _amount(read, row)
    elif record == "account_closing":
        account.closing = _amount(read, row)
    elif record == "journal":
        amount = _amount(read, row)
        account.lines.append((_number(row["reference"]), amount))
        account.groups.append((row["item"], amount))
    elif record == "credit":
        entry, _, revision = row["item"].partition(" revision ")
        credit = (row["reference"], _number(revision), _number(entry), _amount(read, row))
        account.credits += 1
        account.credited[credit[2]] += credit[3]
        account.credits_sha256.update(row_bytes(credit))
    elif record == "leaf":
        account.salt, account.leaf = row["reference"], _hash(row)
    elif record == "sibling":
        if row["item"] not in {"left", "right"}:
            raise ValueError(f"{row['item']!r} is no side")
        account.siblings.append((row["item"], _hash(row)))
    else:
        raise ValueError("no such record is known")


def _amount(read: _File, row: dict[str, str]) -> int:
    """The amount in units of its currency's scale, which is the number of its decimals."""
    text, currency = row["amount"], row["currency"]
    if not _AMOUNT.fullmatch(text):
        raise ValueError(f"{text!r} is no amount")
    scale = len(text.partition(".")[2])
    if read.scales.setdefault(currency, scale) != scale:
        raise ValueError(f"{text} has {scale} decimals, other amounts in {currency} have {read.scales[currency]}")
    return int(text.replace(".", ""))


def _number(text: str) -> int:
    """A whole number as it is written here: int() would also take blanks, underscores and the digits of any script."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no number")
    return int(text)


def _hash(row: dict[str, str]) -> str:
    if not _HEX.fullmatch(row["hash"]):
        raise ValueError(f"{row['hash']!r} is no SHA-256")
    return row["hash"]


# --- the checks ---------------------------------------------------------------------------------------------------
def _check_pots(read: _File) -> None:
    """Opening + lines = closing, in every currency and pot."""
    for (currency, pot), named in read.pots.items():
        if "opening" not in named or "closing" not in named:
            raise UnableToVerify(f"{currency} {pot}: opening or closing is missing")
        lines = sum(amount for name, amount in named.items() if name not in {"opening", "closing"})
        if named["opening"] + lines != named["closing"]:
            raise UnableToVerify(
                f"{currency} {pot}: opening {_show(read, currency, named['opening'])} and lines "
                f"{_show(read, currency, lines)} do not make the closing {_show(read, currency, named['closing'])}"
            )


def _check_accounts(read: _File) -> None:
    """Every account adds up, its accruals are the sum of their credits, and the accounts make up the pots."""
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for (currency, name), account in read.accounts.items():
        if account.opening is None or account.closing is None:
            raise UnableToVerify(f"{name}: opening or closing is missing")
        moved = sum(amount for _, amount in account.lines)
        if account.opening + moved != account.closing:
            raise UnableToVerify(
                f"{name}: opening {_show(read, currency, account.opening)} and entries "
                f"{_show(read, currency, moved)} do not make the closing {_show(read, currency, account.closing)}"
            )
        _check_credits(read, currency, name, account)
        pot = sums[currency, POTS[name.split(" ", 1)[0]]]
        pot["opening"] += account.opening
        pot["closing"] += account.closing
        for group, amount in account.groups:
            pot[group] += amount
    for key in read.pots.keys() | sums.keys():
        _check_pot_against_accounts(read, key, sums.get(key, {}))


def _check_credits(read: _File, currency: str, name: str, account: _Account) -> None:
    read.earned[currency, name] += sum(account.credited.values())
    posted = dict(account.lines)
    if len(posted) != len(account.lines):
        raise UnableToVerify(f"{name}: an entry stands there twice")
    for entry, amount in account.credited.items():
        # A restatement that leaves an account as it was posts no line on it.
        if posted.get(entry, 0) != amount:
            raise UnableToVerify(
                f"{name}: the credits of entry {entry} sum to {_show(read, currency, amount)}, its journal line says "
                f"{_show(read, currency, posted.get(entry, 0))}"
            )


def _check_pot_against_accounts(read: _File, key: tuple[str, str], sums: dict[str, int]) -> None:
    currency, pot = key
    grouped: dict[str, int] = defaultdict(int)
    for name, amount in read.pots.get(key, {}).items():
        grouped[LINE_GROUPS.get(name, name)] += amount
    for name in grouped.keys() | sums.keys():
        if grouped.get(name, 0) != sums.get(name, 0):
            raise UnableToVerify(
                f"{currency} {pot}: {name} is {_show(read, currency, grouped.get(name, 0))} on the statement and "
                f"{_show(read, currency, sums.get(name, 0))} in the journal"
            )


def _check_breakdowns(read: _File) -> None:
    """Earnings by work and by model each sum to the credits."""
    for currency in {currency for currency, _ in read.earned} | {currency for currency, _ in read.breakdowns}:
        earned = sum(amount for (code, _), amount in read.earned.items() if code == currency)
        for record in ("work", "model"):
            told = read.breakdowns.get((currency, record), 0)
            if told != earned:
                raise UnableToVerify(
                    f"{currency}: earnings by {record} sum to {_show(read, currency, told)}, "
                    f"the credits to {_show(read, currency, earned)}"
                )


def _check_proof(read: _File, published: str) -> str:
    """Each account's leaf leads to the tree's root, which with the previous root makes the period's."""
    if not read.sealed:
        if published:
            raise UnableToVerify("the file carries no proof: its period was not sealed when it was made")
        return ""
    for name in ("root", "tree", "previous"):
        if name not in read.roots:
            raise UnableToVerify(f"the `{name}` row is missing")
    for (_, name), account in read.accounts.items():
        if account.opening == account.closing == 0 and not account.lines and not account.leaf:
            continue
        text = leaf_text(
            period=read.period,
            account=name,
            salt=account.salt,
            opening=account.opening or 0,
            lines_sha256=rows_sha256(account.lines),
            credits_sha256=account.credits_sha256.hexdigest(),
            closing=account.closing or 0,
        )
        if leaf_hash(text) != account.leaf:
            raise UnableToVerify(f"{name}: its figures do not make the sealed leaf {account.leaf or '(missing)'}")
        if climb(account.leaf, account.siblings) != read.roots["tree"]:
            raise UnableToVerify(f"{name}: its leaf does not lead to the root of the tree")
    made = period_root(tree=read.roots["tree"], previous=read.roots["previous"])
    if made != read.roots["root"]:
        raise UnableToVerify("the tree and the previous root do not make the root of the period")
    if published and published.lower() != made:
        raise UnableToVerify(f"the root in the file is {made}, the published one is {published}")
    return made


def digest_tail(body: bytes) -> bytes:
    """The text after `digest,` in the last row of a file; `body` is its other rows without a byte-order mark."""
    return digest_row(hashlib.sha256(body).hexdigest())


def digest_row(digest: str, words: str = DIGEST_WORDS[0]) -> bytes:
    return f",,,,{words},,{digest}\r\n".encode()


def _show(read: _File, currency: str, amount: int) -> str:
    scale = read.scales.get(currency, 0)
    digits = str(abs(amount)).rjust(scale + 1, "0")
    whole, decimals = (digits[:-scale], digits[-scale:]) if scale else (digits, "")
    return f"{'-' if amount < 0 else ''}{whole}{'.' if scale else ''}{decimals}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: proved; 1: something is wrong, with the reason; 2: the figures agree, the period is not sealed."""
    parser = argparse.ArgumentParser(prog="verify_statement", description="Verify a royalty statement (CSV), offline.")
    parser.add_argument("file", help="the statement's CSV")
    parser.add_argument("--root", default="", help="the published root of the period, to compare with")
    options = parser.parse_args(arguments)
    try:
        with open(options.file, "rb") as handle:
            verified = verify_file(handle, root=options.root)
    except OSError as error:
        print(f"NOT VERIFIED: {error}", file=sys.stderr)
        return 1
    except UnableToVerify as reason:
        print(f"NOT VERIFIED: {reason}", file=sys.stderr)
        return 1
    print(f"Statement of {verified.reference} for {verified.period}: the figures agree with each other,")
    print(f"{verified.accounts} account(s), {verified.credits} credit(s).")
    if not verified.root:
        print("The period is not sealed yet, so there is no proof that these are the ledger's figures.")
        return 2
    print(f"They are in the ledger as sealed under the root {verified.root}")
    if not options.root:
        print("Compare this root with the published one, or give that with --root.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
