"""Accounts of one person: the details that tell them, the link that treats them as the same beneficial owner, its end.
Two people decide each.

The layer that knows staff at work checks the age of their second factor and the contributors that they act for, and
writes the audit log: it calls these.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from contributors.models import Contributor, ContributorLink, IdentifyingDetail, LinkedContributor
from people.actor import lacks_role
from people.models import User

ACCOUNTS_MAX = 100
FINDERS = ("compliance", "admin")
REASON_CHARACTERS_MAX = 1_000
State = ContributorLink.State


class UnableToLink(Exception):
    """Fewer than two accounts, too many, no reason, or somebody without the role."""

    status = 422
    problem = "link-refused"


class UnableToDecideLink(Exception):
    """There is nothing to decide, or it is for somebody else to decide."""

    status = 409
    problem = "link-not-decided"


def note_detail(*, contributor: Contributor, kind: str, digest: str, shown: str, at: datetime) -> None:
    """Note an identifying detail. Accounts that share it wait for a review (contributors.queries.links.suspicions).

    `digest` is all that is kept of it; staff read `shown` in its place.
    """
    IdentifyingDetail.objects.get_or_create(
        contributor=contributor, kind=kind, digest=digest, defaults={"shown": shown[:60], "noted_at": at}
    )


def _check(contributors: Sequence[Contributor], reason: str, by: User) -> str:
    if not 2 <= len({contributor.pk for contributor in contributors}) == len(contributors) <= ACCOUNTS_MAX:
        raise UnableToLink(f"A link joins 2 to {ACCOUNTS_MAX} accounts, each named once.")
    return _check_reason(reason, by)


def _check_reason(reason: str, by: User) -> str:
    if refusal := lacks_role(by=by, roles=FINDERS):
        raise UnableToLink(refusal)
    if not reason.strip() or len(reason) > REASON_CHARACTERS_MAX:
        raise UnableToLink(f"Say why in 1 to {REASON_CHARACTERS_MAX:,} characters: the people concerned read it.")
    return reason.strip()


def _create(contributors: Sequence[Contributor], **values: Any) -> ContributorLink:
    link = ContributorLink.objects.create(**values)
    LinkedContributor.objects.bulk_create(LinkedContributor(link=link, contributor=one) for one in contributors)
    return link


@transaction.atomic
def propose_link(*, contributors: Sequence[Contributor], reason: str, by: User, at: datetime) -> ContributorLink:
    """Propose that these accounts count as one. Nothing changes until somebody else agrees."""
    return _create(contributors, reason=_check(contributors, reason, by), proposed_by=by, proposed_at=at)


@transaction.atomic
def dismiss_suspicion(*, contributors: Sequence[Contributor], reason: str, by: User, at: datetime) -> ContributorLink:
    """Write down that these accounts are of different people, so that nobody has to look at them again."""
    return _create(
        contributors,
        reason=_check(contributors, reason, by),
        proposed_by=by,
        proposed_at=at,
        state=State.REFUSED,
        decided_by=by,
        decided_at=at,
    )


@transaction.atomic
def propose_end_of_link(*, link: ContributorLink, reason: str, by: User, at: datetime) -> ContributorLink:
    """Propose that the accounts count apart again. The link stays in force until somebody else agrees."""
    fresh = _locked(link)
    if fresh.state != State.IN_FORCE:
        raise UnableToDecideLink(f"Only a link in force can end; this one is: {fresh.get_state_display().lower()}.")
    fresh.state, fresh.end_reason, fresh.end_proposed_by, fresh.end_proposed_at = (
        State.ENDING,
        _check_reason(reason, by),
        by,
        at,
    )
    fresh.save(update_fields=["state", "end_reason", "end_proposed_by", "end_proposed_at"])
    return fresh


@transaction.atomic
def decide_link(*, link: ContributorLink, agree: bool, by: User, at: datetime) -> ContributorLink:
    """Agree to a proposed link or to its proposed end, as a person other than the proposer; or refuse it. Raises
    UnableToDecideLink.
    """
    if refusal := lacks_role(by=by, roles=FINDERS):
        raise UnableToDecideLink(refusal)
    fresh = _locked(link)
    if fresh.state not in {State.PROPOSED, State.ENDING}:
        raise UnableToDecideLink(f"There is nothing to decide: the link is {fresh.get_state_display().lower()}.")
    is_end = fresh.state == State.ENDING
    if agree and by.pk == (fresh.end_proposed_by_id if is_end else fresh.proposed_by_id):
        raise UnableToDecideLink("You proposed this, so somebody else has to agree to it.")
    if is_end:
        fresh.state = State.ENDED if agree else State.IN_FORCE
        if agree:
            fresh.ended_by, fresh.ended_at = by, at
    else:
        fresh.state = State.IN_FORCE if agree else State.REFUSED
        fresh.decided_by, fresh.decided_at = by, at
    fresh.save(update_fields=["state", "decided_by", "decided_at", "ended_by", "ended_at"])
    return fresh


def _locked(link: ContributorLink) -> ContributorLink:
    return ContributorLink.objects.select_for_update(no_key=True).get(pk=link.pk)
