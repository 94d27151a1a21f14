"""People with a login, and the staff roles."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any, ClassVar

import pgtrigger
from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.functional import cached_property

FINANCE_ROLES = ("finance_maker", "finance_checker", "compliance", "auditor", "admin")
"""The groups that see money in the console."""
STAFF_ROLES = (*FINANCE_ROLES, "model_team")
"""The groups of the console, made by people/sql/groups.sql. The model team sees services and models, and no money."""


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
    """A person with a login: for a contributor, for finance, or both."""

    username = None  # type: ignore[assignment]
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, blank=True)
    # When staff roles were last given or taken after the registration: new ones move no money for a while.
    roles_changed_at = models.DateTimeField(null=True, blank=True)
    # A stand-in: the second half of a two-person act by one person that tries the programme out (operations/trial.py).
    stands_for = models.OneToOneField("self", on_delete=models.PROTECT, null=True, blank=True, related_name="stand_in")

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.name or self.email

    def has_role(self, *roles: str) -> bool:
        """Whether the user is in one of the named staff groups. A superuser has no role by being one."""
        return self.person.is_active and not self.role_names.isdisjoint(roles)

    @property
    def person(self) -> User:
        """The human behind the row: a stand-in's person, for others the row itself."""
        return self.stands_for or self

    @cached_property
    def role_names(self) -> frozenset[str]:
        if self.stands_for is not None:
            return self.stands_for.role_names
        return frozenset(self.groups.values_list("name", flat=True))

    @property
    def is_staff_member(self) -> bool:
        """Whether the finance console has a page for the user."""
        return self.has_role(*STAFF_ROLES)


class ConfirmedFactor(models.Model):
    """A second factor of a member of staff that somebody else vouches for. Append-only.

    A password alone may enrol a factor, so that an unconfirmed one opens no console.
    """

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="confirmed_factors")
    # The number of allauth's row. That row goes when the factor is switched off, and its number never comes again.
    factor = models.BigIntegerField(unique=True)
    # Null: an invitation, which an administrator sent, or the operator of the machine.
    confirmed_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    confirmed_at = models.DateTimeField()
    # From then on it moves money.
    settles_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(confirmed_by__isnull=True) | ~models.Q(confirmed_by=models.F("user")),
                name="a_factor_is_confirmed_by_another",
            ),
            models.CheckConstraint(
                condition=models.Q(settles_at__gte=models.F("confirmed_at")),
                name="a_factor_settles_after_it_is_confirmed",
            ),
        ]
        triggers = [pgtrigger.Protect(name="a_confirmed_factor_stays", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"factor {self.factor} of {self.user}"
