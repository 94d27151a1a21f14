"""Corrections of a contributor's legal name and country, which payments, tax and statements rest on."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from contributors.models import Contributor, Membership
from contributors.operations.people import UnableToRegisterContributor, checked_details
from payouts.models import Hold, HoldReason, Payout, PayoutAccount, TaxProfile
from payouts.operations.holds import place_hold
from people.actor import audit
from people.models import User


class UnableToCorrectDetails(Exception):
    """The person is no owner, the name or country is wrong, nothing changes, or a payment is on its way."""

    status = 409
    problem = "details-not-corrected"


@transaction.atomic
def correct_details(*, contributor: Contributor, legal_name: str, country: str, by: User, at: datetime) -> bool:
    """Correct the legal name and the country. Returns whether compliance now checks the account before it is paid.

    That is so where payout details or a tax form rest on the old ones: a hold waits for compliance. While a payment is
    on its way nothing changes. Raises UnableToCorrectDetails.
    """
    fresh = Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    if not fresh.memberships.filter(user=by, role=Membership.Role.OWNER).exists():
        raise UnableToCorrectDetails(f"Only an owner of {fresh} corrects its legal name and country.")
    try:
        legal_name, _, country = checked_details(
            kind=fresh.kind, legal_name=legal_name, display_name=fresh.display_name, country=country
        )
    except UnableToRegisterContributor as error:
        raise UnableToCorrectDetails(str(error)) from error
    before = {"legal_name": fresh.legal_name, "country": fresh.country}
    after = {"legal_name": legal_name, "country": country}
    if before == after:
        raise UnableToCorrectDetails("Nothing changes: these are the legal name and the country already.")
    if Payout.objects.filter(contributor=fresh, state__in=Payout.LIVE).exists():
        raise UnableToCorrectDetails("A payment to you is on its way under the old details. Try again when it arrived.")
    if fresh.display_name == fresh.legal_name:
        # The name beside the works was the legal one, because no other was chosen.
        fresh.display_name = legal_name
    fresh.legal_name, fresh.country = legal_name, country
    fresh.save(update_fields=["legal_name", "country", "display_name"])
    rests = _rests_on_details(fresh)
    if (
        rests
        and not Hold.objects.filter(
            contributor=fresh, reason=HoldReason.FRAUD_REVIEW, released_at__isnull=True
        ).exists()
    ):
        note = f"{by} corrected {before['legal_name']}, {before['country']} to {legal_name}, {country}."
        place_hold(contributor=fresh, reason=HoldReason.FRAUD_REVIEW, at=at, note=note)
    audit(
        by=by,
        action="correct_details",
        subject=f"contributor:{fresh.public_id}",
        at=at,
        before=before,
        after=after,
    )
    return rests


def _rests_on_details(contributor: Contributor) -> bool:
    return (
        PayoutAccount.objects.filter(contributor=contributor).exists()
        or TaxProfile.objects.filter(contributor=contributor).exists()
        or Payout.objects.filter(contributor=contributor).exists()
    )
