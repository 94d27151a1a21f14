"""The objects of the audit log's lines: the name and the page of each kind of subject."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import NoReverseMatch, reverse

# Kind -> (name, name of its page, keyword of the page's address). Without a keyword the page lists all of the kind.
SUBJECTS: dict[str, tuple[str, str, str]] = {
    "advance": ("Advance", "ledger:advance", "advance_id"),
    "contest": ("Ownership dispute", "ledger:contest", "dispute_id"),
    "contract": ("Contract", "ledger:contract", "contract_id"),
    "contributor": ("Contributor", "payouts:payees", ""),
    "difference": ("Difference", "payouts:reconciliation", ""),
    "dispute": ("Dispute", "ledger:answer_dispute", "dispute_id"),
    "event": ("Webhook event", "payouts:inbox", ""),
    "generation": ("Generation", "ledger:generation_page", "generation_id"),
    "hold": ("Hold", "payouts:holds", ""),
    "invitation": ("Invitation", "people:staff", ""),
    "link": ("Linked accounts", "payouts:links", ""),
    "manual_entry": ("Manual entry", "ledger:manual_entry", "manual_id"),
    "model_version": ("Model version", "attribution:model_version", "public_id"),
    "payout": ("Payout", "payouts:runs", ""),
    "period": ("Period", "ledger:period", "code"),
    "plan": ("Royalty plan", "ledger:plan", "plan_id"),
    "policy": ("Payout policy", "payouts:policies", ""),
    "restatement": ("Restatement", "ledger:restatements", ""),
    "programme": ("Programme", "people:programme", ""),
    "reversal": ("Reversal", "payouts:runs", ""),
    "run": ("Payout run", "payouts:run", "public_id"),
    "service": ("Model service", "attribution:service", "public_id"),
    "tax_form": ("Tax form", "payouts:payees", ""),
    "top_up": ("Top-up", "payouts:funding", ""),
    "transaction": ("Transaction", "ledger:transaction", "proposal_id"),
    "user": ("Person", "people:staff", ""),
    "withholding_rate": ("Withholding rate", "ledger:withholding", ""),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """`url` is empty for a kind without a page."""

    name: str
    url: str


def subject_of(text: str) -> Subject:
    """Name the object of `kind:key`, and find its page."""
    kind, _, key = text.partition(":")
    name, page, keyword = SUBJECTS.get(kind, (kind.replace("_", " ").capitalize(), "", ""))
    try:
        url = reverse(page, kwargs={keyword: key} if keyword else None) if page else ""
    except NoReverseMatch:
        url = ""
    return Subject(f"{name} {key}", url)
