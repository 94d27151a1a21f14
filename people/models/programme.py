"""The programme itself: its name, its legal entity, and whether one person only tries it out."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class Programme(models.Model):
    """The one row about this installation. Statements, remittances, bank files and mails name the legal entity of it.

    `live_key_at` is the moment at which a live Stripe key was first seen. A programme on trial can never see one.
    """

    name = models.CharField(max_length=100, blank=True)
    legal_name = models.CharField(max_length=200, blank=True)
    address = models.CharField(max_length=500, blank=True)
    country = models.CharField(max_length=2, blank=True)
    # As the tax authority writes it: a VAT number, an EIN. Empty where there is none.
    tax_number = models.CharField(max_length=40, blank=True)
    on_trial = models.BooleanField(default=False)
    live_key_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(pk=1), name="there_is_one_programme"),
            models.CheckConstraint(
                condition=Q(country="") | Q(country__regex="^[A-Z]{2}$"), name="programme_country_is_iso_3166"
            ),
            models.CheckConstraint(
                condition=Q(on_trial=False) | Q(live_key_at__isnull=True), name="a_trial_never_sees_a_live_key"
            ),
        ]

    def __str__(self) -> str:
        return self.shown_name

    @property
    def shown_name(self) -> str:
        """The programme's name for people; PROGRAMME_NAME until the page of the legal entity is filled."""
        return self.name or self.legal_name or str(settings.PROGRAMME_NAME)

    @property
    def payer(self) -> str:
        """The name of the paying legal entity, for bank files and documents."""
        return self.legal_name or self.shown_name

    @property
    def address_lines(self) -> list[str]:
        return [line.strip() for line in self.address.splitlines() if line.strip()]
