"""Pools of a month: declared, divided among the month's generations at its close, estimated until then."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from ledger.models.books import Entry, Period
from ledger.models.royalties import RoyaltyPlan


class PeriodPool(models.Model):
    """The money that one plan divides in one month. The plan's own amount, or one that two people declared for the
    month.
    """

    # proposed -> declared (its entry is posted) | rejected; declared -> divided (every generation's part is fixed).
    # A plan's own amount begins as declared: the plan itself was adopted by two people.
    class State(models.TextChoices):
        PROPOSED = "proposed"
        DECLARED = "declared"
        REJECTED = "rejected"
        DIVIDED = "divided"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "proposed": {"declared", "rejected"},
        "declared": {"divided"},
        "rejected": set(),
        "divided": set(),
    }
    BEGINS: ClassVar[set[str]] = {"proposed", "declared"}

    plan = models.ForeignKey(RoyaltyPlan, on_delete=models.PROTECT, related_name="pools")
    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="pools")
    # In units of the plan's currency. `carried` came over from earlier months of the plan that left something.
    amount = models.BigIntegerField()
    carried = models.BigIntegerField(default=0)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    note = models.CharField(max_length=300, blank=True)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="pool")
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    n_generations = models.BigIntegerField(null=True, blank=True)
    divided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["plan", "period"], condition=~Q(state="rejected"), name="a_plan_has_one_pool_a_month"
            ),
            # Zero only where the month was given nothing, and divides the rest of earlier months.
            models.CheckConstraint(condition=Q(amount__gte=0, carried__gte=0), name="a_pool_is_not_negative"),
            models.CheckConstraint(
                condition=Q(state__in=["proposed", "rejected"]) | Q(entry__isnull=False) | Q(amount=0),
                name="a_declared_pool_has_its_entry",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["declared", "divided"])
                | Q(proposed_by__isnull=True)
                | (Q(decided_by__isnull=False) & ~Q(decided_by=F("proposed_by"))),
                name="a_pool_is_declared_by_somebody_else",
            ),
            models.CheckConstraint(
                condition=Q(state="divided", n_generations__isnull=False, divided_at__isnull=False)
                | (~Q(state="divided") & Q(n_generations__isnull=True, divided_at__isnull=True)),
                name="a_divided_pool_says_among_how_many",
            ),
        ]

    def __str__(self) -> str:
        return f"pool of {self.plan} in {self.period_id}"

    @property
    def total(self) -> int:
        return self.amount + self.carried

    @property
    def owner(self) -> str:
        """How the account royalty_pool names it."""
        return pool_owner(self.plan_id, self.period_id)


def pool_owner(plan_id: int, period_id: int) -> str:
    return f"plan:{plan_id}:{period_id}"


class PoolPart(models.Model):
    """One generation's part of its month's pool: its gross, also when it is restated later. Written once, at the
    division, by largest remainder over equal weights."""

    generation = models.OneToOneField(
        "attribution.Generation", on_delete=models.PROTECT, primary_key=True, related_name="pool_part"
    )
    pool = models.ForeignKey(PeriodPool, on_delete=models.PROTECT, related_name="parts")
    gross = models.BigIntegerField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(gross__gte=0), name="a_part_of_a_pool_is_not_negative")]

    def __str__(self) -> str:
        return f"{self.gross} of {self.pool}"


class PoolEstimate(models.Model):
    """A contributor's share of a pool if the month closed now. Each estimate replaces the last one."""

    plan = models.ForeignKey(RoyaltyPlan, on_delete=models.CASCADE, related_name="estimates")
    period = models.ForeignKey(Period, on_delete=models.CASCADE, related_name="estimates")
    contributor = models.ForeignKey("contributors.Contributor", on_delete=models.CASCADE, related_name="estimates")
    # By attribution only: the floor pool is divided once the month is over.
    amount = models.BigIntegerField()
    n_generations = models.BigIntegerField()
    estimated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["plan", "period", "contributor"], name="one_estimate_stands"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} estimated for {self.contributor_id}"
