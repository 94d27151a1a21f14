"""Notices to people, by kind: the subject of its mail, the recipients, and whether it may be switched off.

One table; the mail, the portal's list and its settings read it. A kind that is not here is shown and never mailed.
"""

from __future__ import annotations

from dataclasses import dataclass

from payouts.queries import attention

FINANCE = ("finance_maker", "finance_checker", "admin")


@dataclass(frozen=True)
class Kind:
    """`roles` empty: it goes to the contributor's owners and managers. `page` is where something can be done."""

    subject: str
    label: str
    page: str
    # A stop of somebody's money, or something that only this person can mend, is never switched off.
    essential: bool = False
    roles: tuple[str, ...] = ()


PAYOUTS, TASK, LINKS = "/portal/payouts/", "/portal/payouts/#holds", "/portal/splits/#one"
KINDS: dict[str, Kind] = {
    "payout_transferred": Kind("A payment is on its way", "A payment was sent", PAYOUTS),
    "payout_settled": Kind("A payment arrived", "A payment arrived at your bank", PAYOUTS),
    "payout_bank_failed": Kind("Your bank sent a payment back", "Your bank refused a payment", PAYOUTS, essential=True),
    "payout_held": Kind("A payment was not sent", "A payment was stopped", TASK, essential=True),
    "payout_reversed": Kind("A payment was reversed", "A payment was reversed", PAYOUTS, essential=True),
    "hold_placed": Kind("Payments to you are on hold", "Payments are put on hold", TASK, essential=True),
    "hold_released": Kind("Payments resumed", "A hold has ended", PAYOUTS),
    "bank_details_named": Kind(
        "Your bank details were named or changed", "Your bank details were named or changed", PAYOUTS, essential=True
    ),
    "month_sealed": Kind("Your statement is final", "A month is sealed, its statement final", "/portal/statements/"),
    "carried_over": Kind("Your royalties are carried over", "An amount is carried over to a later run", PAYOUTS),
    "onboarding_needed": Kind("Tell us where to pay you", "Payout details are needed", PAYOUTS),
    "set_up_again": Kind(
        "Set up your payouts again", "Your account at Stripe has to be replaced", PAYOUTS, essential=True
    ),
    "stripe_deadline": Kind(
        "Stripe asks for something before it stops your payouts",
        "Stripe is about to stop payouts",
        TASK,
        essential=True,
    ),
    "tax_form_expiring": Kind("Your tax form expires", "A tax form runs out", PAYOUTS, essential=True),
    "accounts_linked": Kind(
        "Your accounts have the same beneficial owner",
        "Accounts are found to have the same beneficial owner",
        LINKS,
        essential=True,
    ),
    "accounts_unlinked": Kind(
        "Your accounts have separate owners again", "Accounts have separate owners again", LINKS, essential=True
    ),
    "details_requested": Kind(
        "A change of your details was asked for",
        "A change of the name, country or currency was asked for",
        "/portal/people/",
        essential=True,
    ),
    "details_changed": Kind(
        "Your details have changed", "The name, country or currency has changed", "/portal/people/", essential=True
    ),
    "details_rejected": Kind(
        "A change of your details was rejected",
        "A change of the name, country or currency was rejected",
        "/portal/people/",
        essential=True,
    ),
    "staff_changed": Kind("Roles or log-ins of staff changed", "", "/console/audit/", roles=("admin",)),
    "top_up_reversed": Kind("The bank took a top-up back", "", "/console/funding/", roles=FINANCE),
}
# Each kind of open work is mailed to the staff that act on it.
KINDS |= {kind.name: Kind(kind.mail, "", "/console/attention/", roles=kind.roles) for kind in attention.KINDS}
# The kinds that a contributor may switch off as mail.
OPTIONAL = {name: kind for name, kind in KINDS.items() if not kind.roles and not kind.essential}
