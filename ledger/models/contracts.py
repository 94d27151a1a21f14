"""Contracts with contributors: dated, versioned terms, approved by a second person, and the reserves they hold back."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q

from ledger.models.books import Asset, Entry, Period
from ledger.money import PPB
from people.models import TWO_PEOPLE, Proposal


class Contract(models.Model):
    """An agreement with one contributor. Its code names it in accounts: `advance USD contributor:7 first-book`."""

    contributor = models.ForeignKey("contributors.Contributor", on_delete=models.PROTECT, related_name="contracts")
    code = models.CharField(max_length=60)
    title = models.CharField(max_length=200)
    recorded_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    recorded_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["contributor", "code"], name="a_contributor_has_a_contract_of_a_code_once"),
            models.CheckConstraint(
                condition=Q(code__regex="^[a-z0-9][a-z0-9-]*$"), name="a_contract_code_can_name_an_account"
            ),
            models.CheckConstraint(condition=~Q(title=""), name="a_contract_has_a_title"),
        ]

    def __str__(self) -> str:
        return self.title


class ContractTerms(Proposal):
    """One version of a contract's terms. In force for a month: of the approved ones the last that begins by its first
    day. Immutable once proposed; a change is a new version, and months before it keep theirs."""

    class GuaranteePayer(models.TextChoices):
        PROGRAMME = "programme", "the programme"
        SERVICE = "service", "a model service, which is billed for it"

    contract = models.ForeignKey(Contract, on_delete=models.PROTECT, related_name="versions")
    version = models.IntegerField()
    # The first day of a month: every month has one version.
    effective_from = models.DateField()
    # The contract's coverage: the earnings through these holders, or all that no other contract covers (the base pool
    # included). A version that covers nothing ends the contract.
    holder_ids = ArrayField(models.BigIntegerField(), default=list, blank=True)
    covers_rest = models.BooleanField(default=False)
    # Advances are recouped in this order, lower first. Contracts of one group (cross-collateral) may recoup each
    # other's advances; `cross_recoup` says whether this one's advances are recouped from the others' earnings.
    recoup_order = models.SmallIntegerField(default=100)
    recoup_group = models.CharField(max_length=60, blank=True)
    cross_recoup = models.BooleanField(default=False)
    # The least that a month brings, in units of its currency; 0 is no guarantee.
    guarantee = models.BigIntegerField(default=0)
    guarantee_currency = models.CharField(max_length=3, blank=True)
    guarantee_payer = models.CharField(max_length=9, choices=GuaranteePayer.choices, default=GuaranteePayer.PROGRAMME)
    guarantee_service = models.ForeignKey(
        "attribution.ModelService", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    # Held back at each close, and released in parts: release_ppb[i] of it, release_months[i] after the month's end.
    reserve_ppb = models.BigIntegerField(default=0)
    release_months = ArrayField(models.SmallIntegerField(), default=list, blank=True)
    release_ppb = ArrayField(models.BigIntegerField(), default=list, blank=True)
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [GinIndex(fields=["holder_ids"], name="contract_terms_holders")]
        constraints = [
            models.UniqueConstraint(fields=["contract", "version"], name="a_version_of_terms_is_used_once"),
            models.UniqueConstraint(
                fields=["contract", "effective_from"],
                condition=Q(state="approved"),
                name="one_version_of_terms_begins_in_a_month",
            ),
            models.CheckConstraint(condition=Q(effective_from__day=1), name="terms_begin_with_a_month"),
            models.CheckConstraint(
                condition=Q(covers_rest=False) | Q(holder_ids=[]), name="terms_cover_holders_or_the_rest"
            ),
            models.CheckConstraint(
                condition=Q(guarantee=0, guarantee_currency="")
                | Q(guarantee__gt=0, guarantee_currency__regex="^[A-Z]{3}$"),
                name="a_guarantee_is_an_amount_in_a_currency",
            ),
            models.CheckConstraint(
                condition=Q(guarantee_payer="programme", guarantee_service__isnull=True)
                | Q(guarantee_payer="service", guarantee_service__isnull=False, guarantee__gt=0),
                name="a_guarantee_names_who_pays_it",
            ),
            models.CheckConstraint(
                condition=Q(guarantee=0) | Q(covers_rest=True) | ~Q(holder_ids=[]),
                name="a_guarantee_is_for_something_covered",
            ),
            models.CheckConstraint(
                condition=Q(reserve_ppb=0, release_months=[], release_ppb=[])
                | Q(reserve_ppb__gt=0, reserve_ppb__lte=PPB) & ~Q(release_months=[]),
                name="a_reserve_has_a_release_schedule",
            ),
            models.CheckConstraint(
                condition=Q(cross_recoup=False) | ~Q(recoup_group=""), name="cross_recoupment_needs_a_group"
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"{self.contract.code} v{self.version}"

    @property
    def schedule(self) -> list[tuple[int, int]]:
        """(months after the end of the month, part of a billion of the held amount)."""
        return list(zip(self.release_months, self.release_ppb, strict=True))


class ReserveInstalment(models.Model):
    """A part of the reserve that one close held, and the day of its release. Written with the entry that held it."""

    contract = models.ForeignKey(Contract, on_delete=models.PROTECT, related_name="reserve_instalments")
    terms = models.ForeignKey(ContractTerms, on_delete=models.PROTECT, related_name="+")
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    amount = models.BigIntegerField()
    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="reserve_instalments")
    held_entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="instalments_held")
    due_on = models.DateField()
    # held (null) -> released (once, by the entry that moved it)
    released_entry = models.ForeignKey(
        Entry, on_delete=models.PROTECT, null=True, blank=True, related_name="instalments_released"
    )

    class Meta:
        indexes = [models.Index(fields=["due_on", "id"], condition=Q(released_entry=None), name="reserve_to_release")]
        constraints = [
            models.UniqueConstraint(
                fields=["contract", "asset", "period", "due_on"], name="a_close_holds_an_instalment_once"
            ),
            models.CheckConstraint(condition=Q(amount__gt=0), name="a_reserve_instalment_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} of {self.contract} due {self.due_on}"
