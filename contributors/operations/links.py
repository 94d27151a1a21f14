"""Accounts of one person: the details that tell them, the link that treats them as the same beneficial owner, its end.
Two people decide each.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.db import transaction
from django.urls import reverse

from contributors.models import Contributor, ContributorLink, IdentifyingDetail, LinkedContributor, LinkEnd
from contributors.operations.deciding import acts_for
from people.actor import NOBODY, Actor, Presence, logged
from people.models import User
from people.operations.proposals import propose
from people.presentation import dates
from people.queries.proposals import WITH_COMPLIANCE, Facts, ProposalKind

ACCOUNTS_MAX = 100
FINDERS = ("compliance", "admin")
REASON_CHARACTERS_MAX = 1_000


class UnableToLink(Exception):
    """Fewer than two accounts, too many, no reason, or somebody without the role."""

    problem = "link-refused"

    def __init__(self, message: str, *, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def note_detail(*, contributor: Contributor, kind: str, digest: str, shown: str, at: datetime) -> None:
    """Note an identifying detail. Accounts that share it wait for a review (contributors.queries.links.suspicions).

    `digest` is all that is kept of it; staff read `shown` in its place.
    """
    IdentifyingDetail.objects.get_or_create(
        contributor=contributor, kind=kind, digest=digest, defaults={"shown": shown[:60], "noted_at": at}
    )


def propose_link(
    *, contributors: Sequence[Contributor], reason: str, by: User, at: datetime, seen: Presence = NOBODY
) -> ContributorLink:
    """Propose that these accounts count as one where works are valued. Nothing changes until somebody else approves.

    Raises UnableToLink.
    """
    row = ContributorLink(**_checked(contributors, reason), proposed_by=by, proposed_at=at)
    return propose(KIND, row, _members(row, contributors), seen=seen)


@logged("link", "account_numbers", "reason", "state", key="public_id")
def dismiss_suspicion(
    *, contributors: Sequence[Contributor], reason: str, by: User, at: datetime, seen: Presence = NOBODY
) -> ContributorLink:
    """Write down that these accounts are of different people, so that nobody has to look at them again.

    One more account with the same detail asks anew. Raises UnableToLink, UnableToAct, UnableToTrustPresence
    and UnableToActForOneself.
    """
    actor = Actor(by, at, seen)
    actor.require_role(*FINDERS)
    actor.require_fresh_factor()
    actor.require_no_conflict(acts_for(by=by, contributors=[one.pk for one in contributors]))
    row = ContributorLink(
        **_checked(contributors, reason),
        proposed_by=by,
        proposed_at=at,
        state=ContributorLink.State.REJECTED,
        decided_by=by,
        decided_at=at,
    )
    with transaction.atomic():
        row.save(force_insert=True)
        LinkedContributor.objects.bulk_create(_members(row, contributors))
    return row


def propose_end_of_link(
    *, link: ContributorLink, reason: str, by: User, at: datetime, seen: Presence = NOBODY
) -> LinkEnd:
    """Propose that the accounts count apart again. The link stays in force until somebody else approves.

    Raises UnableToLink.
    """
    with transaction.atomic():
        fresh = ContributorLink.objects.select_for_update(no_key=True).get(pk=link.pk)
        if fresh.state != ContributorLink.State.APPROVED or fresh.end is not None:
            raise UnableToLink(f"Only a link in force can end; this one is: {fresh.standing[1].lower()}.", status=409)
        row = LinkEnd(link=fresh, reason=_checked_reason(reason), proposed_by=by, proposed_at=at)
        return propose(END_KIND, row, seen=seen)


def _checked(contributors: Sequence[Contributor], reason: str) -> dict[str, Any]:
    numbers = sorted({contributor.pk for contributor in contributors})
    if not 2 <= len(numbers) == len(contributors) <= ACCOUNTS_MAX:
        raise UnableToLink(f"A link joins 2 to {ACCOUNTS_MAX} accounts, each named once.")
    digest = sha256(",".join(map(str, numbers)).encode()).hexdigest()
    return {"reason": _checked_reason(reason), "accounts_sha256": digest}


def _checked_reason(reason: str) -> str:
    if not reason.strip() or len(reason) > REASON_CHARACTERS_MAX:
        raise UnableToLink(f"Say why in 1 to {REASON_CHARACTERS_MAX:,} characters: the people concerned read it.")
    return reason.strip()


def _members(row: ContributorLink, contributors: Sequence[Contributor]) -> list[LinkedContributor]:
    return [LinkedContributor(link=row, contributor=one) for one in contributors]


def _accounts(link: ContributorLink) -> Facts:
    return [
        (f"Account {number}", f"{one.display_name}: {one.legal_name}, {one.country}, since {dates.day(one.created_at)}")
        for number, one in enumerate(link.contributors.order_by("pk"), start=1)
    ]


_DECIDED_BY_COMPLIANCE: dict[str, Any] = {
    "proposers": FINDERS,
    "approvers": FINDERS,
    "readers": WITH_COMPLIANCE,
    "refusal": UnableToLink,
    "needs_fresh_factor": True,
    "rejected_as_approved": True,
    "parent": ("Linked accounts", "payouts:links"),
    "page": lambda row: reverse("payouts:links"),
    "summary": lambda row: row.reason,
}
KIND: ProposalKind[ContributorLink] = ProposalKind(
    key="link",
    model=ContributorLink,
    name="link",
    heading="Linked accounts",
    mail="Linked accounts wait for a second person",
    # The payouts tell the accounts (payouts/operations/links.py).
    apply=lambda row, by, at: {},
    conflict=lambda row, by: acts_for(by=by, contributors=row.account_numbers),
    unique="an_equal_link_is_proposed_once_at_a_time",
    equal=lambda row: "The same accounts are proposed already and wait for somebody to decide them.",
    title=lambda row: "Should the accounts count as one?",
    facts=_accounts,
    effect="The accounts count as one from now on. Each of them is told, with the reason.",
    approved=lambda row: "Approved. The accounts count as one from now on, and were told.",
    subject=lambda row: f"link:{row.public_id}",
    fields=("account_numbers", "reason"),
    **_DECIDED_BY_COMPLIANCE,
)
END_KIND: ProposalKind[LinkEnd] = ProposalKind(
    key="link_end",
    model=LinkEnd,
    name="end of a link",
    heading="Ends of linked accounts",
    mail="The end of linked accounts waits for a second person",
    apply=lambda row, by, at: {},
    conflict=lambda row, by: acts_for(by=by, contributors=row.link.account_numbers),
    unique="a_link_ends_once",
    equal=lambda row: "The end of this link is proposed already.",
    title=lambda row: "Should the accounts count apart again?",
    facts=lambda row: [*_accounts(row.link), ("Reason of the link", row.link.reason)],
    effect="The accounts count apart from now on. Each of them is told, with the reason.",
    approved=lambda row: "Approved. The accounts count apart again, and were told.",
    subject=lambda row: f"link:{row.link.public_id}",
    fields=("link.account_numbers", "reason"),
    related=("link",),
    **_DECIDED_BY_COMPLIANCE,
)
