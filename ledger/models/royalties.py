"""Royalty plans, and the ledger's records of generations that it did not simply accrue."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from ledger.models.books import Entry, Period
from ledger.money import PPB
from people.models import TWO_PEOPLE, Proposal


class RoyaltyPlan(Proposal):
    """A versioned rule: how a generation's gross is found and divided.

    A plan holds for all services, for one service, or for one model version of a service. The plan of a generation is
    the most specific one of its currency that was approved and had begun when it occurred: of its model version, else
    of its service, else the general one; of several the last to begin. It is never changed.
    """

    class Basis(models.TextChoices):
        PRICE = "price", "a price for each generation"
        REVENUE_SHARE = "revenue_share", "a share of reported revenue"
        PERIOD_POOL = "period_pool", "a pool for each period"

    class FloorRule(models.TextChoices):
        GENERAL = "general", "by general shares of the indexes used, weighted by generations"
        EQUAL = "equal", "equally for each duplicate cluster with valid consent"

    class Unattributable(models.TextChoices):
        BASE_POOL = "base_pool", "its price goes to the base pool"
        FREE = "free", "nothing is charged"

    currency = models.CharField(max_length=3)
    version = models.IntegerField()
    # The scope: all services, one service, or one model version of it (a trigger holds the pair together).
    service = models.ForeignKey(
        "attribution.ModelService", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    model_version = models.ForeignKey(
        "attribution.ModelVersion", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    basis = models.CharField(max_length=13, choices=Basis.choices)
    # One of the three, by basis; price and pool in units of the currency's scale. A pool that is null is declared
    # month by month.
    price = models.BigIntegerField(null=True, blank=True)
    rate_ppb = models.BigIntegerField(null=True, blank=True)
    pool = models.BigIntegerField(null=True, blank=True)
    # The service that is billed for the pool; null where the programme bears it.
    pool_service = models.ForeignKey(
        "attribution.ModelService", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    take_ppb = models.BigIntegerField()
    floor_ppb = models.BigIntegerField()
    floor_rule = models.CharField(max_length=7, choices=FloorRule.choices, default=FloorRule.GENERAL)
    # The part of the direct pool that goes by general shares; the rest goes by specific ones.
    general_ppb = models.BigIntegerField(default=0)
    # The most that one contributor may take of a period's base pool.
    cap_ppb = models.BigIntegerField(default=PPB)
    # The price of a generation that cannot be attributed.
    unattributable = models.CharField(max_length=9, choices=Unattributable.choices, default=Unattributable.BASE_POOL)
    effective_from = models.DateTimeField()
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["currency", "version"], name="a_plan_version_is_used_once"),
            models.UniqueConstraint(
                fields=["currency", "service", "model_version", "effective_from"],
                condition=Q(state="approved"),
                nulls_distinct=False,
                name="one_plan_takes_effect_at_a_moment",
            ),
            models.CheckConstraint(
                condition=Q(model_version__isnull=True) | Q(service__isnull=False),
                name="a_plan_of_a_model_names_its_service",
            ),
            models.CheckConstraint(
                condition=Q(basis="price", price__isnull=False, rate_ppb__isnull=True, pool__isnull=True)
                | Q(basis="revenue_share", price__isnull=True, rate_ppb__isnull=False, pool__isnull=True)
                | Q(basis="period_pool", price__isnull=True, rate_ppb__isnull=True),
                name="plan_has_what_its_basis_needs",
            ),
            models.CheckConstraint(
                condition=Q(basis="period_pool") | Q(pool_service__isnull=True), name="only_a_pool_is_billed_as_one"
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
            # A form that is sent twice asks once.
            models.UniqueConstraint(
                fields=[
                    "currency",
                    "service",
                    "model_version",
                    "effective_from",
                    "basis",
                    "price",
                    "rate_ppb",
                    "pool",
                    "pool_service",
                    "take_ppb",
                    "floor_ppb",
                    "floor_rule",
                    "general_ppb",
                    "cap_ppb",
                    "unattributable",
                ],
                condition=Q(state="proposed"),
                nulls_distinct=False,
                name="an_equal_plan_is_proposed_once_at_a_time",
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"{self.currency} plan {self.version}"

    @property
    def specificity(self) -> int:
        """0 for a general plan, 1 for a service's, 2 for a model version's: the highest prices a generation."""
        return (self.service_id is not None) + (self.model_version_id is not None)

    @property
    def scope(self) -> str:
        """The scope in words."""
        if self.model_version is not None:
            return f"only {self.model_version} of {self.service}"
        return f"only {self.service}" if self.service is not None else "all services"

    def covers(self, *, service_id: int, model_version_id: int) -> bool:
        """Whether a generation of this service and model version is in the scope."""
        return self.service_id in (None, service_id) and self.model_version_id in (None, model_version_id)


class Refusal(models.Model):
    """A generation that its plan refuses, with the reason: never silently skipped. Withdrawn, it is tried again."""

    class Reason(models.TextChoices):
        NO_PLAN = "no_plan", "no plan of the programme was in effect"
        CURRENCY_LACKING = "currency_lacking", "no plan in effect has this currency, service and model"
        GROSS_MISSING = "gross_missing", "the plan shares revenue, and none was reported"
        GROSS_FORBIDDEN = "gross_forbidden", "the plan sets the price, and a gross was reported"
        GROSS_TOO_SMALL = "gross_too_small", "the plan's part of the revenue is less than one unit"
        NO_SPLIT = "no_split", "a holder has no split in force"
        NOT_CHARGED = "not_charged", "the plan charges nothing for a generation that cannot be attributed"
        POOL_DIVIDED = "pool_divided", "the pool of its month was divided before it was attributed"

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
                fields=["generation", "revision"],
                condition=Q(withdrawn_at__isnull=True),
                name="a_generation_stands_refused_once",
            )
        ]

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
    """The document of one period's base pool under one plan: the divided amount, the weights, the payees."""

    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="floor_distributions")
    plan = models.ForeignKey(RoyaltyPlan, on_delete=models.PROTECT, related_name="floor_distributions")
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, related_name="floor_distribution")
    # The pool's balance at the end of the period, and the part of it that stays there (cap, unattributed).
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


class FloorCorrection(models.Model):
    """The difference between two divisions of a closed month's base pool: the one with the later restatements and
    voids, less the original one. Posted at the close of a later month.
    """

    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="floor_corrections")
    earned_period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="floor_corrected_by")
    plan = models.ForeignKey(RoyaltyPlan, on_delete=models.PROTECT, related_name="floor_corrections")
    # Null where nobody's part changed.
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, related_name="floor_correction")
    # The closed month's pool with the gains and losses by the corrections, and the number of generations that count.
    pool = models.BigIntegerField()
    n_generations = models.BigIntegerField()
    # Parallel: contributors, and units above or below zero.
    contributor_ids = ArrayField(models.BigIntegerField())
    amounts = ArrayField(models.BigIntegerField())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["period", "earned_period", "plan"], name="a_close_corrects_a_floor_pool_once"
            ),
            models.CheckConstraint(
                condition=Q(earned_period__lt=F("period")), name="a_floor_pool_is_corrected_in_a_later_month"
            ),
        ]

    def __str__(self) -> str:
        return f"floor of {self.plan} in {self.earned_period_id}, corrected in {self.period_id}"

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
