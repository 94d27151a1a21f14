"""What each contributor earned: accounts, the journal, its documents, periods and royalty plans.

The journal's own tables (asset to leaf) are made by ledger/sql, where their partitions, triggers and privileges are;
here they are read only. `ledger.journal` is the only writer of entries and lines.
"""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from ledger.money import PPB


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
    # Whose it is: "contributor:42", "service:7", "plan:3", "rail:stripe"; empty for the programme's own.
    owner = models.CharField(max_length=100)
    contract = models.CharField(max_length=60)
    normal_side = models.CharField(max_length=1, choices=Side.choices)
    opened_at = models.DateTimeField()

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.kind} {self.owner}".strip()


class Balance(models.Model):
    """What stands on an account now. Credit is positive; the limits are the account kind's minimum, signed alike."""

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
    # sha256(prev_root || merkle_root): what is published.
    root = models.BinaryField(max_length=32, null=True)
    closed_at = models.DateTimeField(null=True)
    sealed_at = models.DateTimeField(null=True)

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
        """What is published; empty until the period is sealed."""
        return bytes(self.root or b"").hex()

    @property
    def last_day(self) -> dt.date:
        return self.ends - dt.timedelta(days=1)


class EntryKind(models.TextChoices):
    """What an entry says. The names stand in the table of entries of the ledger's documentation."""

    ACCRUE = "accrue"
    ACCRUE_POOL = "accrue_pool"
    RESTATE = "restate"
    VOID_GENERATIONS = "void_generations"
    DECLARE_POOL = "declare_pool"
    DISTRIBUTE_FLOOR = "distribute_floor"
    CLOSE_GUARANTEE = "close_guarantee"
    CLOSE_RECOVER = "close_recover"
    CLOSE_RECOUP = "close_recoup"
    CLOSE_RESERVE = "close_reserve"
    CLOSE_PAYABLE = "close_payable"
    RELEASE_RESERVE = "release_reserve"
    OPEN_DISPUTE = "open_dispute"
    DECIDE_DISPUTE = "decide_dispute"
    FIND_OWNER = "find_owner"
    GRANT_ADVANCE = "grant_advance"
    PAYOUT_RESERVE = "payout_reserve"
    PAYOUT_SUCCEED = "payout_succeed"
    PAYOUT_REFUSE = "payout_refuse"
    TRANSFER_REVERSED = "transfer_reversed"
    WITHHOLDING_REVERSED = "withholding_reversed"
    BANK_RETURN = "bank_return"
    REMIT_TAX = "remit_tax"
    ABSORB_DEFICIT = "absorb_deficit"
    WRITE_OFF = "write_off"
    EXCHANGE_DEBT = "exchange_debt"
    EXCHANGE_CASH = "exchange_cash"
    INVOICE_SERVICE = "invoice_service"
    COLLECT = "collect"
    PREFUND_SERVICE = "prefund_service"
    APPLY_DEPOSIT = "apply_deposit"
    TOP_UP_STRIPE = "top_up_stripe"
    SWEEP_STRIPE = "sweep_stripe"
    STRIPE_FEE = "stripe_fee"
    RECEIVE_UNIDENTIFIED = "receive_unidentified"
    MATCH_CASH = "match_cash"
    MARK_DORMANT = "mark_dormant"
    RECLAIM = "reclaim"
    ESCHEAT = "escheat"
    CAPITAL = "capital"
    MANUAL = "manual"
    REVERSE = "reverse"


# The only entries that may be dated in a period that is closing. ledger_post knows the same list.
CLOSING_KINDS = frozenset(
    {
        EntryKind.ACCRUE_POOL, EntryKind.DISTRIBUTE_FLOOR, EntryKind.CLOSE_GUARANTEE, EntryKind.CLOSE_RECOVER,
        EntryKind.CLOSE_RECOUP, EntryKind.CLOSE_RESERVE, EntryKind.CLOSE_PAYABLE,
    }
)  # fmt: skip


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
    """The immutable document of one generation's credits: who gets how much of its gross.

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


class RoyaltyPlan(models.Model):
    """A versioned rule: how a generation's gross is found and divided.

    The plan of a generation is the effective one of its currency when it occurred. Immutable once effective.
    """

    # proposed -> shadow (computed beside the effective one, moves nothing) -> effective; proposed -> effective.
    class State(models.TextChoices):
        PROPOSED = "proposed"
        SHADOW = "shadow"
        EFFECTIVE = "effective"

    class Basis(models.TextChoices):
        PRICE = "price", "a price for each generation"
        REVENUE_SHARE = "revenue_share", "a share of reported revenue"
        PERIOD_POOL = "period_pool", "a pool for each period"

    class FloorRule(models.TextChoices):
        GENERAL = "general", "by general shares of the indexes used, weighted by generations"
        EQUAL = "equal", "equally for each duplicate cluster with valid consent"

    currency = models.CharField(max_length=3)
    version = models.IntegerField()
    basis = models.CharField(max_length=13, choices=Basis.choices)
    # One of the three, by basis; price and pool in units of the currency's scale.
    price = models.BigIntegerField(null=True, blank=True)
    rate_ppb = models.BigIntegerField(null=True, blank=True)
    pool = models.BigIntegerField(null=True, blank=True)
    take_ppb = models.BigIntegerField()
    floor_ppb = models.BigIntegerField()
    floor_rule = models.CharField(max_length=7, choices=FloorRule.choices, default=FloorRule.GENERAL)
    # The part of the direct pool that goes by general shares; the rest goes by specific ones.
    general_ppb = models.BigIntegerField(default=0)
    attributor = models.CharField(max_length=20, default="midpoint")
    noise_z = models.FloatField(default=2.0)
    weight_low = models.FloatField(default=0.05)
    weight_high = models.FloatField(default=0.5)
    # The most that one contributor may take of a period's floor pool.
    cap_ppb = models.BigIntegerField(default=PPB)
    effective_from = models.DateTimeField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.PROPOSED)
    note = models.CharField(max_length=300, blank=True)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    adopted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    adopted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["currency", "version"], name="a_plan_version_is_used_once"),
            models.UniqueConstraint(
                fields=["currency", "effective_from"], condition=Q(state="effective"),
                name="one_plan_takes_effect_at_a_moment",
            ),
            models.CheckConstraint(
                condition=Q(basis="price", price__isnull=False, rate_ppb__isnull=True, pool__isnull=True)
                | Q(basis="revenue_share", price__isnull=True, rate_ppb__isnull=False, pool__isnull=True)
                | Q(basis="period_pool", price__isnull=True, rate_ppb__isnull=True, pool__isnull=False),
                name="plan_has_what_its_basis_needs",
            ),
            models.CheckConstraint(condition=Q(price__isnull=True) | Q(price__gt=0), name="price_is_positive"),
            models.CheckConstraint(
                condition=Q(rate_ppb__isnull=True) | Q(rate_ppb__gt=0, rate_ppb__lte=PPB),
                name="rate_is_a_part_of_the_whole",
            ),
            models.CheckConstraint(condition=Q(pool__isnull=True) | Q(pool__gt=0), name="pool_is_positive"),
            models.CheckConstraint(condition=Q(take_ppb__gte=0, take_ppb__lt=PPB), name="take_is_a_part_of_the_whole"),
            models.CheckConstraint(
                condition=Q(floor_ppb__gte=0, floor_ppb__lte=PPB), name="floor_is_a_part_of_the_whole"
            ),
            models.CheckConstraint(
                condition=Q(general_ppb__gte=0, general_ppb__lte=PPB), name="general_is_a_part_of_the_whole"
            ),
            models.CheckConstraint(condition=Q(cap_ppb__gt=0, cap_ppb__lte=PPB), name="cap_is_a_part_of_the_whole"),
            models.CheckConstraint(
                condition=Q(state="proposed") | Q(adopted_by__isnull=False, adopted_at__isnull=False),
                name="only_an_adopted_plan_leaves_proposed",
            ),
            models.CheckConstraint(
                condition=Q(adopted_by__isnull=True) | ~Q(adopted_by=F("proposed_by")),
                name="a_plan_is_adopted_by_somebody_else",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.currency} plan {self.version}"


class Refusal(models.Model):
    """A generation that its plan refuses, with the reason: never silently skipped. Withdrawn, it is tried again."""

    class Reason(models.TextChoices):
        NO_PLAN = "no_plan", "no plan of the programme was in effect"
        CURRENCY_LACKING = "currency_lacking", "the plan in effect does not have this currency"
        GROSS_MISSING = "gross_missing", "the plan shares revenue, and none was reported"
        GROSS_FORBIDDEN = "gross_forbidden", "the plan sets the price, and a gross was reported"
        GROSS_TOO_SMALL = "gross_too_small", "the plan's part of the revenue is less than one unit"
        NO_SPLIT = "no_split", "a holder has no split in force"

    generation = models.ForeignKey("attribution.Generation", on_delete=models.PROTECT, related_name="refusals")
    revision = models.IntegerField()
    reason = models.CharField(max_length=20, choices=Reason.choices)
    detail = models.CharField(max_length=300, blank=True)
    plan = models.ForeignKey(RoyaltyPlan, on_delete=models.PROTECT, null=True, related_name="refusals")
    refused_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["generation", "revision"], condition=Q(withdrawn_at__isnull=True),
                name="a_generation_stands_refused_once",
            )
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.generation_id}: {self.reason}"


class Unaccrued(models.Model):
    """A generation of a closed period that was not accrued when the period closed, and why."""

    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="unaccrued")
    generation = models.ForeignKey("attribution.Generation", on_delete=models.PROTECT, related_name="unaccrued")
    reason = models.CharField(max_length=500)
    listed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["period", "generation"], name="a_close_lists_a_generation_once"),
            models.CheckConstraint(condition=~Q(reason=""), name="an_unaccrued_generation_says_why"),
        ]

    def __str__(self) -> str:
        return f"{self.generation_id} at the close of {self.period_id}"


class FloorDistribution(models.Model):
    """The document of one period's floor pool under one plan: what was divided, by which weights, to whom."""

    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="floor_distributions")
    plan = models.ForeignKey(RoyaltyPlan, on_delete=models.PROTECT, related_name="floor_distributions")
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, related_name="floor_distribution")
    # What stood in the pool at the end of the period, and what of it stays there (cap, unattributed).
    pool = models.BigIntegerField()
    kept = models.BigIntegerField()
    n_generations = models.BigIntegerField()
    # Parallel: parts of a billion after the cap, and units.
    contributor_ids = ArrayField(models.BigIntegerField())
    weights_ppb = ArrayField(models.BigIntegerField())
    amounts = ArrayField(models.BigIntegerField())
    kept_ppb = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["period", "plan"], name="a_floor_pool_is_distributed_once_a_period"),
        ]

    def __str__(self) -> str:
        return f"floor of {self.plan} in {self.period_id}"

    @property
    def credits(self) -> dict[int, int]:
        """Contributor number -> units."""
        return dict(zip(self.contributor_ids, self.amounts, strict=True))


class SweepMark(models.Model):
    """How far a sweep has come, so that the next one does not read everything. Only a hint: a full sweep ignores it."""

    name = models.CharField(max_length=40, primary_key=True)
    value = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(value__gte=0), name="sweep_mark_is_not_negative")]

    def __str__(self) -> str:
        return f"{self.name} at {self.value}"


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
