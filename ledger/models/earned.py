"""Earnings kept as sums, so that no page reads a contributor's receipts one by one.

Written by ledger_fold_earned alone (ledger/sql/earned.sql); ledger.queries.earned reads them.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from ledger.models.books import Asset, Period


class Earned(models.Model):
    """One sum of a contributor's earnings in a month and currency: by source, by model version or by work.

    It covers the entries up to the mark. `subject_id` is the model version or the work; 0 for a source, and for credits
    with evidence that names no work. A reversed generation counts as minus one.
    """

    class By(models.TextChoices):
        DIRECT = "direct", "By attribution"
        FLOOR = "floor", "From the base pool"
        OTHER = "other", "Other"
        MODEL = "model", "Model version"
        WORK = "work", "Work"

    pk = models.CompositePrimaryKey("contributor_id", "by", "period_id", "asset_id", "subject_id")
    # No foreign key: an account names its owner in words.
    contributor_id = models.BigIntegerField()
    by = models.CharField(max_length=6, choices=By.choices)
    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="+", db_index=False)
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+", db_index=False)
    subject_id = models.BigIntegerField()
    generations = models.BigIntegerField()
    amount = models.BigIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(by__in=["direct", "floor", "other"], subject_id=0, generations=0)
                | Q(by="model", subject_id__gt=0)
                | Q(by="work", subject_id__gte=0),
                name="a_sum_of_earnings_has_a_subject",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount} of {self.contributor_id} in {self.period_id} by {self.by} {self.subject_id}"


class EarnedMark(models.Model):
    """The last entry that the sums of earnings cover. One row."""

    id = models.SmallIntegerField(primary_key=True)
    upto = models.BigIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="sums_of_earnings_have_one_mark"),
            models.CheckConstraint(condition=Q(upto__gte=0), name="sums_of_earnings_begin_at_0"),
        ]

    def __str__(self) -> str:
        return f"earnings up to entry {self.upto}"
