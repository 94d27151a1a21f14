"""Replacing an account at Stripe that ended. Its id stays on record, and the contributor sets up a new one."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from contributors.models import Contributor
from contributors.operations.deciding import require_stranger
from payouts.models import EndedAccount, Hold, HoldReason, Notice, PayoutAccount, Rail
from payouts.operations.accounts import (
    UnableToOpenAccount,
    hold_as_account_says,
    open_payout_account,
    require_manager,
    sync_account,
)
from payouts.operations.holds import release_hold
from payouts.queries.ended_accounts import BY_THE_PAYEE, Why, why_replaced
from payouts.rails import choice
from payouts.rails.stripe import errors
from people.actor import (
    ADMIN,
    CHECKER,
    COMPLIANCE,
    NOBODY,
    Presence,
    audit,
    require_fresh_factor,
    require_role,
    require_settled_role,
)
from people.models import User


class UnableToReplaceAccount(Exception):
    """There is no account to replace, it can still be paid, or the decision belongs to somebody else."""

    status = 409
    problem = "payout-account-not-replaced"


def set_up_again(*, contributor: Contributor, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutAccount:
    """Open a fresh account for a contributor with a closed or disconnected one, or with another country or kind.

    The account is read at Stripe first: one that is connected again is kept. Raises UnableToReplaceAccount where the
    present account can be paid and where Stripe rejected it; UnableToOpenAccount as `open_payout_account`.
    """
    require_manager(by, contributor)
    account = _account_of(contributor)
    try:
        account = sync_account(account=account, at=at)
    except errors.UnableToUseStripe as error:
        raise UnableToOpenAccount(f"Stripe could not be asked about the present account: {error}") from error
    why = why_replaced(account)
    if why == Why.REJECTED:
        raise UnableToReplaceAccount("Stripe rejected this account. Write to us: compliance decides about another one.")
    if why in BY_THE_PAYEE:
        _end(account, why=why, note="", by=by, at=at, seen=seen)
    elif account.provider_account_id is not None:
        raise UnableToReplaceAccount("Your account at Stripe is connected and can be paid. It needs no replacement.")
    return open_payout_account(contributor=contributor, by=by, at=at, seen=seen)


@transaction.atomic
def retire_account(
    *, contributor: Contributor, reason: str, by: User, at: datetime, seen: Presence = NOBODY
) -> EndedAccount:
    """End the contributor's account at Stripe, so that the contributor sets up a new one. The contributor is told.

    After Stripe's own rejection it takes compliance, and the hold of the rejection ends with it. Raises
    UnableToReplaceAccount without an account or a reason, and while somebody is sanctions-listed.
    """
    require_role(by, CHECKER, COMPLIANCE, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    require_stranger(by, contributor.pk)
    if not reason.strip():
        raise UnableToReplaceAccount("Say why; the contributor may ask.")
    account = _account_of(contributor)
    if account.provider_account_id is None:
        raise UnableToReplaceAccount(f"{contributor} has no account at Stripe; the contributor can set one up.")
    holds = Hold.objects.filter(contributor=contributor, released_at__isnull=True)
    if holds.filter(reason=HoldReason.SANCTIONS_LISTED).exists():
        raise UnableToReplaceAccount("A sanctions check is open. Release that hold first, if it is settled.")
    why = why_replaced(account) or Why.BY_STAFF
    rejections = list(holds.filter(reason=HoldReason.REJECTED_BY_STRIPE))
    if why == Why.REJECTED or rejections:
        require_role(by, COMPLIANCE)
    ended = _end(account, why=why, note=reason.strip()[:500], by=by, at=at, seen=seen)
    for hold in rejections:
        release_hold(hold=hold, by=by, at=at, note=reason, seen=seen)
    Notice.objects.create(
        contributor=contributor,
        kind="set_up_again",
        subject=f"ended_account:{ended.provider_account_id}",
        created_at=at,
        words="We closed the record of your old Stripe account. Set up your payouts again: it takes about five "
        "minutes, and your earnings wait for you until then.",
    )
    return ended


def _account_of(contributor: Contributor) -> PayoutAccount:
    account = PayoutAccount.objects.filter(contributor=contributor).select_related("contributor").first()
    if account is None:
        raise UnableToReplaceAccount(f"{contributor} has no payout account yet.")
    return account


@transaction.atomic
def _end(account: PayoutAccount, *, why: str, note: str, by: User, at: datetime, seen: Presence) -> EndedAccount:
    contributor = Contributor.objects.select_for_update(no_key=True).get(pk=account.contributor_id)
    account = PayoutAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
    if account.provider_account_id is None:
        raise UnableToReplaceAccount("The account was replaced a moment ago.")
    ended = EndedAccount.objects.create(
        account=account,
        provider_account_id=account.provider_account_id,
        country=account.country,
        why=why,
        note=note,
        ended_by=by,
        ended_at=at,
    )
    account.contributor = contributor
    account.provider_account_id = None
    account.transfers_capability = PayoutAccount.Capability.UNREQUESTED
    account.payouts_enabled = account.details_submitted = False
    account.disabled_reason = ""
    account.requirements, account.future_requirements = {}, {}
    account.disconnected_at = None
    account.country, account.destination_currency = contributor.country, contributor.currency
    if account.rail == Rail.STRIPE_TRANSFER:
        _choose_rail_anew(account)
        # Money that went somewhere goes elsewhere from now on.
        if account.ready_at is not None:
            account.bank_changed_at = at
    account.save()
    audit(
        by=by,
        action="end_stripe_account",
        subject=f"contributor:{contributor.pk}",
        at=at,
        seen=seen,
        before={"account": ended.provider_account_id, "country": ended.country},
        after={"why": str(why), "note": note, "country": contributor.country},
    )
    hold_as_account_says(account, at)
    return ended


def _choose_rail_anew(account: PayoutAccount) -> None:
    """A contributor that moved to a country that Stripe does not pay is paid by bank transfer from now on."""
    rail = choice.rail_of_country(account.country)
    if rail != account.rail:
        latest = account.bank_details.order_by("-pk").first()
        account.rail, account.bank_fingerprint = rail, latest.fingerprint if latest else ""
