"""Manual entries: proposed by one person of finance with a reason, approved by another. They never touch accounts that
belong to an operation: its documents would no longer explain them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from contributors.operations.deciding import acts_for
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import EntryKind, ManualEntry
from ledger.money import UNITS_MAX
from ledger.operations.periods import dated
from ledger.queries.account_words import entry_link
from ledger.queries.proposed_lines import contributors_in, lines_of, stored_lines
from people.models import User
from people.operations.proposals import propose
from people.queries.proposals import ProposalKind

LINES_MAX = 20
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


def propose_manual_entry(
    *, lines: Sequence[tuple[AccountKey, int]], reason: str, reference: str, by: User, at: datetime
) -> ManualEntry:
    """Propose an entry for somebody else to approve. `lines` as in journal.post: credit positive, in units.

    Raises UnableToProposeManualEntry, and UnableToPost for lines that no entry can have; no row is written.
    """
    reason, reference = reason.strip(), reference.strip()
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
        lines=stored_lines(lines),
    )
    return propose(KIND, row)


def _post(manual: ManualEntry, by: User, at: datetime) -> dict[str, Any]:
    """Post the lines. Raises UnableToPost (below-minimum)."""
    posted = journal.post(
        kind=EntryKind.MANUAL,
        idem_key=f"manual:{manual.pk}",
        effective=dated(at),
        lines=lines_of(manual.lines),
        reference=f"{manual.reference}: {manual.reason}"[:300],
    )
    return {"entry_id": posted.entry_id}


KIND = ProposalKind(
    key="manual_entry",
    model=ManualEntry,
    name="manual entry",
    heading="Manual entries",
    mail="A manual entry waits for a second person",
    apply=_post,
    conflict=lambda row, by: acts_for(by=by, contributors=contributors_in(row.lines)),
    refusal=UnableToProposeManualEntry,
    unique="an_equal_manual_entry_is_proposed_once_at_a_time",
    title=lambda row: row.reason,
    summary=lambda row: f"By hand, after the evidence “{row.reference}”.",
    facts=lambda row: [("Evidence", row.reference), ("Entry", entry_link(row.entry_id))],
    template="ledger/partials/proposed_lines.html",
    effect="A posted entry is never changed. A mistake takes another entry, under four eyes again.",
    approved=lambda row: f"Approved, and posted as entry {row.entry_id}.",
    parent=("Manual entries", "ledger:manual_entries"),
    subject=lambda row: f"manual_entry:{row.pk}",
    fields=("lines", "reason", "reference", "entry_id"),
)
