"""A contributor's account at Stripe: opened, onboarded, read again. What Stripe says becomes holds in plain words."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from contributors.models import Contributor, Membership, User
from payouts import gateway
from payouts.holds import reason_of_disabling
from payouts.models import HoldReason, PayoutAccount
from payouts.operations.audit import NOBODY, Presence, audit
from payouts.operations.holds import sync_automatic_holds
from payouts.operations.policies import terms_in_force

REFRESH_PATH = "/portal/payouts/onboarding/"
RETURN_PATH = "/portal/payouts/returned/"
# The reasons that an account's state at Stripe can give.
FROM_STRIPE = {
    HoldReason.ONBOARDING_INCOMPLETE, HoldReason.TRANSFERS_CAPABILITY_INACTIVE, HoldReason.PAYOUTS_DISABLED,
    HoldReason.REQUIREMENTS_PAST_DUE, HoldReason.STRIPE_UNDER_REVIEW, HoldReason.SANCTIONS_LISTED,
    HoldReason.REJECTED_BY_STRIPE, HoldReason.ACCOUNT_DISCONNECTED, HoldReason.BANK_DETAILS_CHANGED_RECENTLY,
}  # fmt: skip


class UnableToOpenAccount(Exception):
    """The person may not act for the contributor, or Stripe did not open the account."""

    status = 422
    problem = "payout-account-not-opened"


class UnableToSetThreshold(Exception):
    """The contributor's own threshold is negative, or the person may not set it."""

    status = 422
    problem = "threshold-invalid"


def _require_manager(by: User, contributor: Contributor) -> None:
    allowed = [Membership.Role.OWNER, Membership.Role.MANAGER]
    if not Membership.objects.filter(user=by, contributor=contributor, role__in=allowed).exists():
        raise UnableToOpenAccount(f"{by} does not manage {contributor}.")


def open_payout_account(*, contributor: Contributor, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutAccount:
    """Open the contributor's account at Stripe. Repeatable: the row comes first, and one key serves every try."""
    _require_manager(by, contributor)
    with transaction.atomic(durable=True):
        account, made = PayoutAccount.objects.get_or_create(
            contributor=contributor,
            defaults={
                "country": contributor.country, "destination_currency": contributor.currency, "created_at": at,
            },
        )  # fmt: skip
        if made:
            audit(
                by=by, action="open_payout_account", subject=f"contributor:{contributor.pk}", at=at, seen=seen,
                after={"account": str(account.public_id)},
            )  # fmt: skip
    if account.provider_account_id is not None:
        return account
    try:
        opened = gateway.create_account(
            country=contributor.country, email=by.email, is_company=contributor.kind == Contributor.Kind.ORGANISATION,
            metadata={"contributor": str(contributor.public_id), "payout_account": str(account.public_id)},
            idempotency_key=f"account_{account.public_id.hex}",
        )  # fmt: skip
    except gateway.UnableToUseStripe as error:
        raise UnableToOpenAccount(f"Stripe did not open the account: {error}") from error
    with transaction.atomic():
        account = PayoutAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
        if account.provider_account_id is None:
            account.provider_account_id = opened.id
            account.save(update_fields=["provider_account_id"])
        return apply_account(account=account, remote=opened, at=at)


def onboarding_link(*, account: PayoutAccount, by: User, at: datetime) -> str:
    """A fresh single-use address of Stripe's onboarding. Coming back from it means nothing: read the account."""
    _require_manager(by, account.contributor)
    if account.provider_account_id is None:
        account = open_payout_account(contributor=account.contributor, by=by, at=at)
    assert account.provider_account_id is not None
    try:
        return gateway.account_link(
            account.provider_account_id,
            refresh_url=settings.SITE_URL + REFRESH_PATH, return_url=settings.SITE_URL + RETURN_PATH,
        )  # fmt: skip
    except gateway.UnableToUseStripe as error:
        raise UnableToOpenAccount(f"Stripe gave no onboarding link: {error}") from error


def sync_account(*, account: PayoutAccount, at: datetime) -> PayoutAccount:
    """Read the account at Stripe and make our row and its holds follow."""
    if account.provider_account_id is None:
        return account
    try:
        remote = gateway.retrieve_account(account.provider_account_id)
    except gateway.UnableToUseStripe as error:
        if error.verdict.hold == HoldReason.ACCOUNT_DISCONNECTED:
            return disconnect_account(account=account, at=at)
        raise
    with transaction.atomic():
        account = PayoutAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
        return apply_account(account=account, remote=remote, at=at)


def apply_account(*, account: PayoutAccount, remote: gateway.Account, at: datetime) -> PayoutAccount:
    """Take over what Stripe says of a locked account, in the caller's transaction."""
    if account.bank_fingerprint and remote.bank_fingerprint and account.bank_fingerprint != remote.bank_fingerprint:
        account.bank_changed_at = at
        audit(
            by=None, action="bank_details_changed", subject=f"contributor:{account.contributor_id}", at=at,
            before={"bank": account.bank_fingerprint}, after={"bank": remote.bank_fingerprint},
        )  # fmt: skip
    account.bank_fingerprint = remote.bank_fingerprint or account.bank_fingerprint
    account.country = remote.country or account.country
    account.destination_currency = remote.default_currency or account.destination_currency
    account.transfers_capability = remote.transfers_capability
    account.payouts_enabled = remote.payouts_enabled
    account.details_submitted = remote.details_submitted
    account.disabled_reason = remote.disabled_reason[:64]
    account.requirements = remote.requirements
    account.disconnected_at = None
    account.synced_at = at
    account.save()
    _hold_as_stripe_says(account, at)
    return account


@transaction.atomic
def disconnect_account(*, account: PayoutAccount, at: datetime) -> PayoutAccount:
    """The contributor cut the connection, or Stripe closed it."""
    account = PayoutAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
    if account.disconnected_at is None:
        account.disconnected_at = at
        account.synced_at = at
        account.save(update_fields=["disconnected_at", "synced_at"])
        audit(by=None, action="account_disconnected", subject=f"contributor:{account.contributor_id}", at=at)
    _hold_as_stripe_says(account, at)
    return account


@transaction.atomic
def set_own_threshold(
    *, account: PayoutAccount, minimum_minor: int, by: User, at: datetime, seen: Presence = NOBODY
) -> PayoutAccount:
    """The contributor's own least payout; the larger of it and the policy's counts."""
    _require_manager(by, account.contributor)
    if minimum_minor < 0:
        raise UnableToSetThreshold("A threshold must not be negative.")
    account = PayoutAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
    before, account.minimum_minor = account.minimum_minor, minimum_minor
    account.save(update_fields=["minimum_minor"])
    audit(
        by=by, action="set_own_threshold", subject=f"contributor:{account.contributor_id}", at=at, seen=seen,
        before={"minimum_minor": before}, after={"minimum_minor": minimum_minor},
    )  # fmt: skip
    return account


def _hold_as_stripe_says(account: PayoutAccount, at: datetime) -> None:
    wanted: dict[HoldReason, datetime | None] = {}
    if account.disconnected_at is not None:
        wanted[HoldReason.ACCOUNT_DISCONNECTED] = None
    else:
        named = reason_of_disabling(account.disabled_reason)
        # What was never begun is not "past due".
        if not account.details_submitted and named in (None, HoldReason.REQUIREMENTS_PAST_DUE):
            wanted[HoldReason.ONBOARDING_INCOMPLETE] = None
        elif named is not None and named in FROM_STRIPE:
            wanted[named] = None
        elif account.transfers_capability != PayoutAccount.Capability.ACTIVE:
            wanted[HoldReason.TRANSFERS_CAPABILITY_INACTIVE] = None
        elif not account.payouts_enabled:
            wanted[HoldReason.PAYOUTS_DISABLED] = None
        days = terms_in_force(account.contributor.currency).bank_change_days
        if account.bank_changed_at is not None and at < account.bank_changed_at + timedelta(days=days):
            wanted[HoldReason.BANK_DETAILS_CHANGED_RECENTLY] = account.bank_changed_at + timedelta(days=days)
    sync_automatic_holds(contributor=account.contributor, wanted=wanted, of=FROM_STRIPE, at=at)
