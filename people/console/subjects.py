"""The objects of the audit log's lines: the name and the page of each kind of subject.

Where an address needs more than the key of a subject, its app registers a finder. It reads many addresses at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from django.urls import NoReverseMatch, reverse

from people.queries.proposals import kind_named

# Kind -> (name, name of its page, keyword of the page's address). "#": a place on the page that lists all of the kind;
# "": the page is about the only one. Without a page, a registered finder or a kind of proposal gives the address.
SUBJECTS: dict[str, tuple[str, str, str]] = {
    "advance": ("Advance", "ledger:advance", "advance_id"),
    "contest": ("Ownership dispute", "ledger:contest", "dispute_id"),
    "contract": ("Contract", "ledger:contract", "contract_id"),
    "contributor": ("Contributor", "", ""),
    "difference": ("Difference", "payouts:sign_off", "public_id"),
    "dispute": ("Dispute", "ledger:answer_dispute", "dispute_id"),
    "event": ("Webhook event", "", ""),
    "generation": ("Generation", "ledger:generation_page", "generation_id"),
    "invitation": ("Invitation", "people:staff", "#"),
    "link": ("Linked accounts", "", ""),
    "model_version": ("Model version", "attribution:model_version", "public_id"),
    "payout": ("Payout", "", ""),
    "period": ("Period", "ledger:period", "code"),
    "plan": ("Royalty plan", "ledger:plan", "plan_id"),
    "policy": ("Payout policy", "payouts:policies", "#"),
    "programme": ("Programme", "people:programme", ""),
    "run": ("Payout run", "payouts:run", "public_id"),
    "service": ("Model service", "attribution:service", "public_id"),
    "top_up": ("Top-up", "payouts:funding", "#"),
    "user": ("Person", "people:staff", "#"),
}
Finder = Callable[[Collection[str]], Mapping[str, str]]
_FINDERS: dict[str, Finder] = {}


@dataclass(frozen=True, slots=True)
class Subject:
    """`url` is empty for a kind without a page."""

    name: str
    url: str


def register(finders: Mapping[str, Finder]) -> None:
    """Add finders by kind: each maps keys to addresses. An app calls this when it is ready."""
    _FINDERS.update(finders)


def subjects_of(texts: Sequence[str]) -> list[Subject]:
    """Name the object of each `kind:key`, and find its page; one query for each kind with a finder."""
    parts = [text.split(":")[:2] if ":" in text else [text, ""] for text in texts]
    found = {
        kind: finder({key for name, key in parts if name == kind})
        for kind, finder in _FINDERS.items()
        if any(name == kind for name, _ in parts)
    }
    subjects = []
    for text, (kind, key) in zip(texts, parts, strict=True):
        proposed = kind_named(kind)
        name = SUBJECTS[kind][0] if kind in SUBJECTS else (proposed.name if proposed else kind.replace("_", " "))
        url = found[kind].get(key, "") if kind in found else _address(kind, key)
        subjects.append(Subject(f"{name[:1].upper()}{name[1:]} {text.partition(':')[2]}", url))
    return subjects


def _address(kind: str, key: str) -> str:
    _, page, keyword = SUBJECTS.get(kind, ("", "", ""))
    try:
        if not page and kind_named(kind) is not None:
            return reverse("people:proposal", args=[kind, key])
        if keyword == "#":
            return f"{reverse(page)}#{kind}-{key}"
        return reverse(page, kwargs={keyword: key} if keyword else None) if page else ""
    except NoReverseMatch:
        return ""
