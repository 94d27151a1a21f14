"""Accounts of the same beneficial owner: compliance finds, a second person approves, the audit log names them, the
accounts are told.

The effect of a link is in contributors and attribution; the evidence that two accounts are one person's is noted from
here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from django.db import transaction

from contributors.models import Contributor, ContributorLink, IdentifyingDetail
from contributors.operations import links
from contributors.operations.deciding import require_stranger
from payouts.models import Notice
from people import sealing
from people.actor import (
    ADMIN,
    COMPLIANCE,
    NOBODY,
    Presence,
    audit,
    require_fresh_factor,
    require_role,
    require_settled_role,
)
from people.models import User


def note_iban(*, contributor: Contributor, iban: str, at: datetime) -> None:
    """Note an account that is named for another contributor too, under any name: both may be the same person."""
    # Under each key, so that the same account is found while keys are replaced.
    for digest in sealing.digests(iban):
        links.note_detail(
            contributor=contributor,
            kind=IdentifyingDetail.Kind.BANK_ACCOUNT,
            digest=f"iban:{digest}",
            shown=f"{iban[:2]} … {iban[-4:]}",
            at=at,
        )


def note_bank_at_stripe(*, contributor: Contributor, fingerprint: str, shown: str, at: datetime) -> None:
    """Note the same by Stripe's fingerprint of an account: equal for equal numbers, and nothing else."""
    links.note_detail(
        contributor=contributor,
        kind=IdentifyingDetail.Kind.BANK_ACCOUNT,
        digest=f"stripe:{fingerprint}"[:100],
        shown=shown,
        at=at,
    )


def note_tax_number(*, contributor: Contributor, country: str, number: str, at: datetime) -> None:
    """The same by a tax number, which one person has for oneself."""
    for digest in sealing.digests(f"{country}:{number}"):
        links.note_detail(
            contributor=contributor,
            kind=IdentifyingDetail.Kind.TAX_NUMBER,
            digest=f"tax:{digest}",
            shown=f"{country} … {number[-4:]}",
            at=at,
        )


@transaction.atomic
def propose_link(
    *, accounts: Sequence[Contributor], reason: str, by: User, at: datetime, seen: Presence = NOBODY
) -> ContributorLink:
    """Propose that accounts count as one where works are valued. Somebody else decides."""
    require_role(by, COMPLIANCE, ADMIN)
    link = links.propose_link(contributors=accounts, reason=reason, by=by, at=at)
    _audit(link, "propose_link", by, at, seen, reason=link.reason)
    Notice.objects.create(
        kind="link_proposed",
        subject=f"link:{link.public_id}",
        created_at=at,
        words=f"{by} proposes that {len(accounts)} accounts count as one: {link.reason}"[:1000],
    )
    return link


@transaction.atomic
def dismiss_suspicion(
    *, accounts: Sequence[Contributor], reason: str, by: User, at: datetime, seen: Presence = NOBODY
) -> ContributorLink:
    """Say that accounts which share a detail are different people's. One more account with it asks anew."""
    require_role(by, COMPLIANCE, ADMIN)
    require_fresh_factor(seen)
    for one in accounts:
        require_stranger(by, one.pk)
    link = links.dismiss_suspicion(contributors=accounts, reason=reason, by=by, at=at)
    _audit(link, "dismiss_suspicion", by, at, seen, reason=link.reason)
    return link


@transaction.atomic
def propose_end_of_link(
    *, link: ContributorLink, reason: str, by: User, at: datetime, seen: Presence = NOBODY
) -> ContributorLink:
    """Propose that the accounts count apart again. The link stays in force until somebody else agrees."""
    require_role(by, COMPLIANCE, ADMIN)
    link = links.propose_end_of_link(link=link, reason=reason, by=by, at=at)
    _audit(link, "propose_end_of_link", by, at, seen, reason=link.end_reason)
    Notice.objects.create(
        kind="link_proposed",
        subject=f"link:{link.public_id}:{at:%Y%m%d%H%M%S%f}",
        created_at=at,
        words=f"{by} proposes that {link.members.count()} accounts count apart again: {link.end_reason}"[:1000],
    )
    return link


@transaction.atomic
def decide_link(
    *, link: ContributorLink, agree: bool, by: User, at: datetime, known: str = "", seen: Presence = NOBODY
) -> ContributorLink:
    """Agree to a link or to its end, or refuse it. The accounts are told the change, and its reason.

    `known`: the state that the page showed; where it is another now, nothing is decided, and UnableToDecideLink is
    raised.
    """
    require_role(by, COMPLIANCE, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    link = ContributorLink.objects.select_for_update(no_key=True).get(pk=link.pk)
    for account in link.members.values_list("contributor_id", flat=True):
        require_stranger(by, account)
    if known and known != link.state:
        raise links.UnableToDecideLink(
            f"Since you opened the page the link became {link.get_state_display().lower()}; look at it again."
        )
    before = link.state
    link = links.decide_link(link=link, agree=agree, by=by, at=at)
    _audit(link, "decide_link", by, at, seen, before=before)
    if agree and link.state == ContributorLink.State.IN_FORCE:
        _tell(
            link,
            "accounts_linked",
            at,
            lambda names: (
                f"From now on your works and those of {names} are valued as the works of one account, because we found "
                f"that the accounts belong to one person: {link.reason}"
            ),
        )
    elif agree:
        _tell(
            link,
            "accounts_unlinked",
            at,
            lambda names: f"From now on your works are valued apart from those of {names} again: {link.end_reason}",
        )
    return link


def _tell(link: ContributorLink, kind: str, at: datetime, words: Callable[[str], str]) -> None:
    accounts = list(link.contributors.order_by("pk"))
    Notice.objects.bulk_create(
        Notice(
            contributor=one,
            kind=kind,
            subject=f"link:{link.public_id}:{one.pk}",
            created_at=at,
            words=words(_named([other.display_name for other in accounts if other != one]))[:1000],
        )
        for one in accounts
    )


def _named(names: Sequence[str]) -> str:
    shown = [f"“{name}”" for name in names[:3]]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _audit(
    link: ContributorLink, action: str, by: User, at: datetime, seen: Presence, *, before: str = "", reason: str = ""
) -> None:
    """One line for the link, and its accounts by number."""
    accounts = list(link.members.order_by("contributor").values_list("contributor_id", flat=True))
    audit(
        by=by,
        action=action,
        subject=f"link:{link.public_id}",
        at=at,
        seen=seen,
        before={"state": before} if before else {},
        after={"state": link.state, "accounts": accounts, "reason": reason},
    )
