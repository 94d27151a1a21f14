"""Contributors, the people that act for them, and the split of a contributor's earnings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction

from contributors.models import PPB, Contributor, Holder, Membership, Split
from contributors.queries import countries
from people.models import User
from people.presentation import names
from people.presentation.countries import COUNTRIES


class UnableToRegisterContributor(Exception):
    status = 422
    problem = "contributor-refused"


@transaction.atomic
def register_contributor(
    *, user: User | None, kind: str, legal_name: str, display_name: str, country: str, at: datetime
) -> Contributor:
    """Register a person or organisation that earns royalties, owned by `user`. It gets the whole of its own
    earnings. Without a user it has no member until an invited owner claims it.

    Raises UnableToRegisterContributor with the field that is wrong.
    """
    legal_name, display_name, country = checked_details(
        kind=kind, legal_name=legal_name, display_name=display_name, country=country
    )
    require_payable(country)
    contributor = Contributor.objects.create(
        kind=kind, legal_name=legal_name, display_name=display_name or legal_name, country=country, created_at=at
    )
    if user is not None:
        Membership.objects.create(user=user, contributor=contributor, role=Membership.Role.OWNER, created_at=at)
    holder = Holder.objects.create(
        label=contributor.display_name, created_by=contributor, is_default=True, created_at=at
    )
    Split.objects.create(holder=holder, contributor=contributor, ppb=PPB, effective_from=at)
    return contributor


def require_payable(country: str) -> None:
    """Raise UnableToRegisterContributor for a country to which no rail pays: it is said before anybody works."""
    if not countries.is_payable(country):
        raise UnableToRegisterContributor(
            f"We cannot pay anybody in {COUNTRIES[country]} yet, neither through Stripe nor by bank transfer. "
            "Nothing was registered. Write to us: we tell you when that changes."
        )


def checked_details(*, kind: str, legal_name: str, display_name: str, country: str) -> tuple[str, str, str]:
    """Legal name, display name and country as they are stored. Raises UnableToRegisterContributor."""
    legal_name, display_name = checked_name(legal_name), checked_name(display_name)
    country = country.strip().upper()
    if kind not in Contributor.Kind.values:
        raise UnableToRegisterContributor(f"A contributor is a person or an organisation, not “{kind}”.")
    if not legal_name:
        raise UnableToRegisterContributor("Give the legal name: payouts are made out to it.")
    if country not in COUNTRIES:
        raise UnableToRegisterContributor(f"“{country}” is not an ISO 3166 code of a country, such as DE or US.")
    return legal_name, display_name, country


def checked_name(name: str) -> str:
    """Return a name as it is stored, with composed accents; "" for none. Raises UnableToRegisterContributor.

    A name stands in mails, tables and lists beside amounts. It must not write lines of its own there, nor hide.
    """
    if refusal := names.why_not(name.strip()):
        raise UnableToRegisterContributor(refusal)
    name = names.composed(name)
    if len(name) > 200:
        raise UnableToRegisterContributor("A name has at most 200 characters.")
    return name


@transaction.atomic
def add_member(*, contributor: Contributor, user: User, role: str, at: datetime) -> Membership:
    """Let another person act for a contributor, or give them another role. The last owner stays one.

    Raises UnableToRegisterContributor for an unknown role, and where nobody would be an owner.
    """
    if role not in Membership.Role.values:
        raise UnableToRegisterContributor(f"A member is an {', '.join(Membership.Role.values)}; not “{role}”.")
    Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    owners = contributor.memberships.filter(role=Membership.Role.OWNER).exclude(user=user)
    if role != Membership.Role.OWNER and not owners.exists():
        raise UnableToRegisterContributor(f"{contributor} would have no owner left; make somebody else one first.")
    member, _ = Membership.objects.update_or_create(
        contributor=contributor, user=user, defaults={"role": role}, create_defaults={"role": role, "created_at": at}
    )
    return member


class UnableToRecordSplitSheet(Exception):
    status = 422
    problem = "split-sheet-refused"


@transaction.atomic
def register_holder(
    *, contributor: Contributor, label: str, parts: Mapping[Contributor, int], effective_from: datetime, at: datetime
) -> Holder:
    """Register a set of splits of its own, for works that `contributor` made with others.

    Raises UnableToRecordSplitSheet without a label, and for parts that do not sum to 10^9.
    """
    if not label.strip():
        raise UnableToRecordSplitSheet("Give the holder a label, such as the name of the band.")
    if refusal := names.why_not(label.strip()):
        raise UnableToRecordSplitSheet(refusal)
    holder = Holder.objects.create(label=names.composed(label)[:200], created_by=contributor, created_at=at)
    _write_sheet(holder, parts, effective_from)
    return holder


@transaction.atomic
def record_split_sheet(
    *, holder: Holder, parts: Mapping[Contributor, int], effective_from: datetime, at: datetime
) -> list[Split]:
    """Divide a holder's earnings from `effective_from` on: parts per billion by contributor, in all 10^9.

    Earlier earnings stay divided as they were, so that the date may not lie in the past. Raises
    UnableToRecordSplitSheet for such a date, a second sheet of one date, and parts that do not sum to 10^9.
    """
    Holder.objects.select_for_update(no_key=True).get(pk=holder.pk)
    if effective_from < at:
        raise UnableToRecordSplitSheet(f"A split sheet cannot begin in the past ({effective_from:%Y-%m-%d %H:%M} UTC).")
    if holder.splits.filter(effective_from=effective_from).exists():
        raise UnableToRecordSplitSheet(f"{holder} already has a split sheet from {effective_from:%Y-%m-%d %H:%M} UTC.")
    return _write_sheet(holder, parts, effective_from)


def _write_sheet(holder: Holder, parts: Mapping[Contributor, int], effective_from: datetime) -> list[Split]:
    if not parts:
        raise UnableToRecordSplitSheet("A split sheet names at least one contributor.")
    if wrong := [str(contributor) for contributor, ppb in parts.items() if ppb <= 0]:
        raise UnableToRecordSplitSheet(f"Every part is above zero; leave out {', '.join(wrong)}.")
    if (total := sum(parts.values())) != PPB:
        raise UnableToRecordSplitSheet(f"The parts sum to {total:,} parts per billion, not to {PPB:,}.")
    return Split.objects.bulk_create(
        Split(holder=holder, contributor=contributor, ppb=ppb, effective_from=effective_from)
        for contributor, ppb in parts.items()
    )
