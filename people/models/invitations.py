"""Invitations: one-time addresses that make a person staff or a member of a contributor."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from people.models.users import User, uuid7


class Invitation(models.Model):
    """A one-time address for a person. The database keeps the digest of its token, never the token.

    `email` is empty for the address that `manage.py up` prints: the first administrator names their own. `subject` and
    `words` make the mail; an invitation without them is printed and never mailed.
    """

    class Purpose(models.TextChoices):
        STAFF = "staff"
        MEMBER = "member"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    purpose = models.CharField(max_length=6, choices=Purpose.choices)
    email = models.EmailField(blank=True)
    name = models.CharField(max_length=200, blank=True)
    roles = ArrayField(models.CharField(max_length=20), default=list, blank=True)
    # sha256 of the token in the address; null until an address was made.
    digest = models.BinaryField(max_length=32, null=True, unique=True)
    invited_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    used_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)
    subject = models.CharField(max_length=200, blank=True)
    words = models.TextField(blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    tries = models.IntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [
            # The worker that mails claims from here.
            models.Index(
                fields=["id"],
                condition=Q(sent_at__isnull=True, used_at__isnull=True, revoked_at__isnull=True),
                name="invitation_to_send",
            )
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["email"],
                condition=Q(purpose="staff", used_at__isnull=True, revoked_at__isnull=True),
                name="a_person_is_invited_to_the_staff_once",
            ),
            models.CheckConstraint(
                condition=Q(purpose="staff", roles__len__gt=0) | Q(purpose="member", roles__len=0),
                name="an_invitation_to_the_staff_names_roles",
            ),
            models.CheckConstraint(
                condition=Q(used_at__isnull=True, used_by__isnull=True)
                | Q(used_at__isnull=False, used_by__isnull=False),
                name="a_used_invitation_names_its_person",
            ),
            models.CheckConstraint(
                condition=Q(used_at__isnull=True) | Q(revoked_at__isnull=True),
                name="a_revoked_invitation_is_never_used",
            ),
        ]

    def __str__(self) -> str:
        return self.email or "the first administrator"
