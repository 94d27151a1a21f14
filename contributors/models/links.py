"""Accounts that belong to one person, and the details that tell them."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import pgtrigger
from django.db import models
from django.db.models import F, Q

from contributors.models.people import Contributor
from people.models import User, uuid7


class LinkQuerySet(models.QuerySet["ContributorLink"]):
    def in_force(self, at: datetime) -> LinkQuerySet:
        """Agreed to by `at`, and not ended by then."""
        agreed = self.filter(state__in=["in_force", "ending", "ended"], decided_at__lte=at)
        return agreed.filter(Q(ended_at__isnull=True) | Q(ended_at__gt=at))


class ContributorLink(models.Model):
    """The finding that several accounts are one person's. Where works are valued, they count as one account.

    Links that share an account make one group. Shares that were attributed while a link was in force stay unchanged.
    """

    # proposed -> in_force (by another person) -> ending -> ended (by another person than the requester of the end)
    class State(models.TextChoices):
        PROPOSED = "proposed"
        IN_FORCE = "in_force", "In force"
        ENDING = "ending", "End proposed"
        ENDED = "ended"
        REFUSED = "refused"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "proposed": {"in_force", "refused"},
        "in_force": {"ending"},
        "ending": {"in_force", "ended"},
        "ended": set(),
        "refused": set(),
    }

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    contributors = models.ManyToManyField(Contributor, through="LinkedContributor", related_name="links")
    # Why: each of the contributors reads it.
    reason = models.CharField(max_length=1000)
    proposed_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    decided_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    end_reason = models.CharField(max_length=1000, blank=True)
    end_proposed_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    end_proposed_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = LinkQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="a_link_has_a_reason"),
            models.CheckConstraint(
                condition=Q(state="proposed", decided_at__isnull=True)
                | ~Q(state="proposed") & Q(decided_at__isnull=False, decided_by__isnull=False),
                name="a_decided_link_says_by_whom_and_when",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["proposed", "refused"]) | ~Q(decided_by=F("proposed_by")),
                name="a_link_is_decided_by_somebody_else",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["ending", "ended"])
                | Q(end_proposed_at__isnull=False, end_proposed_by__isnull=False) & ~Q(end_reason=""),
                name="the_end_of_a_link_has_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(state="ended", ended_at__isnull=False, ended_by__isnull=False)
                | ~Q(state="ended") & Q(ended_at__isnull=True),
                name="an_ended_link_says_by_whom_and_when",
            ),
            models.CheckConstraint(
                condition=~Q(state="ended") | ~Q(ended_by=F("end_proposed_by")),
                name="a_link_is_ended_by_somebody_else",
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | Q(ended_at__gte=F("decided_at")),
                name="a_link_ends_after_it_begins",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="a_link_is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="a_link_keeps_its_terms", fields=["public_id", "reason", "proposed_by", "proposed_at"]
            ),
            pgtrigger.Trigger(
                name="a_decided_link_stands",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                func="""
                    IF OLD.state = NEW.state OR OLD.state <> 'proposed'
                            AND (OLD.decided_by_id, OLD.decided_at) IS DISTINCT FROM (NEW.decided_by_id, NEW.decided_at)
                    THEN
                        RAISE EXCEPTION 'link % is % and changes only by its next step; its decision stands',
                            OLD.id, OLD.state USING ERRCODE = 'restrict_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
            pgtrigger.Trigger(
                name="a_link_joins_two_accounts",
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                timing=pgtrigger.Deferred,
                func="""
                    IF (SELECT count(*) FROM contributors_linkedcontributor WHERE link_id = NEW.id) < 2 THEN
                        RAISE EXCEPTION 'link % joins fewer than two accounts', NEW.id
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"link {self.public_id} ({self.state})"


class LinkedContributor(models.Model):
    """One account of a link."""

    link = models.ForeignKey(ContributorLink, on_delete=models.PROTECT, related_name="members")
    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="link_members")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["link", "contributor"], name="a_link_names_an_account_once")]
        triggers = [
            pgtrigger.Protect(name="a_linked_account_stays", operation=pgtrigger.Update | pgtrigger.Delete),
            pgtrigger.Trigger(
                name="a_decided_link_takes_nobody_in",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func="""
                    IF (SELECT state FROM contributors_contributorlink WHERE id = NEW.link_id)
                        IN ('in_force', 'ending', 'ended') THEN
                        RAISE EXCEPTION 'link % was decided without this account; propose another', NEW.link_id
                            USING ERRCODE = 'restrict_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.contributor} in {self.link}"


class IdentifyingDetail(models.Model):
    """Something that one person has and another has not, such as a bank account: by its digest only. Append-only."""

    class Kind(models.TextChoices):
        BANK_ACCOUNT = "bank_account", "bank account"
        TAX_NUMBER = "tax_number", "tax number"

    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="identifying_details")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    digest = models.CharField(max_length=100)
    # The text that staff read in its place, for example the last digits.
    shown = models.CharField(max_length=60)
    noted_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "digest", "contributor"], name="a_detail_is_noted_once"),
            models.CheckConstraint(condition=~Q(digest=""), name="a_detail_has_a_digest"),
        ]
        triggers = [pgtrigger.Protect(name="a_detail_never_changes", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.shown} of {self.contributor}"
