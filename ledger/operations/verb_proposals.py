"""Business verbs under four eyes: proposed by one person with their lines, posted when another approves them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django.db.models import Q

from contributors.models import Contributor, Work
from contributors.operations.deciding import acts_for
from ledger import journal
from ledger.journal import Draft
from ledger.models import VerbProposal
from ledger.operations import verbs
from ledger.operations.verbs import (
    CLAIM_CHECKERS,
    CLAIM_MAKERS,
    VERBS,
    Verb,
    draft_verb,
    post_draft,
    shortfall,
    verb_named,
)
from ledger.queries.account_words import entry_link
from ledger.queries.proposed_lines import contributors_in, lines_of, stored_lines
from people.models import User
from people.operations.proposals import UnableToDecide, propose
from people.queries.proposals import WITH_COMPLIANCE, Facts, ProposalKind

REFERENCE_CHARACTERS_MAX = 120
NOTE_CHARACTERS_MAX = 300
_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,59}")


class UnableToProposeVerb(Exception):
    """The facts do not make an entry, the reference is missing or used, or the person may not propose it."""

    status = 422
    problem = "transaction-invalid"


def propose_verb(*, verb: str, reference: str, by: User, at: datetime, note: str = "", **facts: Any) -> VerbProposal:
    """Draft a verb for another person to approve. `facts` are those of `Facts`, amounts in units of the currency.

    Raises UnableToProposeVerb, UnableToPostVerb, UnableToExchange, UnableToParseAmount and UnableToPost; no row is
    written then.
    """
    row = verb_named(verb)
    reference, note = reference.strip(), note.strip()
    _check_words(row, reference, note)
    known = verbs.Facts(**facts)
    if (row.amount.is_entered and known.amount <= 0) or any(units <= 0 for units in known.awards.values()):
        raise UnableToProposeVerb("An amount is above zero.")
    _check_parties(row, known)
    if (stored := journal.find(row.idem_key(reference, known))) is not None:
        raise UnableToProposeVerb(f"“{reference}” was posted already as entry {stored}; name another reference.")
    draft = draft_verb(row, reference, known)
    journal.check_lines(draft.lines)
    if refusal := shortfall(row, draft.lines):
        raise UnableToProposeVerb(refusal)
    proposal = VerbProposal(
        verb=row.key,
        kind=row.kind,
        reference=reference,
        note=note,
        idem_key=draft.idem_key,
        rule=draft.rule_version,
        lines=stored_lines(draft.lines),
        proposed_by=by,
        proposed_at=at,
    )
    return propose(CLAIM_KIND if row.approvers == CLAIM_CHECKERS else KIND, proposal)


def _post(proposal: VerbProposal, by: User, at: datetime) -> dict[str, Any]:
    """Post the lines. Raises UnableToDecide where the balances have changed, and UnableToPost (period-not-open,
    below-minimum).
    """
    row, lines = verb_named(proposal.verb), lines_of(proposal.lines)
    # The balances stand from here to the commit.
    journal.hold_still()
    if (stored := journal.find(proposal.idem_key)) is not None:
        raise UnableToDecide(f"“{proposal.reference}” was posted meanwhile as entry {stored}; reject this.")
    if refusal := shortfall(row, lines):
        raise UnableToDecide(f"{refusal} Reject this, or approve it later.")
    posted = post_draft(verb=row, draft=Draft(proposal.idem_key, lines, proposal.reference, proposal.rule), at=at)
    return {"entry_id": posted.entry_id}


def _facts(proposal: VerbProposal) -> Facts:
    verb = verb_named(proposal.verb)
    return [
        ("Use", verb.use),
        (verb.reference, proposal.reference),
        ("Rate and source", proposal.rule),
        ("Note", proposal.note),
        ("Entry", entry_link(proposal.entry_id)),
    ]


def _kind(key: str, heading: str, *, claims: bool, **more: Any) -> ProposalKind[VerbProposal]:
    keys = [verb.key for verb in VERBS.values() if (verb.approvers == CLAIM_CHECKERS) == claims]
    return ProposalKind(
        key=key,
        model=VerbProposal,
        where=Q(verb__in=keys),
        name="transaction",
        heading=heading,
        mail="A transaction waits for a second person",
        readers=WITH_COMPLIANCE,
        apply=_post,
        conflict=lambda row, by: acts_for(by=by, contributors=contributors_in(row.lines)),
        refusal=UnableToProposeVerb,
        unique="a_transaction_is_proposed_once",
        title=lambda row: f"{row.get_kind_display()}, {row.reference}",
        summary=lambda row: row.note or verb_named(row.verb).use,
        facts=_facts,
        template="ledger/partials/proposed_lines.html",
        effect="Exactly these lines are posted. A posted entry is never changed.",
        approved=lambda row: f"Approved, and posted as entry {row.entry_id}.",
        parent=("Transactions", "ledger:transactions"),
        subject=lambda row: f"{key}:{row.pk}",
        fields=("verb", "reference", "lines", "entry_id"),
        **more,
    )


KIND = _kind("transaction", "Transactions", claims=False)
CLAIM_KIND = _kind(
    "claim_transaction", "Transactions of holds and unclaimed money", claims=True, proposers=CLAIM_MAKERS,
    approvers=CLAIM_CHECKERS,
)  # fmt: skip


def _check_words(row: Verb, reference: str, note: str) -> None:
    if not 1 <= len(reference) <= REFERENCE_CHARACTERS_MAX or "\x00" in reference + note:
        raise UnableToProposeVerb(f"{row.reference}: give 1 to {REFERENCE_CHARACTERS_MAX} characters.")
    if "on_hold" in {row.debit, row.credit} and not _CASE.fullmatch(reference):
        raise UnableToProposeVerb("A dispute is named by up to 60 letters, digits, dots, dashes or slashes.")
    if "on_hold" in {row.debit, row.credit} and reference.startswith("split-"):
        raise UnableToProposeVerb("A disputed share is held by itself and decided on its own page, Ownership disputes.")
    if len(note) > NOTE_CHARACTERS_MAX:
        raise UnableToProposeVerb(f"A note has at most {NOTE_CHARACTERS_MAX} characters.")


def _check_parties(row: Verb, facts: verbs.Facts) -> None:
    """Refuse a contributor or work that does not exist, and a party that is missing."""
    named = [name for name in ("service", "contributor_id", "work_id", "jurisdiction", "tax_kind") if name in row.facts]
    # The jurisdiction of an invoice's tax is asked for, and may stay empty.
    if missing := [name for name in named if name not in row.asks and not getattr(facts, name)]:
        raise UnableToProposeVerb(f"{row.title}: say which {missing[0].removesuffix('_id').replace('_', ' ')}.")
    numbers = {*facts.awards, *([facts.contributor_id] if facts.contributor_id else [])}
    known = set(Contributor.objects.filter(pk__in=numbers).values_list("pk", flat=True))
    if unknown := sorted(numbers - known):
        raise UnableToProposeVerb(f"There is no contributor {unknown[0]}.")
    if facts.work_id and not Work.objects.filter(pk=facts.work_id).exists():
        raise UnableToProposeVerb(f"There is no work {facts.work_id}.")
