"""Pools of a month: proposed and approved, divided among the month's generations at its close, estimated until then."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from ledger.models.books import Entry, Period
from ledger.models.royalties import RoyaltyPlan
from people.models import TWO_PEOPLE, Proposal


class PeriodPool(Proposal):
    """The money that one plan divides in one month. The plan's own amount, or one that two people set for the
    month.
    """

    # A plan's own amount begins as approved: the plan itself was approved by two people.
    BEGINS: ClassVar[set[str]] = {"proposed", "approved"}

    plan = models.ForeignKey(RoyaltyPlan, on_delete=models.PROTECT, related_name="pools")
    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="pools")
    # In units of the plan's currency. `carried` came over from earlier months of the plan that left something.
    amount = models.BigIntegerField()
    carried = models.BigIntegerField(default=0)
    note = models.CharField(max_length=300, blank=True)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="pool")
    # Null for a plan's own amount.
    proposed_by = models.ForeignKey(  # type: ignore[assignment]
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    # Set once the pool is divided: every generation's part is fixed then.
    n_generations = models.BigIntegerField(null=True, blank=True)
    divided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["plan", "period"],
                condition=Q(state__in=["proposed", "approved"]),
                name="a_plan_has_one_pool_a_month",
            ),
            # Zero only where the month was given nothing, and divides the rest of earlier months.
            models.CheckConstraint(condition=Q(amount__gte=0, carried__gte=0), name="a_pool_is_not_negative"),
            models.CheckConstraint(
                condition=~Q(state="approved") | Q(entry__isnull=False) | Q(amount=0),
                name="an_approved_pool_has_its_entry",
            ),
            models.CheckConstraint(
                condition=Q(state="approved", n_generations__isnull=False, divided_at__isnull=False)
                | Q(n_generations__isnull=True, divided_at__isnull=True),
                name="a_divided_pool_says_among_how_many",
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"pool of {self.plan} in {self.period_id}"

    @property
    def standing(self) -> tuple[str, str]:
        """Return the tone and the word of its badge: the state, or that it is divided."""
        if self.divided_at is not None:
            return "neutral", "Divided"
        tones = {"proposed": "info", "approved": "good"}
        return tones.get(self.state, "neutral"), str(self.get_state_display())

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
    # By attribution only: the base pool is divided once the month is over.
    amount = models.BigIntegerField()
    n_generations = models.BigIntegerField()
    estimated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["plan", "period", "contributor"], name="one_estimate_stands"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} estimated for {self.contributor_id}"
