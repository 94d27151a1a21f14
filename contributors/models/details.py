"""Details of a contributor that changed: the former ones, and changes that wait for a second person."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import Q

from contributors.models.people import Contributor
from people.models import TWO_PEOPLE, Proposal


class FormerDetails(models.Model):
    """The name, kind, country and currency of a contributor until a moment. Append-only.

    A trigger of Contributor writes each row, so that no change by any road loses the past.
    """

    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="former_details")
    kind = models.CharField(max_length=12)
    legal_name = models.CharField(max_length=200)
    display_name = models.CharField(max_length=200)
    country = models.CharField(max_length=2)
    currency = models.CharField(max_length=3)
    until = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["contributor", "until"], name="former_details_by_time")]
        triggers = [
            pgtrigger.Protect(name="former_details_stay", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.legal_name} until {self.until:%Y-%m-%d}"


class DetailsChange(Proposal):
    """A change of details that payments or tax rest on. Its proposer owns the contributor or is staff."""

    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="details_changes")
    # The new details, all of them, and the present ones that the proposer saw.
    kind = models.CharField(max_length=12, choices=Contributor.Kind.choices)
    legal_name = models.CharField(max_length=200)
    display_name = models.CharField(max_length=200)
    country = models.CharField(max_length=2)
    currency = models.CharField(max_length=3)
    former = models.JSONField()
    reason = models.CharField(max_length=500)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="a_change_of_details_has_a_reason"),
            models.UniqueConstraint(
                fields=["contributor"], condition=Q(state="proposed"), name="one_change_of_details_waits"
            ),
            *TWO_PEOPLE,
        ]
        triggers = [
            pgtrigger.Protect(name="a_change_of_details_stays", operation=pgtrigger.Delete),
            pgtrigger.Trigger(
                name="stands_as_proposed",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                func="""
                    IF NEW.state = OLD.state
                       OR to_jsonb(NEW) - ARRAY['state', 'decided_by_id', 'decided_at', 'rejection']
                          <> to_jsonb(OLD) - ARRAY['state', 'decided_by_id', 'decided_at', 'rejection'] THEN
                        RAISE EXCEPTION 'a change of details stands as it was proposed; propose another'
                            USING ERRCODE = 'restrict_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"new details of {self.contributor}"
