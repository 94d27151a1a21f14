"""Reserves: the money that a close held back, in instalments that are written with it, and their release when they are
due.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction

from ledger import journal, settlement
from ledger.crashpoints import ClosePoint, crashpoint
from ledger.journal import AccountKey
from ledger.models import Asset, EntryKind, Period, ReserveInstalment, utc_date
from ledger.money import ASSETS
from ledger.operations.periods import dated
from ledger.queries.parties import months_after

CHUNK_INSTALMENTS = 1000


def write_instalments(
    month: Period, entry_id: int, parties: Sequence[settlement.Party], lines: settlement.Lines
) -> None:
    """The documents behind a close's reserve: the instalments and their days of release. In the entry's own
    transaction.
    """
    held = {key: amount for key, amount in lines if key.kind == "reserve_held"}
    assets = {asset.code: asset for asset in Asset.objects.all()}
    rows = []
    for party in parties:
        for terms in party.terms:
            amount = held.get(party.key("reserve_held", terms.code), 0)
            subject = f"reserve:{month.pk}:{terms.contract_id}:{ASSETS[party.asset].id}"
            for months, units in settlement.instalments(amount, terms, subject) if amount else ():
                rows.append(
                    ReserveInstalment(
                        contract_id=terms.contract_id,
                        terms_id=terms.terms_id,
                        asset=assets[party.asset],
                        amount=units,
                        period=month,
                        held_entry_id=entry_id,
                        due_on=months_after(month.ends, months),
                    )
                )
    ReserveInstalment.objects.bulk_create(rows)


def release_reserves(*, at: datetime) -> int:
    """Make every instalment that is due payable; returns how many were released.

    A thousand at a time, each chunk an entry that its instalments name in the same transaction: run twice, or again
    after a crash, it releases nothing twice and goes on where it stood.
    """
    released = 0
    while done := _release_chunk(at):
        released += done
        crashpoint(ClosePoint.RELEASE_COMMITTED)
    return released


def _release_chunk(at: datetime) -> int:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger reserves'))")
        day = dated(at)
        due = list(
            ReserveInstalment.objects.filter(released_entry=None, due_on__lte=utc_date(at))
            .select_related("contract", "asset")
            .order_by("due_on", "id")[:CHUNK_INSTALMENTS]
        )
        if not due:
            return 0
        lines: settlement.Lines = []
        for row in due:
            owner = f"contributor:{row.contract.contributor_id}"
            lines.append((AccountKey("reserve_held", row.asset.code, owner, row.contract.code), -row.amount))
            lines.append((AccountKey("contributor_payable", row.asset.code, owner), row.amount))
        entry = journal.post(
            kind=EntryKind.RELEASE_RESERVE,
            # An instalment is released once, so that the first of a chunk names it for good.
            idem_key=f"release_reserve:{due[0].pk}",
            effective=day,
            lines=settlement.merged(lines),
            reference=f"{len(due)} instalment{'' if len(due) == 1 else 's'} due by {day}",
        ).entry_id
        crashpoint(ClosePoint.RELEASE_POSTED)
        ReserveInstalment.objects.filter(pk__in=[row.pk for row in due]).update(released_entry_id=entry)
    return len(due)
