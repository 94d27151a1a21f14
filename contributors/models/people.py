"""People, and the contributors they act for."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any, ClassVar

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils.functional import cached_property

PPB = 1_000_000_000
STAFF_ROLES = ("finance_maker", "finance_checker", "compliance", "auditor", "admin")
"""The groups of the finance console, made by a migration."""


def uuid7() -> uuid.UUID:
    """A time-ordered UUID (RFC 9562, version 7): 48 bits of milliseconds, then 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


class UserManager(BaseUserManager["User"]):
    """Users log in by e-mail address; there is no user name."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    """A person who logs in: for a contributor, for finance, or both."""

    username = None  # type: ignore[assignment]
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, blank=True)
    # When staff roles were last given or taken after the registration: new ones move no money for a while.
    roles_changed_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.name or self.email

    def has_role(self, *roles: str) -> bool:
        """Whether the user is in one of the named staff groups. A superuser has no role by being one."""
        return self.is_active and not self.role_names.isdisjoint(roles)

    @cached_property
    def role_names(self) -> frozenset[str]:
        return frozenset(self.groups.values_list("name", flat=True))

    @property
    def is_staff_member(self) -> bool:
        """Whether the finance console has a page for the user."""
        return self.has_role(*STAFF_ROLES)


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

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(legal_name=""), name="contributor_has_a_legal_name"),
            models.CheckConstraint(condition=Q(country__regex="^[A-Z]{2}$"), name="contributor_country_is_iso_3166"),
            models.CheckConstraint(condition=Q(currency__regex="^[A-Z]{3}$"), name="contributor_currency_is_iso_4217"),
        ]

    def __str__(self) -> str:
        return self.display_name


class Membership(models.Model):
    """A user acts for a contributor."""

    class Role(models.TextChoices):
        OWNER = "owner"
        MANAGER = "manager"
        VIEWER = "viewer"

    # Who changes things and hears of money; a viewer only reads.
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
