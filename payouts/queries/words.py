"""Words for finance and contributors in place of a state's name, a hold's code or Stripe's name of a field.

One table a vocabulary, so that the portal, the console, the CSV and the remittance say the same thing. Nothing here
decides anything: a name that is not in a table is shown as it is, in words, never swallowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from people.presentation import codes


@dataclass(frozen=True)
class Said:
    """A short label, a sentence that explains it, and the tone of its badge: good, warn, bad, info or neutral."""

    label: str
    sentence: str
    tone: str = "neutral"


RUN_STATES = {
    "draft": Said("Draft", "Not calculated yet. Nobody can approve it.", "neutral"),
    "calculating": Said("Calculating", "Payouts are being worked out from the ledger.", "info"),
    "set_aside": Said("Set aside", "Split off from another run; waits to be taken up by itself.", "neutral"),
    "in_review": Said("In review", "Frozen. Waits for somebody other than its maker to approve it.", "warn"),
    "approved": Said("Approved", "Approved by a second person. Nothing has been sent yet.", "info"),
    "executing": Said("Executing", "Transfers are being sent to Stripe.", "info"),
    "paused": Said("Paused", "No new transfer is sent. Payouts under way are followed to their end.", "warn"),
    "reconciled": Said("Reconciled", "Every transfer was matched to Stripe and to the ledger.", "good"),
    "closed": Said("Closed", "Nothing about this run can change any more.", "good"),
    "rejected": Said("Rejected", "The approver sent it back with a reason. A new version can be built.", "bad"),
    "cancelled": Said("Cancelled", "Stopped before anything was sent. Everything stayed payable.", "neutral"),
}

PAYOUT_STATES = {
    "ready": Said("Ready", "Calculated; the run waits for approval.", "neutral"),
    "approved": Said("Approved", "Approved; the transfer has not been sent yet.", "info"),
    "sending": Said("Sending", "Handed to Stripe or ordered from the bank; the answer is not stored yet.", "info"),
    "unknown": Said("Unknown", "Stripe's answer was lost. It is looked up before anything is sent again.", "warn"),
    "refused": Said("Refused", "The transfer was refused. The money is payable again.", "bad"),
    "held": Said("Held", "Stopped by a hold. The money stays owed.", "warn"),
    "transferred": Said("Transferred", "In the contributor's Stripe balance, on its way to the bank.", "good"),
    "settled": Said("Arrived", "Reported as paid to the bank.", "good"),
    "bank_failed": Said("Bank refused", "The bank sent it back to the contributor's Stripe balance.", "bad"),
    "reversed": Said("Reversed", "The whole transfer was reversed, or the bank returned it.", "bad"),
    "partially_reversed": Said("Partly reversed", "Part of the transfer was reversed.", "warn"),
}

# The same states in words for the payee.
PAYOUT_STATES_TO_PAYEE = {
    "ready": Said("In a run", "In a payout run that waits for approval.", "info"),
    "approved": Said("Approved", "Approved. The transfer is about to be sent.", "info"),
    "sending": Said("On its way", "Handed over; the answer is awaited.", "info"),
    "unknown": Said(
        "Being checked",
        "Stripe's answer was lost. We look it up before we send anything again.",
        "warn",
    ),
    "refused": Said("Refused", "Stripe refused it. The money is payable again and goes into the next run.", "bad"),
    "held": Said("Held", "Stopped by a hold; the reason stands above. The money stays yours.", "warn"),
    "transferred": Said(
        "On its way to your bank", "In your Stripe balance; Stripe pays it to your bank by itself.", "good"
    ),
    "settled": Said("Arrived", "Reported as paid to your bank.", "good"),
    "bank_failed": Said(
        "Your bank refused it", "The money is back in your Stripe balance. Check your bank details.", "bad"
    ),
    "reversed": Said("Came back", "The whole transfer was reversed, or your bank returned it.", "bad"),
    "partially_reversed": Said("Partly reversed", "Part of the transfer was reversed.", "warn"),
}

ATTEMPT_STATES = {
    "sent": Said("Sent", "Written down before it was sent; no answer is stored yet.", "info"),
    "succeeded": Said("Succeeded", "Stripe made the transfer.", "good"),
    "refused": Said("Refused", "Stripe answered that it did not make the transfer.", "bad"),
    "unknown": Said("Unknown", "No usable answer came. Looked up before anything else is sent.", "warn"),
    "void": Said("Void", "Proven never to have moved money. A later attempt may follow.", "neutral"),
}

PAUSES = {
    "person": "Somebody paused it.",
    "balance_insufficient": "The Stripe balance was too low for the next transfer. Top it up, then resume.",
    "stripe_refuses_our_key": "Stripe refuses our key. Nothing is retried until the key is right.",
    "stripe_refused_for_risk": "Stripe refused a transfer for risk. Compliance looks at it before anything resumes.",
    "a_key_was_used_for_another_request": "A request differed from its record made before sending.",
    "more_than_one_transfer_for_a_payout": "Stripe shows more than one transfer for a payout. Nothing more is sent.",
    "a_payout_differs_from_what_was_approved": "The rows no longer give the hash that was approved.",
}

LEFT_OUT = {
    "below_threshold": Said("Below the threshold", "Carried over until it reaches the threshold.", "neutral"),
    "immature": Said("Not matured", "Earned too recently; it matures later.", "neutral"),
    "held": Said("On hold", "A hold stops it.", "warn"),
    "not_onboarded": Said("No payout account", "There is no account to pay it to yet.", "warn"),
    "negative_balance": Said("Negative balance", "Nothing is owed at the moment.", "neutral"),
    "below_payable_unit": Said(
        "Below the payable minimum", "Less than the smallest amount that can be sent.", "neutral"
    ),
    "live_elsewhere": Said("In another run", "Another payout to the same person is under way.", "info"),
    "other_rail": Said("Other rail", "Paid by the other rail, in a run of its own.", "neutral"),
    "excluded": Said("Excluded", "Taken out of this run by a person.", "warn"),
}

DIFFERENCES = {
    "missing_local": Said("Unknown to us", "Stripe shows a movement that none of our attempts explains.", "bad"),
    "missing_remote": Said("Missing at Stripe", "We booked a transfer that Stripe does not show.", "bad"),
    "amount": Said("Amount differs", "Ours and Stripe's are not the same.", "bad"),
    "currency": Said("Currency differs", "Ours and Stripe's are not the same.", "bad"),
    "destination": Said("Destination differs", "It went to an account that was not approved.", "bad"),
    "duplicate_group": Said("Paid more than once", "More than one transfer carries the mark of one payout.", "bad"),
    "unexpected_reversal": Said("Unexpected reversal", "Money came back that nobody here asked for.", "warn"),
    "fee": Said("Fee", "Stripe kept a fee that the ledger does not have.", "warn"),
    "unknown_type": Said("Unknown movement", "A kind of movement that the comparison does not know.", "warn"),
    "ledger_balance": Said("Balances differ", "The ledger's Stripe balance is not Stripe's own.", "bad"),
    "in_transit": Said("In transit differs", "The ledger's money in transit is not that of the live payouts.", "bad"),
}

DIFFERENCE_STATES = {
    "open": Said("Open", "Not explained yet.", "bad"),
    "resolved": Said("Gone", "A later comparison no longer found it.", "good"),
    "signed_off": Said("Signed off", "Explained by a person.", "info"),
}

WEBHOOK_STATES = {
    "received": Said("Received", "Signed by Stripe and stored; not applied yet.", "info"),
    "retrying": Said("Retrying", "The object was not known yet; it is tried again.", "warn"),
    "applied": Said("Applied", "The object was fetched again and its state was taken over.", "good"),
    "ignored": Said("Ignored", "Says nothing that matters here.", "neutral"),
    "dead": Said("Dead letter", "Every try failed, over four days. The reason stands beside it.", "bad"),
}

# Stripe's name of a field -> a person's name for it. The longest prefix wins.
_REQUIREMENTS = {
    "individual.dob": "your date of birth",
    "individual.first_name": "your name",
    "individual.last_name": "your name",
    "individual.address": "your address",
    "individual.email": "your e-mail address",
    "individual.phone": "your phone number",
    "individual.id_number": "your tax or identity number",
    "individual.ssn_last_4": "the last four digits of your social security number",
    "individual.verification.document": "a photograph of an identity document",
    "individual.verification.additional_document": "a document that shows your address",
    "individual.nationality": "your nationality",
    "individual.political_exposure": "whether you hold a public office",
    "individual": "some details about you",
    "company.name": "your organisation's registered name",
    "company.address": "your organisation's address",
    "company.tax_id": "your organisation's tax number",
    "company.phone": "your organisation's phone number",
    "company.verification.document": "a document that shows your organisation's registration",
    "company.owners_provided": "the owners of your organisation",
    "company.directors_provided": "the directors of your organisation",
    "company": "some details about your organisation",
    "representative.dob": "the date of birth of your organisation's representative",
    "representative": "details about your organisation's representative",
    "owners": "details about the owners of your organisation",
    "directors": "details about the directors of your organisation",
    "person_": "details about a person in your organisation",
    "external_account": "a bank account to pay to",
    "tos_acceptance": "your agreement to Stripe's terms",
    "business_type": "whether you are a person or an organisation",
    "business_profile": "what you do",
    "settings": "how payments to you should be labelled",
    "interv_": "an answer to a question that Stripe sent you",
}


def requirement(key: str) -> str:
    """Stripe's requirement as a person would say it: `individual.dob.day` is "your date of birth"."""
    for prefix in sorted(_REQUIREMENTS, key=len, reverse=True):
        if key.startswith(prefix):
            return _REQUIREMENTS[prefix]
    return codes.spaced(key)


def requirements(keys: Iterable[str]) -> list[str]:
    """Each thing that is asked for, once, in the order in which Stripe asked."""
    return list(dict.fromkeys(requirement(key) for key in keys))


def listed(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def said(table: dict[str, Said], name: str) -> Said:
    return table.get(name) or Said(codes.spaced(name).capitalize(), "", "neutral")
