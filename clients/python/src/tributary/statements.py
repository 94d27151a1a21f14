"""Verification of a royalty statement (CSV) at home: the standard library, no network, no account.

A statement proves itself in four steps, each over the step before:

1. The file is whole: its last row holds the SHA-256 of every byte before it.
2. The figures agree: opening and lines make the closing in every pot and account, credits make the accruals, the
   accounts make the pots, and the earnings by work and by model make the credits.
3. Each account is a leaf: its figures under its salt have the hash that the file gives.
4. Each leaf lies in the sealed tree: siblings lead to the tree's root, which chained to the previous root is the
   period's published root. The tree is that of RFC 6962.

This module is written apart from the programme's own verifier, so that a mistake in one of them shows.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from tributary.errors import TributaryError

FORMAT = "tributary-statement-1"
HEADER = ["record", "period", "currency", "account", "item", "reference", "amount", "hash"]
MARK = b"\xef\xbb\xbf"
ROW_BYTES_MAX = 1024 * 1024
FILE_BYTES_MAX = 16 * 1024**3
# The pot of the statement to which each kind of account belongs.
POT_OF = {
    "contributor_accrued": "owed",
    "contributor_payable": "owed",
    "contributor_receivable": "owed",
    "reserve_held": "held",
    "on_hold": "held",
    "unclaimed": "held",
    "advance": "advance",
}
# Tax withheld stands on an account of the tax office; the payee's journal holds it within the payouts.
JOURNAL_GROUP = {"withholding": "payouts"}
DIGESTS = ("sha256 of every byte between the byte-order mark and this row", "sha256 of every byte before this row")

_AMOUNT = re.compile(r"(-?)([0-9]{1,30})(?:\.([0-9]{1,18}))?")
_COUNT = re.compile(r"-?[0-9]{1,19}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class StatementError(TributaryError):
    """The statement is not the sealed one, or no statement; the message is the reason."""


@dataclass(frozen=True)
class VerifiedStatement:
    """A statement that agrees with itself. `root` is empty while its month is not sealed: nothing is proved yet."""

    period: str
    reference: str
    accounts: int
    credits: int
    root: str

    @property
    def is_proved(self) -> bool:
        """True when the figures lie under the root of a sealed month."""
        return bool(self.root)


def verify_statement(source: bytes | str | os.PathLike[str] | BinaryIO, *, root: str = "") -> VerifiedStatement:
    """Verify a statement's CSV: its bytes, its path, or an open file. `root` is the published root of its month.

    Memory does not grow with the number of credits. Raises StatementError, and OSError for a path that cannot be read.
    """
    if isinstance(source, bytes):
        return _verify(io.BytesIO(source), root)
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            return _verify(file, root)
    return _verify(source, root)


def _verify(file: BinaryIO, published: str) -> VerifiedStatement:
    reader = _Reader(file)
    statement = reader.read()
    statement.check_pots()
    statement.check_accounts()
    statement.check_earnings()
    root = statement.check_seal(published.strip().lower())
    reader.check_whole()
    credits = sum(account.credits for account in statement.accounts.values())
    return VerifiedStatement(statement.period, statement.reference, len(statement.accounts), credits, root)


# --- hashes -----------------------------------------------------------------------------------------------------------
def _leaf_hash(period: str, name: str, account: _Account) -> str:
    lines = hashlib.sha256()
    for entry, amount in account.entries:
        lines.update(b"%d %d\n" % (entry, amount))
    text = "\n".join(
        [
            "tributary-leaf-1",
            f"period {period}",
            f"account {name}",
            f"salt {account.salt}",
            f"opening {account.opening}",
            f"lines {lines.hexdigest()}",
            f"credits {account.credits_digest.hexdigest()}",
            f"closing {account.closing}",
            "",
        ]
    )
    return hashlib.sha256(b"\0" + text.encode()).hexdigest()


def _root_above(leaf: str, siblings: list[tuple[str, str]]) -> str:
    node = bytes.fromhex(leaf)
    for side, text in siblings:
        sibling = bytes.fromhex(text)
        pair = node + sibling if side == "right" else sibling + node
        node = hashlib.sha256(b"\1" + pair).digest()
    return node.hex()


# --- the content of a file --------------------------------------------------------------------------------------------
@dataclass
class _Account:
    opening: int | None = None
    closing: int | None = None
    salt: str = ""
    leaf: str = ""
    entries: list[tuple[int, int]] = field(default_factory=list)
    groups: Counter[str] = field(default_factory=Counter)
    siblings: list[tuple[str, str]] = field(default_factory=list)
    credits: int = 0
    credited: Counter[int] = field(default_factory=Counter)
    credits_digest: Any = field(default_factory=hashlib.sha256)


@dataclass
class _Statement:
    period: str = ""
    reference: str = ""
    owner: str | None = None
    scales: dict[str, int] = field(default_factory=dict)
    pots: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    accounts: dict[tuple[str, str], _Account] = field(default_factory=dict)
    earned_by: dict[str, Counter[str]] = field(default_factory=lambda: {"work": Counter(), "model": Counter()})
    seal: dict[str, str] = field(default_factory=dict)

    def shown(self, currency: str, units: int) -> str:
        scale = self.scales.get(currency, 0)
        whole, rest = divmod(abs(units), 10**scale)
        sign = "-" if units < 0 else ""
        return f"{sign}{whole}.{rest:0{scale}d}" if scale else f"{sign}{whole}"

    def check_pots(self) -> None:
        for (currency, pot), named in self.pots.items():
            if not {"opening", "closing"} <= named.keys():
                raise StatementError(f"{currency} {pot}: opening or closing is missing")
            moved = sum(named.values()) - named["opening"] - named["closing"]
            self._check_sum(f"{currency} {pot}", currency, "lines", named["opening"], moved, named["closing"])

    def _check_sum(self, place: str, currency: str, moves: str, opening: int, moved: int, closing: int) -> None:
        if opening + moved != closing:
            raise StatementError(
                f"{place}: opening {self.shown(currency, opening)} and {moves} {self.shown(currency, moved)} "
                f"do not make the closing {self.shown(currency, closing)}"
            )

    def check_accounts(self) -> None:
        journal: dict[tuple[str, str], Counter[str]] = {}
        for (currency, name), account in self.accounts.items():
            if account.opening is None or account.closing is None:
                raise StatementError(f"{name}: opening or closing is missing")
            moved = sum(amount for _, amount in account.entries)
            self._check_sum(name, currency, "entries", account.opening, moved, account.closing)
            self._check_credits(currency, name, account)
            sums = journal.setdefault((currency, POT_OF[name.split(" ", 1)[0]]), Counter())
            for group, amount in [("opening", account.opening), ("closing", account.closing), *account.groups.items()]:
                sums[group] += amount
        for key in sorted({*self.pots, *journal}):
            self._check_pot(key, journal.get(key, Counter()))

    def _check_credits(self, currency: str, name: str, account: _Account) -> None:
        posted = dict(account.entries)
        if len(posted) < len(account.entries):
            raise StatementError(f"{name}: an entry stands there twice")
        for entry, amount in account.credited.items():
            line = posted.get(entry, 0)
            if line != amount:
                raise StatementError(
                    f"{name}: the credits of entry {entry} sum to {self.shown(currency, amount)}, its journal line "
                    f"says {self.shown(currency, line)}"
                )

    def _check_pot(self, key: tuple[str, str], journal: Counter[str]) -> None:
        currency, pot = key
        told: Counter[str] = Counter()
        for name, amount in self.pots.get(key, {}).items():
            told[JOURNAL_GROUP.get(name, name)] += amount
        for name in sorted({*told, *journal}):
            if told[name] != journal[name]:
                raise StatementError(
                    f"{currency} {pot}: {name} is {self.shown(currency, told[name])} on the statement and "
                    f"{self.shown(currency, journal[name])} in the journal"
                )

    def check_earnings(self) -> None:
        credited: Counter[str] = Counter()
        for (currency, _), account in self.accounts.items():
            credited[currency] += sum(account.credited.values())
        for record, earned in self.earned_by.items():
            for currency in sorted({*credited, *earned}):
                if earned[currency] != credited[currency]:
                    raise StatementError(
                        f"{currency}: earnings by {record} sum to {self.shown(currency, earned[currency])}, the "
                        f"credits to {self.shown(currency, credited[currency])}"
                    )

    def check_seal(self, published: str) -> str:
        """Follow every account up to the root of the period, which is returned; empty for an unsealed period."""
        if not self.seal:
            if published:
                raise StatementError("the file carries no proof: its period was not sealed when it was made")
            return ""
        missing = [name for name in ("root", "tree", "previous") if name not in self.seal]
        if missing:
            raise StatementError(f"the `{missing[0]}` row is missing")
        for (_, name), account in self.accounts.items():
            is_empty = account.opening == account.closing == 0 and not account.entries
            if is_empty and not account.leaf:
                continue
            if _leaf_hash(self.period, name, account) != account.leaf:
                raise StatementError(f"{name}: its figures do not make the sealed leaf {account.leaf or '(missing)'}")
            if _root_above(account.leaf, account.siblings) != self.seal["tree"]:
                raise StatementError(f"{name}: its leaf does not lead to the root of the tree")
        chained = hashlib.sha256(bytes.fromhex(self.seal["previous"]) + bytes.fromhex(self.seal["tree"])).hexdigest()
        if chained != self.seal["root"]:
            raise StatementError("the tree and the previous root do not make the root of the period")
        if published and published != chained:
            raise StatementError(f"the root in the file is {chained}, the published one is {published}")
        return chained


# --- reading ----------------------------------------------------------------------------------------------------------
class _Reader:
    """Reads the rows one by one and digests the bytes of all but the last."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._last = self._before = b""

    def read(self) -> _Statement:
        statement = _Statement()
        number = 0
        try:
            for number, row in enumerate(csv.reader(self._lines(), strict=True), start=1):
                if number > 1:
                    _Row(statement, number, row).take()
                elif row != HEADER:
                    number = 0
                    break
        except (UnicodeDecodeError, csv.Error) as error:
            raise StatementError(f"the file is no CSV in UTF-8: {error}") from error
        if number < 2:
            raise StatementError(f"the first line does not name the columns {', '.join(HEADER)}")
        if not statement.period:
            raise StatementError("the file has no `statement` row")
        return statement

    def _lines(self) -> Iterator[str]:
        while True:
            line = self._file.readline(ROW_BYTES_MAX + 1)
            if not line:
                return
            if not self._size and line.startswith(MARK):
                line = line[len(MARK) :]
            self._size += len(line)
            if len(line) > ROW_BYTES_MAX or self._size > FILE_BYTES_MAX:
                raise StatementError("the file is too large to be a statement")
            self._sha256.update(self._last)
            self._before, self._last = self._last, line
            yield line.decode("utf-8")

    def check_whole(self) -> None:
        if not (self._last.startswith(b"digest,") and self._before.endswith(b"\r\n")):
            raise StatementError("the `digest` row is missing: the file was cut short or is no statement as downloaded")
        digest = self._sha256.hexdigest()
        if self._last not in {f"digest,,,,,{words},,{digest}\r\n".encode() for words in DIGESTS}:
            raise StatementError("the file was changed after it was made: its digest differs")


class _Row:
    """One row with its place, given to the statement."""

    def __init__(self, statement: _Statement, number: int, fields: list[str]) -> None:
        if len(fields) != len(HEADER):
            raise StatementError(f"row {number} has {len(fields)} fields, not {len(HEADER)}")
        self._statement = statement
        self._place = f"row {number} ({fields[0]})"
        (self.record, self.period, self.currency, self.account, self.item, self.reference, self.amount, self.digest) = (
            fields
        )

    def wrong(self, reason: str) -> StatementError:
        return StatementError(f"{self._place} cannot be read: {reason}")

    def take(self) -> None:
        statement = self._statement
        if self.record == "statement":
            if self.item != FORMAT:
                raise self.wrong(f"the format is {self.item!r}, this verifier reads {FORMAT}")
            if statement.period:
                raise self.wrong("a file is one statement, and this is a second one")
            statement.period, statement.reference = self.period, self.reference
        elif self.record not in ("note", "digest"):
            if self.period != statement.period:
                raise self.wrong(f"it speaks of period {self.period!r}, the statement of {statement.period!r}")
            self._take_figure()

    def _take_figure(self) -> None:
        statement, record = self._statement, self.record
        if record in ("opening", "line", "closing"):
            named = statement.pots.setdefault((self.currency, self.account), {})
            self._once(named, self.item if record == "line" else record, self._units())
        elif record in statement.earned_by:
            statement.earned_by[record][self.currency] += self._units()
        elif record in ("root", "tree", "previous"):
            self._once(statement.seal, record, self._hash())
        else:
            self._take_of_account(self._own_account())

    def _once(self, named: dict[str, Any], name: str, value: Any) -> None:
        if name in named:
            raise self.wrong(f"{name} stands there twice")
        named[name] = value

    def _own_account(self) -> _Account:
        """Find the account, which must be of a contributor, and of the same one as all others of the file."""
        words = self.account.split(" ")
        if words[0] not in POT_OF:
            raise self.wrong(f"{self.account!r} is no account of a contributor")
        owner = words[2] if len(words) > 2 else ""
        if self._statement.owner not in (None, owner):
            raise self.wrong(f"{self.account!r} is somebody else's account than those before it")
        self._statement.owner = owner
        return self._statement.accounts.setdefault((self.currency, self.account), _Account())

    def _take_of_account(self, account: _Account) -> None:
        record = self.record
        if record in ("account_opening", "account_closing"):
            name = record[len("account_") :]
            if getattr(account, name) is not None:
                raise self.wrong(f"{record} of {self.account} stands there twice")
            setattr(account, name, self._units())
        elif record == "journal":
            amount = self._units()
            account.entries.append((self._count(self.reference), amount))
            account.groups[self.item] += amount
        elif record == "credit":
            self._take_credit(account)
        elif record == "leaf":
            if account.leaf:
                raise self.wrong(f"leaf of {self.account} stands there twice")
            account.salt, account.leaf = self.reference, self._hash()
        elif record == "sibling":
            if self.item not in ("left", "right"):
                raise self.wrong(f"{self.item!r} is no side")
            account.siblings.append((self.item, self._hash()))
        else:
            raise self.wrong("no such record is known")

    def _take_credit(self, account: _Account) -> None:
        text, _, revision = self.item.partition(" revision ")
        entry, amount = self._count(text), self._units()
        account.credits += 1
        account.credited[entry] += amount
        row = f"{self.reference} {self._count(revision)} {entry} {amount}\n"
        account.credits_digest.update(row.encode())

    def _units(self) -> int:
        """Read the amount in units of its last decimal. All amounts of a currency have the same number of decimals."""
        match = _AMOUNT.fullmatch(self.amount)
        if match is None:
            raise self.wrong(f"{self.amount!r} is no amount")
        sign, whole, decimals = match[1], match[2], match[3] or ""
        scale = self._statement.scales.setdefault(self.currency, len(decimals))
        if scale != len(decimals):
            raise self.wrong(
                f"{self.amount} has {len(decimals)} decimals, other amounts in {self.currency} have {scale}"
            )
        return int(sign + whole + decimals)

    def _count(self, text: str) -> int:
        if not _COUNT.fullmatch(text):
            raise self.wrong(f"{text!r} is no number")
        return int(text)

    def _hash(self) -> str:
        if not _SHA256.fullmatch(self.digest):
            raise self.wrong(f"{self.digest!r} is no SHA-256")
        return self.digest
