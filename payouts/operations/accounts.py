"""A contributor's payout account: opened at Stripe, onboarded, read again. Its state there becomes holds."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from contributors.models import Contributor
from contributors.queries.people import manages
from ledger.queries import balances
from payouts.models import HoldReason, Notice, Payout, PayoutAccount, Rail, SetUpAttempt, TaxProfile
from payouts.operations import set_ups
from payouts.operations.holds import sync_automatic_holds
from payouts.operations.links import note_bank_at_stripe
from payouts.queries import payees
from payouts.queries.ended_accounts import Why, why_replaced
from payouts.queries.hold_reasons import reason_of_disabling
from payouts.queries.policies import terms_in_force
from payouts.rails import choice, countries
from payouts.rails.stripe import calls, errors, values
from people.actor import NOBODY, Presence, audit
from people.models import User
from people.presentation import dates

REFRESH_PATH = "/portal/payouts/onboarding/"
RETURN_PATH = "/portal/payouts/returned/"
# The reasons that an account's state at Stripe can give.
FROM_STRIPE = {
    HoldReason.ONBOARDING_INCOMPLETE,
    HoldReason.TRANSFERS_CAPABILITY_INACTIVE,
    HoldReason.PAYOUTS_DISABLED,
    HoldReason.REQUIREMENTS_PAST_DUE,
    HoldReason.STRIPE_UNDER_REVIEW,
    HoldReason.SANCTIONS_LISTED,
    HoldReason.REJECTED_BY_STRIPE,
    HoldReason.ACCOUNT_DISCONNECTED,
    HoldReason.ACCOUNT_OUTDATED,
}
# All that an account, its tax form and the policy decide by themselves.
FROM_ACCOUNT = FROM_STRIPE | {
    HoldReason.BANK_ACCOUNT_MISSING,
    HoldReason.BANK_DETAILS_CHANGED_RECENTLY,
    HoldReason.COUNTRY_UNSUPPORTED,
    HoldReason.CURRENCY_UNSUPPORTED,
    HoldReason.TAX_FORM_MISSING,
    HoldReason.TAX_FORM_EXPIRED,
    HoldReason.FIRST_PAYOUT_PROBATION,
}


class UnableToOpenAccount(Exception):
    """The person may not act for the contributor, or Stripe did not open the account."""

    status = 422
    problem = "payout-account-not-opened"


class UnableToSetThreshold(Exception):
    """The contributor's own threshold is negative, or the person may not set it."""

    status = 422
    problem = "threshold-invalid"


def require_manager(by: User, contributor: Contributor) -> None:
    """Raise UnableToOpenAccount unless `by` manages the contributor."""
    if not manages(by, contributor):
        raise UnableToOpenAccount(f"{by} does not manage {contributor}.")


def open_payout_account(*, contributor: Contributor, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutAccount:
    """Open the contributor's account at Stripe. Repeatable: the row comes first, and each attempt has one key
    (operations/set_ups.py).

    Raises UnableToOpenAccount for a contributor paid by bank transfer, and where Stripe did not open the account.
    """
    require_manager(by, contributor)
    known = PayoutAccount.objects.filter(contributor=contributor).first()
    if choice.rail_of(contributor, known) != Rail.STRIPE_TRANSFER:
        raise UnableToOpenAccount("You are paid by bank transfer: name your bank account on the page of payouts.")
    with transaction.atomic(durable=True):
        account, made = PayoutAccount.objects.get_or_create(
            contributor=contributor,
            defaults={
                "country": contributor.country,
                "destination_currency": contributor.currency,
                "created_at": at,
            },
        )
        if made:
            audit(
                by=by,
                action="open_payout_account",
                subject=f"contributor:{contributor.pk}",
                at=at,
                seen=seen,
                after={"account": str(account.public_id)},
            )
    if account.provider_account_id is not None:
        return account
    parameters = {
        "country": contributor.country,
        "email": by.email,
        "is_company": contributor.kind == Contributor.Kind.ORGANISATION,
        "agreement": countries.at_stripe().agreement(contributor.country),
        "metadata": {"contributor": str(contributor.public_id), "payout_account": str(account.public_id)},
    }
    try:
        attempt, opened = set_ups.open_at_stripe(account=account, parameters=parameters, by=by, at=at)
    except errors.UnableToUseStripe as error:
        raise UnableToOpenAccount(f"Stripe did not open the account: {error} You can try again.") from error
    with transaction.atomic():
        account = PayoutAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
        if account.provider_account_id is None:
            SetUpAttempt.objects.filter(pk=attempt.pk).update(provider_account_id=opened.id)
            account.provider_account_id = opened.id
            account.save(update_fields=["provider_account_id"])
        return apply_account(account=account, remote=opened, at=at)


def onboarding_link(*, account: PayoutAccount, by: User, at: datetime, seen: Presence = NOBODY) -> str:
    """Return a fresh single-use address of Stripe's onboarding. Coming back from it means nothing: read the account.

    Raises UnableToOpenAccount where Stripe gives no link.
    """
    require_manager(by, account.contributor)
    if account.provider_account_id is None:
        account = open_payout_account(contributor=account.contributor, by=by, at=at, seen=seen)
    assert account.provider_account_id is not None
    try:
        return calls.account_link(
            account.provider_account_id,
            refresh_url=settings.SITE_URL + REFRESH_PATH,
            return_url=settings.SITE_URL + RETURN_PATH,
        )
    except errors.UnableToUseStripe as error:
        raise UnableToOpenAccount(f"Stripe gave no onboarding link: {error}") from error


def sync_account(*, account: PayoutAccount, at: datetime) -> PayoutAccount:
    """Read the account at Stripe and make our row and its holds follow."""
    if account.provider_account_id is None:
        return account
    try:
        remote = calls.retrieve_account(account.provider_account_id)
    except errors.UnableToUseStripe as error:
        if error.verdict.hold == HoldReason.ACCOUNT_DISCONNECTED:
            return disconnect_account(account=account, at=at)
        raise
    # Below zero there, a transfer would be swallowed and never reach the bank. Not to know changes nothing.
    balance: values.Balance | None = None
    with contextlib.suppress(errors.UnableToUseStripe):
        balance = calls.balance(account.provider_account_id)
    with transaction.atomic():
        account = PayoutAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
        return apply_account(account=account, remote=remote, at=at, balance=balance)


def apply_account(
    *, account: PayoutAccount, remote: values.Account, at: datetime, balance: values.Balance | None = None
) -> PayoutAccount:
    """Take over Stripe's state of a locked account, in the caller's transaction."""
    if remote.bank_number:
        last4 = remote.bank_fingerprint.rpartition(":")[2]
        note_bank_at_stripe(
            contributor=account.contributor, fingerprint=remote.bank_number, shown=f"at Stripe, … {last4}", at=at
        )
    if account.rail != Rail.STRIPE_TRANSFER:
        # Paid by bank transfer since: Stripe's view is kept for the day that this changes back.
        remote = dataclasses.replace(remote, bank_fingerprint="", country="", default_currency="")
    # A payee by bank transfer had an account before too, which Stripe's first answer replaces.
    had_one = bool(account.bank_fingerprint) or account.bank_details.exists()
    if had_one and remote.bank_fingerprint and account.bank_fingerprint != remote.bank_fingerprint:
        account.bank_changed_at = at
        audit(
            by=None,
            action="bank_details_changed",
            subject=f"contributor:{account.contributor_id}",
            at=at,
            before={"bank": account.bank_fingerprint},
            after={"bank": remote.bank_fingerprint},
        )
    if remote.bank_fingerprint and account.bank_fingerprint != remote.bank_fingerprint:
        last4 = remote.bank_fingerprint.rpartition(":")[2]
        tell_bank_details(account=account, shown=f"… {last4}, named at Stripe", at=at)
    account.bank_fingerprint = remote.bank_fingerprint or account.bank_fingerprint
    account.country = remote.country or account.country
    account.destination_currency = remote.default_currency or account.destination_currency
    account.transfers_capability = remote.transfers_capability
    account.payouts_enabled = remote.payouts_enabled
    account.details_submitted = remote.details_submitted
    account.disabled_reason = remote.disabled_reason[:64]
    account.requirements, account.future_requirements = remote.requirements, remote.future_requirements
    account.disconnected_at = None
    account.synced_at = at
    account.save()
    hold_as_account_says(account, at, balance=balance)
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
    hold_as_account_says(account, at)
    return account


@transaction.atomic
def set_own_threshold(
    *, account: PayoutAccount, minimum_minor: int, by: User, at: datetime, seen: Presence = NOBODY
) -> PayoutAccount:
    """Set the contributor's own least payout in minor units of their currency, for payouts in it. The larger of it and
    the policy's counts.

    Raises UnableToSetThreshold for a negative amount.
    """
    require_manager(by, account.contributor)
    if minimum_minor < 0:
        raise UnableToSetThreshold("A threshold must not be negative.")
    account = PayoutAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
    before, account.minimum_minor = account.minimum_minor, minimum_minor
    account.save(update_fields=["minimum_minor"])
    audit(
        by=by,
        action="set_own_threshold",
        subject=f"contributor:{account.contributor_id}",
        at=at,
        seen=seen,
        before={"minimum_minor": before},
        after={"minimum_minor": minimum_minor},
    )
    return account


def tell_bank_details(*, account: PayoutAccount, shown: str, at: datetime) -> None:
    """Tell the people of a contributor that its money goes to another bank account, the first one included.

    In the transaction that names the account, and by a mail that nobody can switch off.
    """
    found = Notice(
        contributor=account.contributor,
        kind="bank_details_named",
        subject=f"bank:{account.pk}:{at:%Y%m%dT%H%M%S%f}:{shown}"[:120],
        created_at=at,
        words=f"From the next run on, payments to you go to this bank account: {shown}. If nobody of you named it, "
        "answer us at once and set a new password: we can stop the payment until it is sent.",
    )
    Notice.objects.bulk_create([found], ignore_conflicts=True)


def hold_as_account_says(
    account: PayoutAccount, at: datetime, *, balance: values.Balance | None = None, bank_replaced: bool = False
) -> None:
    """Make the automatic holds follow a locked account, in the caller's transaction.

    `balance`: the money that lies at Stripe for the contributor, where it was read. `bank_replaced`: the account that
    the bank refused is no longer the one that would be paid.
    """
    contributor, terms = account.contributor, terms_in_force(account.contributor.currency)
    # A hold stops the payouts of every currency, so that the slowest policy of those with money counts.
    earned = {own.asset.code for own in balances.accounts_of(contributor.pk)}
    slowest = [terms, *(terms_in_force(currency) for currency in sorted(earned - {contributor.currency}))]
    bank_change_days = max(one.bank_change_days for one in slowest)
    probation_days = max(one.probation_days for one in slowest)
    if account.is_onboarded and account.ready_at is None:
        account.ready_at = at
        account.save(update_fields=["ready_at"])
    of = set(FROM_ACCOUNT)
    wanted: dict[HoldReason, datetime | None] = {}
    if account.rail == Rail.STRIPE_TRANSFER:
        wanted.update(dict.fromkeys(_as_stripe_says(account)))
        if why_replaced(account) in (Why.COUNTRY_CHANGED, Why.KIND_CHANGED):
            wanted[HoldReason.ACCOUNT_OUTDATED] = None
        if choice.rail_of_country(account.country) != Rail.STRIPE_TRANSFER and not account.is_onboarded:
            wanted[HoldReason.COUNTRY_UNSUPPORTED] = None
    elif not account.is_onboarded:
        reachable = choice.reaches(contributor.country)
        wanted[HoldReason.BANK_ACCOUNT_MISSING if reachable else HoldReason.COUNTRY_UNSUPPORTED] = None
    if not choice.pays(account.rail, contributor.currency):
        wanted[HoldReason.CURRENCY_UNSUPPORTED] = None
    ends = account.bank_changed_at and account.bank_changed_at + timedelta(days=bank_change_days)
    if ends is not None and at < ends:
        wanted[HoldReason.BANK_DETAILS_CHANGED_RECENTLY] = ends
    if terms.requires_tax_form and (reason := tax_problem(payees.tax_form_of(contributor), at=at)):
        wanted[reason] = None
    ends = account.ready_at and account.ready_at + timedelta(days=probation_days)
    if ends is not None and at < ends and not contributor.payouts.filter(state__in=Payout.PAID).exists():
        wanted[HoldReason.FIRST_PAYOUT_PROBATION] = ends
    if balance is not None:
        of.add(HoldReason.NEGATIVE_STRIPE_BALANCE)
        if any(balance.total(code) < 0 for code in {*balance.available, *balance.pending}):
            wanted[HoldReason.NEGATIVE_STRIPE_BALANCE] = None
    elif account.rail == Rail.MANUAL_BANK_FILE:
        of.add(HoldReason.NEGATIVE_STRIPE_BALANCE)
    if bank_replaced:
        of |= {HoldReason.REFUSED_BY_BANK, HoldReason.BANK_DETAILS_INCOMPLETE}
    sync_automatic_holds(contributor=contributor, wanted=wanted, of=of, at=at)


def _as_stripe_says(account: PayoutAccount) -> list[HoldReason]:
    if account.disconnected_at is not None:
        return [HoldReason.ACCOUNT_DISCONNECTED]
    named = reason_of_disabling(account.disabled_reason)
    # An onboarding that was never begun is not "past due".
    if not account.details_submitted and named in (None, HoldReason.REQUIREMENTS_PAST_DUE):
        return [HoldReason.ONBOARDING_INCOMPLETE]
    if named is not None and named in FROM_STRIPE:
        return [named]
    if account.transfers_capability != PayoutAccount.Capability.ACTIVE:
        return [HoldReason.TRANSFERS_CAPABILITY_INACTIVE]
    return [] if account.payouts_enabled else [HoldReason.PAYOUTS_DISABLED]


def tax_problem(form: TaxProfile | None, *, at: datetime) -> HoldReason | None:
    """Return the hold that a missing or old tax form causes; None where it is in order."""
    if form is None or form.form == TaxProfile.Form.NONE:
        return HoldReason.TAX_FORM_MISSING
    if form.valid_until is not None and form.valid_until < dates.today(at):
        return HoldReason.TAX_FORM_EXPIRED
    return None


@transaction.atomic
def refresh_holds(*, account: PayoutAccount, at: datetime) -> PayoutAccount:
    """Make the automatic holds follow facts that are known here: forms that ran out, cool-downs that ended, a new
    policy."""
    account = PayoutAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
    if account.rail == Rail.MANUAL_BANK_FILE:
        account.synced_at = at
        account.save(update_fields=["synced_at"])
    if account.provider_account_id or account.rail == Rail.MANUAL_BANK_FILE:
        hold_as_account_says(account, at)
    return account
