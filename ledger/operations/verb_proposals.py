"""Business verbs under four eyes: proposed by one person with their lines, posted when another approves them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django.db import transaction

from contributors.models import Contributor, Work
from contributors.operations.deciding import why_not_decide
from ledger import journal
from ledger.journal import AccountKey, Draft
from ledger.models import VerbProposal
from ledger.operations.proposals import decide, propose, reject, undecided
from ledger.operations.verbs import Facts, Verb, draft_verb, post_draft, shortfall, verb_named
from people.actor import lacks_role, logged
from people.models import User

REFERENCE_CHARACTERS_MAX = 120
NOTE_CHARACTERS_MAX = 300
_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,59}")


class UnableToProposeVerb(Exception):
    """The facts do not make an entry, the reference is missing or used, or the person may not propose it."""

    status = 422
    problem = "transaction-invalid"


class UnableToApproveVerb(Exception):
    """It is decided already, the balances have changed, or the person may not decide it."""

    status = 409
    problem = "transaction-not-approvable"


@logged("transaction", "verb", "reference", "lines", "state")
def propose_verb(*, verb: str, reference: str, by: User, at: datetime, note: str = "", **facts: Any) -> VerbProposal:
    """Draft a verb for another person to approve. `facts` are those of `Facts`, amounts in units of the currency.

    Raises UnableToProposeVerb, UnableToPostVerb, UnableToExchange, UnableToParseAmount and UnableToPost; no row is
    written then.
    """
    row = verb_named(verb)
    if refusal := lacks_role(by=by, roles=row.proposers):
        raise UnableToProposeVerb(refusal)
    reference, note = reference.strip(), note.strip()
    _check_words(row, reference, note)
    known = Facts(**facts)
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
        lines=[[key.kind, key.asset, key.owner, key.contract, amount] for key, amount in draft.lines],
        proposed_by=by,
        proposed_at=at,
    )
    return propose(proposal, "a_transaction_is_proposed_once", UnableToProposeVerb)


@logged("transaction", "verb", "reference", "lines", "entry_id", "state", before="proposed")
def approve_verb(*, proposal: VerbProposal, by: User, at: datetime) -> VerbProposal:
    """Post the lines that somebody else proposed.

    Raises UnableToApproveVerb, and UnableToPost (period-not-open, below-minimum); the proposal then stands as it was.
    """
    with transaction.atomic():
        fresh = undecided(proposal, UnableToApproveVerb)
        row = verb_named(fresh.verb)
        if fresh.proposed_by_id == by.pk:
            raise UnableToApproveVerb("You proposed this, so somebody else has to approve it.")
        lines = proposed_lines(fresh)
        if refusal := why_not_decide(by=by, roles=row.approvers, at=at, about=_contributors_of(fresh)):
            raise UnableToApproveVerb(refusal)
        # The balances stand from here to the commit.
        journal.hold_still()
        if (stored := journal.find(fresh.idem_key)) is not None:
            raise UnableToApproveVerb(f"“{fresh.reference}” was posted meanwhile as entry {stored}; reject this.")
        if refusal := shortfall(row, lines):
            raise UnableToApproveVerb(f"{refusal} Reject this, or approve it later.")
        posted = post_draft(verb=row, draft=Draft(fresh.idem_key, lines, fresh.reference, fresh.rule), at=at)
        return decide(
            fresh, VerbProposal.State.APPROVED, by=by, at=at, refusal=UnableToApproveVerb, entry_id=posted.entry_id
        )


@logged("transaction", "verb", "reference", "lines", "state", before="proposed")
def reject_verb(*, proposal: VerbProposal, by: User, at: datetime) -> VerbProposal:
    """Turn a proposal down; its proposer may withdraw it so. Raises UnableToApproveVerb where it is decided."""
    return reject(proposal, roles=verb_named(proposal.verb).proposers, by=by, at=at, refusal=UnableToApproveVerb)


def proposed_lines(proposal: VerbProposal) -> list[tuple[AccountKey, int]]:
    """Return the lines of a proposal, credit positive, in units."""
    return [(AccountKey(*key), amount) for *key, amount in proposal.lines]


def _contributors_of(proposal: VerbProposal) -> list[int]:
    owners = [key.owner for key, _ in proposed_lines(proposal)]
    return [int(owner.removeprefix("contributor:")) for owner in owners if owner.startswith("contributor:")]


def _check_words(row: Verb, reference: str, note: str) -> None:
    if not 1 <= len(reference) <= REFERENCE_CHARACTERS_MAX or "\x00" in reference + note:
        raise UnableToProposeVerb(f"{row.reference}: give 1 to {REFERENCE_CHARACTERS_MAX} characters.")
    if "on_hold" in {row.debit, row.credit} and not _CASE.fullmatch(reference):
        raise UnableToProposeVerb("A dispute is named by up to 60 letters, digits, dots, dashes or slashes.")
    if "on_hold" in {row.debit, row.credit} and reference.startswith("split-"):
        raise UnableToProposeVerb("A contested share is held by itself and decided on its own page, Contested shares.")
    if len(note) > NOTE_CHARACTERS_MAX:
        raise UnableToProposeVerb(f"A note has at most {NOTE_CHARACTERS_MAX} characters.")


def _check_parties(row: Verb, facts: Facts) -> None:
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
