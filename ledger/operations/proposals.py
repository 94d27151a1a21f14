"""Proposals of staff and the decision on them: once, under a lock on its row, rejected by any person that may
propose.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TypeVar

from django.db import DatabaseError, IntegrityError, transaction

from ledger.models.proposals import Proposal
from people.actor import lacks_role
from people.models import User

P = TypeVar("P", bound=Proposal)


def propose(row: P, rule: str, refusal: type[Exception]) -> P:
    """Write a new proposal down. Raises `refusal` where an equal one waits, which the constraint `rule` finds."""
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        if rule not in str(error):
            raise
        raise refusal(
            "The same is proposed already and waits for somebody to decide it. Should it be meant twice, name another "
            "reference."
        ) from error
    return row


def undecided(row: P, refusal: type[Exception]) -> P:
    """The proposal as it stands, locked. Raises `refusal` where it is decided."""
    fresh: P = type(row)._default_manager.select_for_update(no_key=True, of=("self",)).get(pk=row.pk)
    if fresh.state != "proposed":
        raise refusal(f"It is {fresh.state} already.")
    return fresh


def decide(fresh: P, state: str, *, by: User, at: datetime, refusal: type[Exception], **written: int) -> P:
    """Write the decision down, with the values that it fixes, such as `entry_id`. Raises `refusal` with the database's
    rule.
    """
    fresh.state, fresh.decided_by, fresh.decided_at = state, by, at
    for name, value in written.items():
        setattr(fresh, name, value)
    try:
        with transaction.atomic():
            fresh.save(update_fields=["state", "decided_by", "decided_at", *written])
    except DatabaseError as error:
        raise refusal(str(error).splitlines()[0]) from error
    return fresh


def reject(row: P, *, roles: Collection[str], by: User, at: datetime, refusal: type[Exception]) -> P:
    """Turn it down; its proposer may take it back so. It stays on record."""
    with transaction.atomic():
        fresh = undecided(row, refusal)
        if lacks := lacks_role(by=by, roles=roles):
            raise refusal(lacks)
        return decide(fresh, "rejected", by=by, at=at, refusal=refusal)
