"""Destinations of money and reasons that stop it: payout accounts, tax profiles, payout policies, holds."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from contributors.models import PPB
from people.models import TWO_PEOPLE, Proposal, uuid7


class Rail(models.TextChoices):
    STRIPE_TRANSFER = "stripe_transfer"
    MANUAL_BANK_FILE = "manual_bank_file"


class PayoutAccount(models.Model):
    """The destination of a contributor's payouts: an account at Stripe, as Stripe last described it, or a bank account
    of its own.

    On Stripe's rail the bank details stay at Stripe. On the manual rail they are sealed in BankDetails.
    """

    class Capability(models.TextChoices):
        UNREQUESTED = "unrequested"
        INACTIVE = "inactive"
        PENDING = "pending"
        ACTIVE = "active"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    contributor = models.OneToOneField(
        "contributors.Contributor", on_delete=models.PROTECT, related_name="payout_account"
    )
    rail = models.CharField(max_length=16, choices=Rail.choices, default=Rail.STRIPE_TRANSFER)
    # Empty until Stripe has answered: the intent is committed before the call.
    provider_account_id = models.CharField(max_length=64, null=True, blank=True, unique=True)
    country = models.CharField(max_length=2)
    destination_currency = models.CharField(max_length=3)
    transfers_capability = models.CharField(max_length=11, choices=Capability.choices, default=Capability.UNREQUESTED)
    payouts_enabled = models.BooleanField(default=False)
    details_submitted = models.BooleanField(default=False)
    disabled_reason = models.CharField(max_length=64, blank=True)
    # Stripe's own lists of fields: currently_due, past_due, eventually_due, pending_verification, errors, and
    # current_deadline. The future ones take the place of the present ones at their own deadline.
    requirements = models.JSONField(default=dict)
    future_requirements = models.JSONField(default=dict)
    # The bank account that would be paid: Stripe's id and last four digits; on the manual rail the fingerprint of the
    # bank details. A change starts a cool-down.
    bank_fingerprint = models.CharField(max_length=100, blank=True)
    bank_changed_at = models.DateTimeField(null=True, blank=True)
    disconnected_at = models.DateTimeField(null=True, blank=True)
    # When it could first be paid to: a probation of the first payout counts from here.
    ready_at = models.DateTimeField(null=True, blank=True)
    # The contributor's own threshold, in minor units of the contributor's currency and for payouts in that alone. The
    # larger of it and the policy's counts.
    minimum_minor = models.BigIntegerField(default=0)
    synced_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(provider_account_id=""), name="payout_account_id_is_not_empty"),
            models.CheckConstraint(condition=Q(minimum_minor__gte=0), name="own_threshold_is_not_negative"),
        ]

    def __str__(self) -> str:
        return self.provider_account_id or f"account of {self.contributor}"

    @property
    def destination(self) -> str:
        """Return the destination that a payout freezes; empty where there is none yet."""
        return self.bank_fingerprint if self.rail == Rail.MANUAL_BANK_FILE else self.provider_account_id or ""

    @property
    def is_onboarded(self) -> bool:
        """Tell whether the rail would take a payment to this account now."""
        if self.rail == Rail.MANUAL_BANK_FILE:
            return bool(self.bank_fingerprint)
        return (
            self.provider_account_id is not None
            and self.transfers_capability == self.Capability.ACTIVE
            and self.disconnected_at is None
        )


class TaxProfile(models.Model):
    """The withholding from a contributor, and the form that it rests on. A change is a new row; the latest one
    counts."""

    class Form(models.TextChoices):
        NONE = "none", "No form"
        W9 = "w9", "W-9"
        W8BEN = "w8ben", "W-8BEN"
        W8BENE = "w8bene", "W-8BEN-E"

    contributor = models.ForeignKey("contributors.Contributor", on_delete=models.PROTECT, related_name="tax_profiles")
    form = models.CharField(max_length=6, choices=Form.choices)
    jurisdiction = models.CharField(max_length=2, default="US")
    # Of tax residence, as the form states it; rows older than the form's page have none, and no dates.
    country = models.CharField(max_length=2, blank=True)
    # The end of the tax number. The whole of it stays on the paper.
    number_last4 = models.CharField(max_length=4, blank=True)
    signed_on = models.DateField(null=True, blank=True)
    received_on = models.DateField(null=True, blank=True)
    withholding_ppb = models.BigIntegerField(default=0)
    valid_until = models.DateField(null=True, blank=True)
    recorded_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, related_name="+")
    recorded_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(withholding_ppb__gte=0, withholding_ppb__lt=PPB), name="withholding_leaves_something_to_pay"
            ),
            models.CheckConstraint(
                condition=Q(number_last4__regex="^[0-9A-Z]{0,4}$"), name="of_a_tax_number_only_the_end_is_kept"
            ),
            models.CheckConstraint(
                condition=Q(signed_on__isnull=True) | Q(received_on__gte=F("signed_on")),
                name="a_tax_form_is_received_after_it_was_signed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.form}: {self.withholding_ppb} ppb"

    @property
    def number_masked(self) -> str:
        return f"•••• {self.number_last4}" if self.number_last4 else ""


class PayoutPolicy(models.Model):
    """The rules for runs of one currency. Append-only and numbered: a run freezes the version that it was built
    under."""

    currency = models.CharField(max_length=3)
    version = models.IntegerField()
    minimum_minor = models.BigIntegerField()
    maturity_days = models.IntegerField()
    # From this total on, a run needs a second approver. Null: never.
    second_approval_minor = models.BigIntegerField(null=True, blank=True)
    bank_change_days = models.IntegerField(default=3)
    requires_tax_form = models.BooleanField(default=False)
    # A contributor's first payout waits so long after the account became ready.
    probation_days = models.IntegerField(default=3)
    # The most that one person may approve in one run, and in one UTC day. Null: no limit.
    approval_limit_minor = models.BigIntegerField(null=True, blank=True)
    daily_approval_minor = models.BigIntegerField(null=True, blank=True)
    created_by = models.ForeignKey("people.User", on_delete=models.PROTECT, related_name="+")
    approved_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(approved_by__isnull=False), name="a_policy_takes_two_people"),
            models.CheckConstraint(
                condition=Q(approved_by__isnull=True) | ~Q(approved_by=F("created_by")),
                name="a_policy_is_approved_by_another",
            ),
            models.CheckConstraint(
                condition=Q(probation_days__gte=0)
                & (Q(approval_limit_minor__isnull=True) | Q(approval_limit_minor__gt=0))
                & (Q(daily_approval_minor__isnull=True) | Q(daily_approval_minor__gt=0)),
                name="policy_limits_are_positive",
            ),
            models.UniqueConstraint(fields=["currency", "version"], name="a_policy_version_exists_once"),
            models.CheckConstraint(condition=Q(minimum_minor__gt=0), name="policy_minimum_is_positive"),
            models.CheckConstraint(
                condition=Q(maturity_days__gte=0, bank_change_days__gte=0), name="policy_delays_are_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.currency} policy {self.version}"


class PolicyProposal(Proposal):
    """A policy that one person proposes; the approval of another makes a version of it."""

    currency = models.CharField(max_length=3)
    # The figures of a PayoutPolicy by name.
    terms = models.JSONField()
    reason = models.CharField(max_length=500)
    policy = models.OneToOneField(
        PayoutPolicy, on_delete=models.PROTECT, null=True, blank=True, related_name="proposal"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["currency"], condition=Q(state="proposed"), name="one_open_proposal_for_a_currency"
            ),
            models.CheckConstraint(
                condition=Q(state="approved", policy__isnull=False) | ~Q(state="approved") & Q(policy__isnull=True),
                name="an_approved_proposal_made_a_policy",
            ),
            *TWO_PEOPLE,
        ]

    def __str__(self) -> str:
        return f"{self.currency} policy"


class HoldReason(models.TextChoices):
    """The reason for sending nothing. payouts/queries/hold_reasons.py says each in plain words, with its owner and its
    way out."""

    ONBOARDING_INCOMPLETE = "onboarding_incomplete"
    BANK_ACCOUNT_MISSING = "bank_account_missing"
    BANK_DETAILS_INCOMPLETE = "bank_details_incomplete"
    TRANSFERS_CAPABILITY_INACTIVE = "transfers_capability_inactive"
    PAYOUTS_DISABLED = "payouts_disabled"
    REQUIREMENTS_PAST_DUE = "requirements_past_due"
    STRIPE_UNDER_REVIEW = "stripe_under_review"
    SANCTIONS_LISTED = "sanctions_listed"
    REJECTED_BY_STRIPE = "rejected_by_stripe"
    ACCOUNT_DISCONNECTED = "account_disconnected"
    ACCOUNT_OUTDATED = "account_outdated"
    ACCOUNT_REPLACED = "account_replaced"
    BANK_DETAILS_CHANGED_RECENTLY = "bank_details_changed_recently"
    TAX_FORM_MISSING = "tax_form_missing"
    TAX_FORM_EXPIRED = "tax_form_expired"
    DISPUTE_OR_CLAIM = "dispute_or_claim"
    ATTRIBUTION_UNDER_REVIEW = "attribution_under_review"
    FRAUD_REVIEW = "fraud_review"
    NEGATIVE_BALANCE = "negative_balance"
    NEGATIVE_STRIPE_BALANCE = "negative_stripe_balance"
    COUNTRY_UNSUPPORTED = "country_unsupported"
    CURRENCY_UNSUPPORTED = "currency_unsupported"
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    REFUSED_BY_STRIPE = "refused_by_stripe"
    REFUSED_BY_BANK = "refused_by_bank"
    MANUAL_ADMIN = "manual_admin"
    CONTRIBUTOR_PAUSED = "contributor_paused"
    FIRST_PAYOUT_PROBATION = "first_payout_probation"


class Hold(models.Model):
    """A stop on a person, with a reason, an owner and an end. It never moves money."""

    contributor = models.ForeignKey("contributors.Contributor", on_delete=models.PROTECT, related_name="holds")
    payout = models.ForeignKey("payouts.Payout", on_delete=models.PROTECT, null=True, blank=True, related_name="holds")
    reason = models.CharField(max_length=32, choices=HoldReason.choices)
    # The words of the person that placed it, or of Stripe; shown to staff.
    note = models.CharField(max_length=500, blank=True)
    placed_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    placed_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    released_by = models.ForeignKey("people.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    released_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["contributor", "reason"],
                condition=Q(released_at__isnull=True),
                name="a_contributor_is_held_once_for_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(released_at__isnull=True) | Q(released_at__gte=F("placed_at")),
                name="a_hold_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason} on {self.contributor}"
