"""The withholding table: the part of a payout that is kept back for each kind of payee, from a date on, and its
treaty.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from ledger.money import PPB
from people.models import TWO_PEOPLE, Proposal


class WithholdingRate(Proposal):
    """A jurisdiction's withholding rate for payees of a country with a form, from a date on.

    An empty country or form stands for any other. The narrowest row counts: country and form, then country, then
    form, then neither; of those the last that has begun.
    """

    # The jurisdiction that withholds, and the payee's residence for tax: ISO 3166.
    jurisdiction = models.CharField(max_length=2)
    country = models.CharField(max_length=2, blank=True)
    # The certificate that the payee gave, as payouts names it: w9, w8ben, none.
    form = models.CharField(max_length=20, blank=True)
    rate_ppb = models.BigIntegerField()
    # The reason of the rate: "US-DE treaty, art. 12(1)". Kept, with the rate, on every entry.
    treaty = models.CharField(max_length=40, blank=True)
    effective_from = models.DateField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(jurisdiction__regex="^[A-Z]{2}$"), name="who_has_tax_withheld_is_a_country"
            ),
            models.CheckConstraint(
                condition=Q(country__regex="^([A-Z]{2})?$"), name="a_payee_is_of_a_country_or_of_any"
            ),
            models.CheckConstraint(
                condition=Q(rate_ppb__gte=0, rate_ppb__lt=PPB), name="a_rate_leaves_something_to_pay"
            ),
            models.UniqueConstraint(
                fields=["jurisdiction", "country", "form", "effective_from"],
                condition=Q(state="approved"),
                name="one_rate_begins_on_a_day",
            ),
            # A form that is sent twice asks once.
            models.UniqueConstraint(
                fields=["jurisdiction", "country", "form", "rate_ppb", "treaty", "effective_from"],
                condition=Q(state="proposed"),
                name="an_equal_rate_is_proposed_once_at_a_time",
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"{self.jurisdiction} from {self.country or 'any country'}, {self.form or 'any form'}"

    @property
    def basis(self) -> str:
        """The rate and the treaty, as an entry keeps them: at most 60 characters."""
        percent = f"{self.rate_ppb / 10_000_000:.7f}".rstrip("0").rstrip(".")
        return f"{percent}% {self.treaty}".strip()[:60]
