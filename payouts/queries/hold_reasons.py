"""Reasons for not paying a contributor, in plain words: the owner of each, the roles that may release it, and the
contributor's remedy. One table; the operations obey it, and the portal, the console and the notices read it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from payouts.models.accounts import Hold, HoldReason
from people.models import User


class Owner(enum.StrEnum):
    CONTRIBUTOR = "contributor"
    STRIPE = "Stripe"
    FINANCE = "finance"
    COMPLIANCE = "compliance"


class Release(enum.StrEnum):
    """The right to end a hold by hand. Nobody releases a hold that would be placed again at the next look: its reason
    must go."""

    NOBODY = "nobody: it ends by itself"
    CONTRIBUTOR = "the contributor; compliance with a reason"
    FINANCE = "a finance checker, compliance or an administrator"
    COMPLIANCE = "compliance"


# The staff roles behind each. A contributor's own pause is lifted in the portal, by a manager of the contributor.
ROLES: dict[Release, tuple[str, ...]] = {
    Release.NOBODY: (),
    Release.CONTRIBUTOR: ("compliance",),
    Release.FINANCE: ("finance_checker", "compliance", "admin"),
    Release.COMPLIANCE: ("compliance",),
}


@dataclass(frozen=True)
class HoldRule:
    """`automatic`: information from Stripe, a bank, a form or the ledger places and releases it. `release`: the right
    to end it by hand all the same."""

    owner: Owner
    automatic: bool
    release: Release
    words: str
    remedy: str


R = HoldReason
RULES: dict[HoldReason, HoldRule] = {
    R.ONBOARDING_INCOMPLETE: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY, "Your payout details are not complete.",
        "Finish your payout details with Stripe; the button is on the Payouts page.",
    ),
    R.BANK_ACCOUNT_MISSING: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY, "We have no bank account of yours to pay to.",
        "Name your bank account; the button is on the Payouts page.",
    ),
    R.BANK_DETAILS_INCOMPLETE: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY, "A bank would refuse our payment: your bank details lack something.",
        "Name your bank account once more; its page, from the Payouts page, asks for the missing part.",
    ),
    R.TRANSFERS_CAPABILITY_INACTIVE: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY, "Stripe cannot receive money for you yet.",
        "Open your payout details and answer Stripe's open questions.",
    ),
    R.PAYOUTS_DISABLED: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY, "Stripe cannot pay your bank account at the moment.",
        "Open your payout details and check your bank account.",
    ),
    R.REQUIREMENTS_PAST_DUE: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY, "Stripe asked for something about you and the date for it has passed.",
        "Open your payout details and answer Stripe's questions.",
    ),
    R.STRIPE_UNDER_REVIEW: HoldRule(
        Owner.STRIPE, True, Release.NOBODY, "Stripe is reviewing your answers.",
        "Nothing to do: this usually takes a few days. Your money stays yours.",
    ),
    R.SANCTIONS_LISTED: HoldRule(
        Owner.COMPLIANCE, False, Release.COMPLIANCE,
        "We are legally required to check something before we can pay you.",
        "Nothing to do now: we write to you when the check is done.",
    ),
    R.REJECTED_BY_STRIPE: HoldRule(
        Owner.COMPLIANCE, False, Release.COMPLIANCE, "Stripe decided not to make payments to your account.",
        "Write to us: we can look at another way of paying you.",
    ),
    R.ACCOUNT_DISCONNECTED: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY, "Your Stripe account is no longer connected to us.",
        "Set up your payouts again on the Payouts page: we read the old account once more, and open a new one where "
        "it stays closed.",
    ),
    R.ACCOUNT_OUTDATED: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY,
        "Your Stripe account is of another country, or of another kind, than you are now.",
        "Set up your payouts again on the Payouts page: Stripe can change neither of an account.",
    ),
    R.ACCOUNT_REPLACED: HoldRule(
        Owner.FINANCE, True, Release.FINANCE, "You have another account at Stripe since this payout was prepared.",
        "Nothing to do: the next run pays it to your new account.",
    ),
    R.BANK_DETAILS_CHANGED_RECENTLY: HoldRule(
        Owner.FINANCE, True, Release.NOBODY, "Your bank details changed a short while ago.",
        "Nothing to do if it was you: we wait a few days. If it was not you, write to us at once.",
    ),
    R.TAX_FORM_MISSING: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY,
        "We have no tax form from you.", "Send us the tax form (W-9 or W-8BEN)."
    ),
    R.TAX_FORM_EXPIRED: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY, "Your tax form has expired.", "Send us a new tax form (W-9 or W-8BEN)."
    ),
    R.DISPUTE_OR_CLAIM: HoldRule(
        Owner.FINANCE, False, Release.FINANCE, "Somebody disputes the authorship of some of the works.",
        "We look at both sides and write to you; you can send us evidence that the works are yours.",
    ),
    R.ATTRIBUTION_UNDER_REVIEW: HoldRule(
        Owner.FINANCE, False, Release.FINANCE, "We are checking how your share was computed.",
        "Nothing to do: the receipts show the shares as they stand.",
    ),
    R.FRAUD_REVIEW: HoldRule(
        Owner.COMPLIANCE, False, Release.COMPLIANCE,
        "We are checking this account before we pay it.", "Write to us if you have questions."
    ),
    R.NEGATIVE_BALANCE: HoldRule(
        Owner.FINANCE, True, Release.FINANCE, "A correction left less on your account than this payout needs.",
        "Nothing to do: your next earnings are set against it.",
    ),
    R.NEGATIVE_STRIPE_BALANCE: HoldRule(
        Owner.STRIPE, True, Release.NOBODY,
        "Your balance at Stripe is below zero, so a payout would not reach your bank.",
        "Look at your Stripe dashboard; it shows the debit.",
    ),
    R.COUNTRY_UNSUPPORTED: HoldRule(
        Owner.FINANCE, True, Release.FINANCE, "We have no way yet of paying to your country.",
        "Your earnings stay yours and wait. Name an account of yours in another country on the Payouts page, and we "
        "can pay that; or write to us.",
    ),
    R.CURRENCY_UNSUPPORTED: HoldRule(
        Owner.FINANCE, True, Release.FINANCE, "Your account cannot receive the currency that you earn in.",
        "Add a bank account that takes it, or write to us.",
    ),
    R.AMOUNT_OUT_OF_RANGE: HoldRule(
        Owner.FINANCE, False, Release.FINANCE,
        "Stripe does not take a payment of this size.", "Nothing to do: we are looking at it."
    ),
    R.REFUSED_BY_STRIPE: HoldRule(
        Owner.FINANCE, False, Release.FINANCE, "Stripe refused the payment.", "Nothing to do: we are finding out why."
    ),
    R.REFUSED_BY_BANK: HoldRule(
        Owner.CONTRIBUTOR, True, Release.NOBODY, "Your bank sent our payment back.",
        "Check the bank account on the page of payouts and name the right one. The next run pays to it.",
    ),
    R.MANUAL_ADMIN: HoldRule(
        Owner.FINANCE, False, Release.FINANCE,
        "We stopped payments to you for now.", "Write to us if you have questions."
    ),
    R.CONTRIBUTOR_PAUSED: HoldRule(
        Owner.CONTRIBUTOR, False, Release.CONTRIBUTOR, "You paused your payouts.",
        "Resume them on the page of payouts whenever you like. Your earnings are kept for you.",
    ),
    R.FIRST_PAYOUT_PROBATION: HoldRule(
        Owner.FINANCE, True, Release.NOBODY,
        "Your first payout waits a few days.", "Nothing to do: it is paid in a later run."
    ),
}  # fmt: skip

# The reasons that a person may place by hand. The others come and go with the word of Stripe, a bank, a form or the
# ledger, and a contributor pauses for itself.
PLACED_BY_PEOPLE = frozenset(
    {R.SANCTIONS_LISTED, R.DISPUTE_OR_CLAIM, R.ATTRIBUTION_UNDER_REVIEW, R.FRAUD_REVIEW, R.MANUAL_ADMIN}
)

# Stripe's requirements.disabled_reason -> our reason. The longest prefix counts.
DISABLED_REASONS: dict[str, HoldReason] = {
    "requirements.past_due": R.REQUIREMENTS_PAST_DUE,
    "requirements.pending_verification": R.STRIPE_UNDER_REVIEW,
    "under_review": R.STRIPE_UNDER_REVIEW,
    "listed": R.SANCTIONS_LISTED,
    "rejected.listed": R.SANCTIONS_LISTED,
    "rejected": R.REJECTED_BY_STRIPE,
    "platform_paused": R.MANUAL_ADMIN,
    "action_required": R.TRANSFERS_CAPABILITY_INACTIVE,
    "other": R.STRIPE_UNDER_REVIEW,
}


def reason_of_disabling(disabled_reason: str) -> HoldReason | None:
    """Our hold for Stripe's `disabled_reason`; None where there is none. An unknown one is a review, never nothing."""
    if not disabled_reason:
        return None
    for prefix in sorted(DISABLED_REASONS, key=len, reverse=True):
        if disabled_reason == prefix or disabled_reason.startswith(prefix + "."):
            return DISABLED_REASONS[prefix]
    return R.STRIPE_UNDER_REVIEW


def why_not_release(hold: Hold, by: User) -> str:
    """Tell a member of staff why they cannot end this hold by hand; "" for somebody with the right to."""
    rule = RULES[HoldReason(hold.reason)]
    if hold.released_at is not None:
        return "The hold has ended already."
    if rule.release == Release.NOBODY:
        return f"This hold ends by itself, when its reason is gone. The contributor was told: {rule.remedy}"
    if by.has_role(*ROLES[rule.release]):
        return ""
    if rule.release == Release.CONTRIBUTOR:
        return "The contributor asked for this. Only the contributor lifts it, or compliance with a reason."
    return f"This hold is released by {rule.release}."
