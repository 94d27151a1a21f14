"""Manual entries for the tests: proposed by one person of finance, approved by another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ledger.journal import AccountKey
from ledger.operations.manual import propose_manual_entry
from people.models import User
from people.operations.proposals import approve
from people.operations.users import register_user


def finance(at: datetime) -> list[User]:
    """Two people with the roles to propose and post; every call returns the same two."""
    return [
        User.objects.filter(email=email).first()
        or register_user(email=email, password="two pairs of eyes", name=email, at=at, roles=["finance_checker"])
        for email in ("hand1@example.org", "hand2@example.org")
    ]


def post_by_hand(lines: Sequence[tuple[AccountKey, int]], at: datetime) -> int:
    """Post lines that no operation posts; returns the entry."""
    first, second = finance(at)
    manual = propose_manual_entry(lines=lines, reason="a test needs it", reference="a test", by=first, at=at)
    posted = approve(manual, by=second, at=at)
    assert posted.entry_id is not None
    return posted.entry_id
