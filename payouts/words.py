"""What finance and contributors read in place of a state's name, a hold's code or Stripe's name of a field.

One table a vocabulary, so that the portal, the console, the CSV and the remittance say the same thing. Nothing here
decides anything: a name that is not in a table is shown as it is, in words, never swallowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """A short label, a sentence that explains it, and the tone of its badge: good, warn, bad, info or quiet."""

    label: str
    sentence: str
    tone: str = "quiet"


RUN_STATES = {
    "draft": Said("Draft", "Not calculated yet. Nobody can approve it.", "quiet"),
    "calculating": Said("Calculating", "Payouts are being worked out from the ledger.", "info"),
    "in_review": Said("In review", "Frozen. Waits for somebody other than its maker to approve it.", "warn"),
    "approved": Said("Approved", "Approved by a second person. Nothing has been sent yet.", "info"),
    "executing": Said("Executing", "Transfers are being sent to Stripe.", "info"),
    "paused": Said("Paused", "No new transfer is sent. What is under way is followed to its end.", "warn"),
    "reconciled": Said("Reconciled", "Every transfer was matched to Stripe and to the ledger.", "good"),
    "closed": Said("Closed", "Nothing about this run can change any more.", "good"),
    "rejected": Said("Rejected", "The approver sent it back with a reason. A new version can be built.", "bad"),
    "cancelled": Said("Cancelled", "Stopped before anything was sent. Everything stayed payable.", "quiet"),
}

PAYOUT_STATES = {
    "ready": Said("Ready", "Calculated; the run waits for approval.", "quiet"),
    "approved": Said("Approved", "Approved; the transfer has not been sent yet.", "info"),
    "sending": Said("Sending", "The transfer has been handed to Stripe; its answer is not stored yet.", "info"),
    "unknown": Said("Unknown", "Stripe's answer was lost. It is looked up before anything is sent again.", "warn"),
    "refused": Said("Refused", "Stripe refused the transfer. The money is payable again.", "bad"),
    "held": Said("Held", "Stopped by a hold. The money stays owed.", "warn"),
    "transferred": Said("Transferred", "In the contributor's Stripe balance, on its way to the bank.", "good"),
    "settled": Said("Arrived", "Stripe reports that it was paid to the bank.", "good"),
    "bank_failed": Said("Bank refused", "The bank sent it back to the contributor's Stripe balance.", "bad"),
    "reversed": Said("Reversed", "The whole transfer was taken back.", "bad"),
    "partially_reversed": Said("Partly reversed", "Part of the transfer was taken back.", "warn"),
    "cancelled": Said("Cancelled", "The run was cancelled before this was sent. The money stayed payable.", "quiet"),
}

# The same states as the person who is paid reads them.
PAYOUT_STATES_TO_PAYEE = {
    "ready": Said("In a run", "In a payout run that waits for approval.", "info"),
    "approved": Said("Approved", "Approved. The transfer is about to be sent.", "info"),
    "sending": Said("On its way", "Handed to Stripe a moment ago.", "info"),
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
    "settled": Said("Arrived", "Stripe reports that it reached your bank.", "good"),
    "bank_failed": Said(
        "Your bank refused it", "The money is back in your Stripe balance. Check your bank details.", "bad"
    ),
    "reversed": Said("Taken back", "The whole transfer was taken back.", "bad"),
    "partially_reversed": Said("Partly taken back", "Part of the transfer was taken back.", "warn"),
    "cancelled": Said("Cancelled", "The run was cancelled before this was sent. The money stayed payable.", "quiet"),
}

ATTEMPT_STATES = {
    "sent": Said("Sent", "Written down before it was sent; no answer is stored yet.", "info"),
    "succeeded": Said("Succeeded", "Stripe made the transfer.", "good"),
    "refused": Said("Refused", "Stripe answered that it did not make the transfer.", "bad"),
    "unknown": Said("Unknown", "No usable answer came. Looked up before anything else is sent.", "warn"),
    "void": Said("Void", "Proven never to have moved money. A later attempt may follow.", "quiet"),
}

# What Stripe calls a field -> what a person calls it. The longest prefix wins.
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
    "company.owners_provided": "who owns your organisation",
    "company.directors_provided": "who directs your organisation",
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
    return spaced(key)


def requirements(keys: Iterable[str]) -> list[str]:
    """Each thing that is asked for, once, in the order in which Stripe asked."""
    return list(dict.fromkeys(requirement(key) for key in keys))


def spaced(name: str) -> str:
    """A code such as `past_due.tax-form` in readable words, for a name that no table knows."""
    return re.sub(r"[._\-]+", " ", name).strip().lower()


def listed(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def said(table: dict[str, Said], name: str) -> Said:
    return table.get(name) or Said(spaced(name).capitalize(), "", "quiet")
