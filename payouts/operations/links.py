"""Accounts of the same beneficial owner: the evidence is noted, and the accounts are told of a link or its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from contributors.models import Contributor, ContributorLink, IdentifyingDetail, LinkEnd
from contributors.operations import links
from payouts.models import Notice
from people import sealing
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


def _tell_linked(link: ContributorLink, by: User, at: datetime) -> dict[str, Any]:
    _tell(
        link,
        "accounts_linked",
        at,
        lambda names: (
            f"From now on your works and those of {names} are valued as the works of one account, because we found "
            f"that the accounts belong to one person: {link.reason}"
        ),
    )
    return {}


def _tell_unlinked(end: LinkEnd, by: User, at: datetime) -> dict[str, Any]:
    _tell(
        end.link,
        "accounts_unlinked",
        at,
        lambda names: f"From now on your works are valued apart from those of {names} again: {end.reason}",
    )
    return {}


KIND = dataclasses.replace(links.KIND, apply=_tell_linked)
END_KIND = dataclasses.replace(links.END_KIND, apply=_tell_unlinked)


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
