"""Open work about contributors: suspicions that accounts are one person's."""

from __future__ import annotations

from datetime import datetime

from django.urls import reverse

from contributors.queries.links import suspicions
from people.inbox import Kind, OpenItem

COMPLIANCE = ("compliance", "admin")


def _suspicions(at: datetime) -> list[OpenItem]:
    # An account more is another subject.
    return [
        OpenItem(
            subject=f"suspicion:{one.contributors[0].pk}:{len(one.contributors)}:{one.noted_at:%Y%m%d%H%M%S%f}",
            title=f"{len(one.contributors)} accounts have the same {one.kind} ({one.shown})",
            words="Are they one person's?",
            url=reverse("payouts:links"),
            since=one.noted_at,
        )
        for one in suspicions(at)
    ]


KINDS = [
    Kind(
        name="link_suspected",
        heading="Suspected linked accounts",
        mail="Several accounts may be one person's",
        roles=COMPLIANCE,
        rows=_suspicions,
    ),
]
