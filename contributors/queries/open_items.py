"""Open work about contributors: links of accounts that wait for a second person, and suspicions of links."""

from __future__ import annotations

from datetime import datetime

from django.urls import reverse

from contributors.models import ContributorLink
from contributors.queries.links import suspicions
from people.inbox import Kind, OpenItem

COMPLIANCE = ("compliance", "admin")


def _link(link: ContributorLink) -> OpenItem:
    ends = link.state == ContributorLink.State.ENDING
    by = link.end_proposed_by if ends and link.end_proposed_by else link.proposed_by
    since = link.end_proposed_at if ends and link.end_proposed_at else link.proposed_at
    return OpenItem(
        subject=f"link:{link.public_id}:{since:%Y%m%d%H%M%S%f}" if ends else f"link:{link.public_id}",
        title="Should the accounts count apart again?" if ends else "Should the accounts count as one?",
        words=link.end_reason if ends else link.reason,
        url=reverse("payouts:decide_link", args=[link.public_id]),
        since=since,
        person=str(by),
        barred=frozenset({by.pk}),
    )


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
        name="link_proposed",
        heading="Linked accounts",
        mail="Linked accounts wait for a second person",
        roles=COMPLIANCE,
        rows=lambda at: (
            ContributorLink.objects.filter(state__in=["proposed", "ending"])
            .select_related("proposed_by", "end_proposed_by")
            .order_by("pk")
        ),
        item=_link,
        covers={"contributors.ContributorLink": frozenset({"proposed", "ending"})},
    ),
    Kind(
        name="link_suspected",
        heading="Suspected linked accounts",
        mail="Several accounts may be one person's",
        roles=COMPLIANCE,
        rows=_suspicions,
    ),
]
