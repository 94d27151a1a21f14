"""Accounts that belong to one person, and the details that tell them."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import pgtrigger
from django.db import models
from django.db.models import Exists, OuterRef, Q

from contributors.models.people import Contributor
from people.models import TWO_PEOPLE, Proposal, uuid7

# A decided row stands, its decider and the time included.
_DECIDED_STANDS = pgtrigger.Trigger(
    name="a_decision_stands",
    when=pgtrigger.Before,
    operation=pgtrigger.Update,
    func="""
        IF OLD.state = NEW.state OR OLD.state <> 'proposed' THEN
            RAISE EXCEPTION '% % is %, and its decision stands', TG_TABLE_NAME, OLD.id, OLD.state
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    """,
)


class LinkQuerySet(models.QuerySet["ContributorLink"]):
    def in_force(self, at: datetime) -> LinkQuerySet:
        """Approved by `at`, and not ended by then."""
        ended = LinkEnd.objects.filter(link=OuterRef("pk"), state="approved", decided_at__lte=at)
        return self.filter(state="approved", decided_at__lte=at).exclude(Exists(ended))


class ContributorLink(Proposal):
    """The finding that several accounts are one person's. Where works are valued, they count as one account.

    Links that share an account make one group. Shares that were attributed while a link was in force stay unchanged.
    """

    # A dismissed suspicion begins as rejected: the accounts are different people's.
    BEGINS: ClassVar[set[str]] = {"proposed", "rejected"}

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    contributors = models.ManyToManyField(Contributor, through="LinkedContributor", related_name="links")
    # Tells equal sets of accounts: the SHA-256 of their ascending numbers, in hexadecimal digits.
    accounts_sha256 = models.CharField(max_length=64)
    # Why: each of the contributors reads it.
    reason = models.CharField(max_length=1000)

    objects = LinkQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="a_link_has_a_reason"),
            models.UniqueConstraint(
                fields=["accounts_sha256"],
                condition=Q(state="proposed"),
                name="an_equal_link_is_proposed_once_at_a_time",
            ),
            *TWO_PEOPLE,
        ]
        triggers = [
            pgtrigger.Protect(name="a_link_is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="a_link_keeps_its_terms",
                fields=["public_id", "accounts_sha256", "reason", "proposed_by", "proposed_at"],
            ),
            _DECIDED_STANDS,
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

    @property
    def account_numbers(self) -> list[int]:
        return list(self.members.order_by("contributor").values_list("contributor_id", flat=True))

    @property
    def end(self) -> LinkEnd | None:
        """Return the open or approved proposal to end it."""
        return next((end for end in self.ends.all() if end.state in {"proposed", "approved"}), None)

    @property
    def standing(self) -> tuple[str, str]:
        """Return the tone and the word of its badge: the state, and of an approved link its end."""
        if self.state != self.State.APPROVED:
            return ("warn" if self.state == self.State.PROPOSED else "neutral"), str(self.get_state_display())
        if self.end is None:
            return "info", "In force"
        return ("warn", "End proposed") if self.end.state == self.State.PROPOSED else ("neutral", "Ended")


class LinkEnd(Proposal):
    """The proposal that the accounts of a link count apart again. The link stays in force until it is approved."""

    link = models.ForeignKey(ContributorLink, on_delete=models.PROTECT, related_name="ends")
    # Why: each of the contributors reads it.
    reason = models.CharField(max_length=1000)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="the_end_of_a_link_has_a_reason"),
            models.UniqueConstraint(
                fields=["link"], condition=Q(state__in=["proposed", "approved"]), name="a_link_ends_once"
            ),
            *TWO_PEOPLE,
        ]
        triggers = [
            pgtrigger.Protect(name="an_end_is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(name="an_end_keeps_its_terms", fields=["link", "reason", "proposed_by", "proposed_at"]),
            _DECIDED_STANDS,
            pgtrigger.Trigger(
                name="a_link_ends_after_it_begins",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.Update,
                func="""
                    IF NOT EXISTS (SELECT FROM contributors_contributorlink
                                    WHERE id = NEW.link_id AND state = 'approved'
                                      AND decided_at <= coalesce(NEW.decided_at, NEW.proposed_at)) THEN
                        RAISE EXCEPTION 'only a link in force ends, and link % is not', NEW.link_id
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"end of {self.link}"


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
                    IF (SELECT state FROM contributors_contributorlink WHERE id = NEW.link_id) = 'approved' THEN
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
