"""Manual entries: proposed by one person of finance with a reason, posted by another. They never touch accounts that
belong to an operation: its documents would no longer explain them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from contributors.operations.deciding import why_not_decide
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import EntryKind, ManualEntry
from ledger.money import UNITS_MAX
from ledger.operations.periods import dated
from ledger.operations.proposals import decide, propose, reject, undecided
from people.actor import lacks_role, logged
from people.models import User

LINES_MAX = 20
PROPOSERS = ("finance_maker", "finance_checker")
POSTERS = ("finance_checker",)
# The database refuses these too (sql/manual.sql). Each is the sum of documents, or moves only with a state elsewhere.
OPERATIONS_ONLY = frozenset(
    {
        "contributor_accrued",
        "royalty_pool",
        "floor_pool",
        "advance",
        "reserve_held",
        "on_hold",
        "unclaimed",
        "payouts_in_transit",
        "fx_clearing",
    }
)
BY_HAND = tuple(kind for kind in journal.CHART if kind not in OPERATIONS_ONLY)


class UnableToProposeManualEntry(Exception):
    """The lines do not make an entry, the reason or the reference is missing, or an equal proposal waits."""

    status = 422
    problem = "manual-entry-invalid"


class UnableToPostManualEntry(Exception):
    """It is decided already, or the person may not decide it."""

    status = 409
    problem = "manual-entry-not-postable"


@logged("manual_entry", "lines", "reason", "reference", "state")
def propose_manual_entry(
    *, lines: Sequence[tuple[AccountKey, int]], reason: str, reference: str, by: User, at: datetime
) -> ManualEntry:
    """Write down an entry for somebody else to post. `lines` as in journal.post: credit positive, in units.

    Raises UnableToProposeManualEntry, and UnableToPost for lines that no entry can have; no row is written.
    """
    reason, reference = reason.strip(), reference.strip()
    if refusal := lacks_role(by=by, roles=PROPOSERS):
        raise UnableToProposeManualEntry(refusal)
    if not reason or len(reason) > 300:
        raise UnableToProposeManualEntry("Say in 1 to 300 characters why this is posted by hand.")
    if not reference or len(reference) > 200:
        raise UnableToProposeManualEntry("Name the evidence, such as a letter or the bank's reference.")
    if len(lines) > LINES_MAX:
        raise UnableToProposeManualEntry(f"A manual entry has at most {LINES_MAX} lines, not {len(lines)}.")
    if len({key for key, _ in lines}) != len(lines):
        raise UnableToProposeManualEntry("An account stands in two lines; make one of them.")
    journal.check_lines(lines)
    if closed := [key.kind for key, _ in lines if key.kind in OPERATIONS_ONLY]:
        raise UnableToProposeManualEntry(f"Accounts {closed[0]} are moved by their operations alone, not by hand.")
    assert all(abs(amount) <= UNITS_MAX for _, amount in lines)
    row = ManualEntry(
        reason=reason,
        reference=reference,
        proposed_by=by,
        proposed_at=at,
        lines=[[key.kind, key.asset, key.owner, key.contract, amount] for key, amount in lines],
    )
    return propose(row, "an_equal_manual_entry_is_proposed_once_at_a_time", UnableToProposeManualEntry)


@logged("manual_entry", "lines", "entry_id", "state", before="proposed")
def post_manual_entry(*, manual: ManualEntry, by: User, at: datetime) -> ManualEntry:
    """Post another person's proposed entry. Raises UnableToPostManualEntry, and UnableToPost (below-minimum): then the
    proposal stands as it was.
    """
    with transaction.atomic():
        fresh = undecided(manual, UnableToPostManualEntry)
        if fresh.proposed_by_id == by.pk:
            raise UnableToPostManualEntry("You proposed this entry, so somebody else has to post it.")
        if refusal := why_not_decide(by=by, roles=POSTERS, at=at, about=_contributors_of(fresh)):
            raise UnableToPostManualEntry(refusal)
        posted = journal.post(
            kind=EntryKind.MANUAL,
            idem_key=f"manual:{fresh.pk}",
            effective=dated(at),
            lines=[(AccountKey(*key), amount) for *key, amount in fresh.lines],
            reference=f"{fresh.reference}: {fresh.reason}"[:300],
        )
        return decide(
            fresh, ManualEntry.State.POSTED, by=by, at=at, refusal=UnableToPostManualEntry, entry_id=posted.entry_id
        )


def _contributors_of(manual: ManualEntry) -> list[int]:
    owners = [str(owner) for _kind, _asset, owner, *_rest in manual.lines]
    numbers = [owner.removeprefix("contributor:") for owner in owners if owner.startswith("contributor:")]
    return [int(number) for number in numbers if number.isdecimal()]


@logged("manual_entry", "lines", "state", before="proposed")
def reject_manual_entry(*, manual: ManualEntry, by: User, at: datetime) -> ManualEntry:
    """Turn a proposal down; its proposer may take it back so."""
    return reject(manual, roles=PROPOSERS, by=by, at=at, refusal=UnableToPostManualEntry)
