"""The contributors that people act for."""

from __future__ import annotations

from typing import ClassVar

import pgtrigger
from django.db import models
from django.db.models import F, Func, Q

from people.models import Invitation, User, uuid7

PPB = 1_000_000_000


class Contributor(models.Model):
    """A person or organisation that earns royalties."""

    class Kind(models.TextChoices):
        PERSON = "person"
        ORGANISATION = "organisation"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    legal_name = models.CharField(max_length=200)
    display_name = models.CharField(max_length=200)
    country = models.CharField(max_length=2)
    currency = models.CharField(max_length=3, default="USD")
    public_profile = models.BooleanField(default=False)
    members = models.ManyToManyField(User, through="Membership", related_name="contributors")
    created_at = models.DateTimeField()
    # Since when the details are these; empty for those of the registration.
    details_since = models.DateTimeField(null=True, blank=True)

    # The columns that a change of details may touch.
    DETAILS: ClassVar[tuple[str, ...]] = ("kind", "legal_name", "display_name", "country", "currency")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(legal_name=""), name="contributor_has_a_legal_name"),
            # Two spellings of one name in different code points are one text: names are stored composed (NFC).
            models.CheckConstraint(
                condition=Q(
                    legal_name=Func(F("legal_name"), function="normalize"),
                    display_name=Func(F("display_name"), function="normalize"),
                ),
                name="contributor_names_are_composed",
            ),
            models.CheckConstraint(condition=Q(country__regex="^[A-Z]{2}$"), name="contributor_country_is_iso_3166"),
            models.CheckConstraint(condition=Q(currency__regex="^[A-Z]{3}$"), name="contributor_currency_is_iso_4217"),
        ]
        triggers = [
            # Papers of the past name the details of their day (contributors/queries/details.py).
            pgtrigger.Trigger(
                name="former_details_are_kept",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange("kind", "legal_name", "display_name", "country", "currency"),
                func="""
                    IF NEW.details_since IS NOT DISTINCT FROM OLD.details_since THEN
                        NEW.details_since := clock_timestamp();
                    END IF;
                    INSERT INTO contributors_formerdetails
                        (contributor_id, kind, legal_name, display_name, country, currency, until)
                    VALUES (OLD.id, OLD.kind, OLD.legal_name, OLD.display_name, OLD.country, OLD.currency,
                            NEW.details_since);
                    RETURN NEW;
                """,
            )
        ]

    def __str__(self) -> str:
        return self.display_name


class Membership(models.Model):
    """A user acts for a contributor."""

    class Role(models.TextChoices):
        OWNER = "owner"
        MANAGER = "manager"
        VIEWER = "viewer"

    # Roles that change things and get mail about money; a viewer only reads.
    MANAGING: ClassVar[tuple[str, ...]] = (Role.OWNER, Role.MANAGER)

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="memberships")
    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role.choices)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "contributor"], name="a_user_is_a_member_of_a_contributor_once")
        ]

    def __str__(self) -> str:
        return f"{self.user} for {self.contributor} ({self.role})"


class MemberInvitation(models.Model):
    """An invitation to act for a contributor. The first one of an imported contributor makes its owner."""

    invitation = models.OneToOneField(Invitation, on_delete=models.PROTECT, related_name="membership")
    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="invitations")
    role = models.CharField(max_length=8, choices=Membership.Role.choices)

    def __str__(self) -> str:
        return f"{self.invitation} for {self.contributor} ({self.role})"
