"""Proposals about staff and log-ins: roles that are given or taken, second factors that are reset."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from people.models.proposals import TWO_PEOPLE, Proposal
from people.models.users import User


class RoleChange(Proposal):
    """Staff roles that a person is to have, or with which somebody is to be invited by mail."""

    # Empty for an invitation, which names an address.
    user = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="role_changes")
    email = models.EmailField()
    name = models.CharField(max_length=200, blank=True)
    roles = ArrayField(models.CharField(max_length=20), default=list, blank=True)
    # The roles that the proposer saw.
    former = ArrayField(models.CharField(max_length=20), default=list, blank=True)
    reason = models.CharField(max_length=500)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["email"], condition=Q(state="proposed"), name="one_change_of_roles_waits_for_an_address"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="a_change_of_roles_has_a_reason"),
            models.CheckConstraint(
                condition=Q(user__isnull=False) | Q(roles__len__gt=0), name="an_invitation_proposes_roles"
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"roles of {self.user or self.email}"


class FactorReset(Proposal):
    """Second factors and recovery codes of a person that lost them, to be removed."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="factor_resets")
    # The way in which the person was recognised, such as a video call.
    reason = models.CharField(max_length=500)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user"], condition=Q(state="proposed"), name="one_reset_of_factors_waits"),
            models.CheckConstraint(condition=~Q(reason=""), name="a_reset_of_factors_has_a_reason"),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"second factor of {self.user}"
