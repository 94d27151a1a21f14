"""The journal's own tables, as ledger/sql makes them: assets, accounts, entries, lines, documents, periods, leaves.

Read only here: `ledger.journal` is the only writer of entries and lines. Their partitions, triggers and privileges
are in ledger/sql.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models


def period_of(day: dt.date) -> int:
    """The number of the UTC month of a date."""
    return day.year * 100 + day.month


def next_period(number: int) -> int:
    return number + 1 if number % 100 < 12 else number + 89


def previous_period(number: int) -> int:
    return number - 1 if number % 100 > 1 else number - 89


def utc_date(at: dt.datetime) -> dt.date:
    """The UTC date of an aware moment."""
    if at.tzinfo is None:
        raise ValueError("A moment needs its time zone.")
    return at.astimezone(dt.UTC).date()


class Asset(models.Model):
    """A currency and the decimals in which it is kept (`scale`) and paid (`exponent`). Never changes."""

    id = models.SmallIntegerField(primary_key=True)
    code = models.CharField(max_length=3, unique=True)
    scale = models.SmallIntegerField()
    exponent = models.SmallIntegerField()

    class Meta:
        managed = False

    def __str__(self) -> str:
        return self.code


class Account(models.Model):
    """A bucket with one asset and a normal side. The low byte of its number is its asset's number."""

    class Side(models.TextChoices):
        DEBIT = "D", "debit"
        CREDIT = "C", "credit"
        EITHER = "E", "either"

    id = models.BigIntegerField(primary_key=True)
    kind = models.CharField(max_length=24)
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="accounts")
    # The account's owner: "contributor:42", "service:7", "plan:3", "rail:stripe"; empty for the programme's own.
    owner = models.CharField(max_length=100)
    contract = models.CharField(max_length=60)
    normal_side = models.CharField(max_length=1, choices=Side.choices)
    opened_at = models.DateTimeField()

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.kind} {self.owner}".strip()


class Balance(models.Model):
    """The present balance of an account. Credit is positive; the limits are the account kind's minimum, signed
    alike.
    """

    account = models.OneToOneField(Account, on_delete=models.PROTECT, primary_key=True, related_name="balance")
    posted = models.BigIntegerField()
    version = models.BigIntegerField()
    min_balance = models.BigIntegerField(null=True)
    max_balance = models.BigIntegerField(null=True)

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.account}: {self.posted}"


class ChainHead(models.Model):
    """The last entry's number and hash: the single-writer lock and the gapless sequence of one ledger."""

    ledger = models.SmallIntegerField(primary_key=True)
    seq = models.BigIntegerField()
    hash = models.BinaryField(max_length=32)
    posted_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "ledger_chain_head"

    def __str__(self) -> str:
        return f"entry {self.seq}"


class Period(models.Model):
    """A UTC month. Its number is year x 100 + month: 202610."""

    # open -> closing (only the close's own entries may be dated in it) -> closed -> sealed (with its Merkle root)
    class State(models.TextChoices):
        OPEN = "open"
        CLOSING = "closing"
        CLOSED = "closed"
        SEALED = "sealed"

    id = models.IntegerField(primary_key=True)
    starts = models.DateField()
    # The first day after the period.
    ends = models.DateField()
    state = models.CharField(max_length=7, choices=State.choices, default=State.OPEN)
    # Secret: the salt of a leaf is sha256(salt || account number), so that a root reveals no balance.
    salt = models.BinaryField(max_length=32, null=True)
    merkle_root = models.BinaryField(max_length=32, null=True)
    prev_root = models.BinaryField(max_length=32, null=True)
    # sha256(prev_root || merkle_root): the published root.
    root = models.BinaryField(max_length=32, null=True)
    closed_at = models.DateTimeField(null=True)
    sealed_at = models.DateTimeField(null=True)
    # Null where a command did it, for no person.
    closed_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, related_name="+")
    sealed_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return self.code

    @property
    def code(self) -> str:
        """YYYY-MM, as in addresses."""
        return f"{self.id // 100}-{self.id % 100:02d}"

    @property
    def tree_hex(self) -> str:
        return bytes(self.merkle_root or b"").hex()

    @property
    def previous_hex(self) -> str:
        return bytes(self.prev_root or b"").hex()

    @property
    def root_hex(self) -> str:
        """The published root; empty until the period is sealed."""
        return bytes(self.root or b"").hex()

    @property
    def last_day(self) -> dt.date:
        return self.ends - dt.timedelta(days=1)


class EntryKind(models.TextChoices):
    """The meaning of an entry. The names stand in the table of entries of the ledger's documentation."""

    ACCRUE = "accrue", "Accrued from generations"
    ACCRUE_POOL = "accrue_pool", "Accrued from a period's pool"
    RESTATE = "restate", "Restated: attributed again"
    VOID_GENERATIONS = "void_generations", "Voided generations"
    DECLARE_POOL = "declare_pool", "Pool declared"
    DISTRIBUTE_FLOOR = "distribute_floor", "Base pool distributed"
    RESTATE_FLOOR = "restate_floor", "Base pool corrected"
    CLOSE_GUARANTEE = "close_guarantee", "Close: made up to a guarantee"
    CLOSE_RECOVER = "close_recover", "Close: debts recovered"
    CLOSE_RECOUP = "close_recoup", "Close: advances earned back"
    CLOSE_RESERVE = "close_reserve", "Close: held in reserve"
    CLOSE_PAYABLE = "close_payable", "Close: made payable"
    RELEASE_RESERVE = "release_reserve", "Reserve released"
    OPEN_DISPUTE = "open_dispute", "Put on hold"
    DECIDE_DISPUTE = "decide_dispute", "Hold decided"
    FIND_OWNER = "find_owner", "Owner found"
    GRANT_ADVANCE = "grant_advance", "Advance granted"
    CANCEL_ADVANCE = "cancel_advance", "Advance cancelled"
    PAYOUT_RESERVE = "payout_reserve", "Payout reserved"
    PAYOUT_SUCCEED = "payout_succeed", "Payout succeeded"
    PAYOUT_REFUSE = "payout_refuse", "Payout refused"
    TRANSFER_REVERSED = "transfer_reversed", "Transfer reversed"
    WITHHOLDING_REVERSED = "withholding_reversed", "Withholding reversed"
    BANK_RETURN = "bank_return", "Returned by a bank"
    REMIT_TAX = "remit_tax", "Tax remitted"
    ABSORB_DEFICIT = "absorb_deficit", "Deficit absorbed"
    WRITE_OFF = "write_off", "Written off"
    EXCHANGE_DEBT = "exchange_debt", "Debt exchanged into another currency"
    EXCHANGE_CASH = "exchange_cash", "Cash exchanged into another currency"
    INVOICE_SERVICE = "invoice_service", "Service invoiced"
    COLLECT = "collect", "Collected from a service"
    PREFUND_SERVICE = "prefund_service", "Prefunded by a service"
    APPLY_DEPOSIT = "apply_deposit", "Deposit applied"
    TOP_UP_STRIPE = "top_up_stripe", "Stripe topped up"
    SWEEP_STRIPE = "sweep_stripe", "Stripe swept to the bank"
    STRIPE_FEE = "stripe_fee", "Stripe fee"
    RECEIVE_UNIDENTIFIED = "receive_unidentified", "Unidentified cash received"
    MATCH_CASH = "match_cash", "Cash matched"
    MARK_DORMANT = "mark_dormant", "Marked dormant"
    RECLAIM = "reclaim", "Reclaimed"
    ESCHEAT = "escheat", "Handed to the state"
    CAPITAL = "capital", "Capital added"
    MANUAL = "manual", "Posted by hand"
    REVERSE = "reverse", "Reversed"


class Entry(models.Model):
    """One dated, described, balanced event. Its number is its place in the chain; its hash covers all it says."""

    id = models.BigIntegerField(primary_key=True)
    # Only an entry with documents has a batch.
    batch_id = models.BigIntegerField(unique=True, null=True)
    idem_key = models.CharField(max_length=200, unique=True)
    request_hash = models.BinaryField(max_length=32)
    kind = models.CharField(max_length=24, choices=EntryKind.choices)
    effective = models.DateField()
    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="entries")
    # The period in which it was earned, which may be closed.
    earned_period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="+")
    posted_at = models.DateTimeField()
    reverses = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, related_name="reversed_by", db_column="reverses"
    )
    reference = models.CharField(max_length=300)
    rule_version = models.CharField(max_length=60)
    n_lines = models.IntegerField()
    n_docs = models.IntegerField()
    # The sum of its credits.
    total = models.BigIntegerField()
    # The lowest account among its lines: one look-up proves at commit that the lines are there.
    first_account_id = models.BigIntegerField(null=True)
    prev_hash = models.BinaryField(max_length=32, unique=True)
    hash = models.BinaryField(max_length=32, unique=True)

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"entry {self.pk} ({self.kind})"


class Line(models.Model):
    """One signed leg of an entry on one account: credit positive, debit negative, with the balance that it left."""

    pk = models.CompositePrimaryKey("account_id", "entry_id")
    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="lines")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="lines")
    amount = models.BigIntegerField()
    balance_after = models.BigIntegerField()
    version = models.BigIntegerField()

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.amount} on {self.account_id}"


class Accrual(models.Model):
    """The immutable document of one generation's credits: the division of its gross among accounts.

    A negative revision is the reversal of the positive one, with every amount negated; a generation has at most one
    revision that is not reversed. `account_ids` and `amounts` run parallel; the amounts sum to `gross`, which
    `source_id` was debited.
    """

    pk = models.CompositePrimaryKey("generation_id", "revision")
    generation = models.ForeignKey("attribution.Generation", on_delete=models.PROTECT, related_name="accruals")
    revision = models.IntegerField()
    batch_id = models.BigIntegerField()
    plan = models.ForeignKey("ledger.RoyaltyPlan", on_delete=models.PROTECT, related_name="accruals")
    source = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    gross = models.BigIntegerField()
    account_ids = ArrayField(models.BigIntegerField())
    amounts = ArrayField(models.BigIntegerField())

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.generation_id} revision {self.revision}"

    @property
    def credits(self) -> dict[int, int]:
        """Account number -> units."""
        return dict(zip(self.account_ids, self.amounts, strict=True))


class Leaf(models.Model):
    """One account in one sealed period, as it went into the period's Merkle tree."""

    pk = models.CompositePrimaryKey("period_id", "position")
    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="leaves")
    position = models.IntegerField()
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="leaves")
    opening = models.BigIntegerField()
    closing = models.BigIntegerField()
    n_lines = models.IntegerField()
    n_credits = models.BigIntegerField()
    lines_digest = models.BinaryField(max_length=32)
    credits_digest = models.BinaryField(max_length=32)
    hash = models.BinaryField(max_length=32)

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.account} in {self.period}"


class CreditExport(models.Model):
    """The record that a closed month's credits were written to a file sorted by account, with the digest of its
    content.

    The file can be made again from the journal, with the same digest (see ledger/queries/credit_file.py).
    """

    period = models.OneToOneField(Period, on_delete=models.PROTECT, primary_key=True, related_name="credit_export")
    digest = models.BinaryField(max_length=32)
    n_credits = models.BigIntegerField()
    n_documents = models.BigIntegerField()
    n_accounts = models.BigIntegerField()
    n_bytes = models.BigIntegerField()
    written_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"credits of {self.period_id}"

    @property
    def digest_hex(self) -> str:
        return bytes(self.digest).hex()

    @property
    def path(self) -> Path:
        """Where the file is, below TRIBUTARY_DATA; its name tells its contents."""
        name = f"credits-{self.period_id}-{self.digest_hex[:16]}.bin"
        return Path(settings.TRIBUTARY_DATA) / "exports" / name
