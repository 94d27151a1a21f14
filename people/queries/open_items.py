"""Open work about people: invitations with a mail that could not be sent."""

from __future__ import annotations

from django.urls import reverse

from people.inbox import Kind, OpenItem
from people.models import Invitation

TRIES_MAX = 6
"""So often the worker tries to mail an invitation."""


def _unsent(row: Invitation) -> OpenItem:
    page = "people:staff" if row.purpose == Invitation.Purpose.STAFF else "contributors:import"
    return OpenItem(
        subject=f"invitation:{row.public_id}:{row.expires_at:%Y%m%d%H%M%S}",
        title=f"The invitation of {row.email} was not mailed",
        words=row.error,
        url=reverse(page),
        since=row.created_at,
    )


KINDS = [
    Kind(
        name="invitation_unsent",
        heading="Invitations that were not mailed",
        mail="An invitation was not mailed",
        roles=("admin",),
        rows=lambda at: Invitation.objects.filter(
            used_at=None, revoked_at=None, sent_at=None, expires_at__gt=at, tries__gte=TRIES_MAX
        ).order_by("pk"),
        item=_unsent,
    )
]
