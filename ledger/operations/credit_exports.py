"""The file of a closed month's credits, sorted by account: written after the close, and again if it is lost."""

from __future__ import annotations

import uuid
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db.models import Sum

from ledger.models import CreditExport, Entry, Period
from ledger.queries.credit_file import Writer, Written
from ledger.queries.credits import stream_documents


class UnableToExportCredits(Exception):
    """The month is not closed, or its documents are no longer those that were exported before."""

    status = 409
    problem = "credits-not-exportable"


def export_credits(*, period: Period | int, at: datetime) -> CreditExport:
    """Write the file of a closed period, or write it again where it is missing; its record is returned.

    Raises UnableToExportCredits: the period is not closed, or its present content differs from the recorded one.
    """
    number = period if isinstance(period, int) else period.pk
    month = Period.objects.filter(pk=number).first()
    if month is None or month.state in (Period.State.OPEN, Period.State.CLOSING):
        raise UnableToExportCredits(
            f"Period {number} is {month.state if month else 'unknown'}; credits are exported once it is closed."
        )
    stored = CreditExport.objects.filter(pk=number).first()
    if stored is not None and stored.path.exists():
        return stored
    # No transaction is open meanwhile: it may take a minute. Two that run at once make the same file.
    building = Path(settings.TRIBUTARY_DATA) / "exports" / f"credits-{number}-{uuid.uuid4().hex}.building"
    try:
        written = _write(building, number)
        export, is_new = CreditExport.objects.get_or_create(
            period=month,
            defaults={
                "digest": written.digest,
                "n_credits": written.credits,
                "n_documents": written.documents,
                "n_accounts": written.accounts,
                "n_bytes": written.bytes,
                "written_at": at,
            },
        )
        if not is_new and bytes(export.digest) != written.digest:
            raise UnableToExportCredits(
                f"The documents of period {month} make the digest {written.digest.hex()}; when it was closed they made "
                f"{export.digest_hex}. Run check_books."
            )
        building.replace(export.path)
    finally:
        building.unlink(missing_ok=True)
    return export


def _write(path: Path, period_id: int) -> Written:
    expected = Entry.objects.filter(period_id=period_id).aggregate(n=Sum("n_docs", default=0))["n"]
    with Writer(path, documents_expected=expected) as writer:
        stream_documents(period_id, writer.add)
        return writer.finish()


def export_closed_periods(*, at: datetime) -> int:
    """Export every closed period with a file that is missing here; returns the number of written files."""
    written = 0
    for month in Period.objects.filter(state__in=(Period.State.CLOSED, Period.State.SEALED)).order_by("id"):
        stored = CreditExport.objects.filter(pk=month.pk).first()
        if stored is None or not stored.path.exists():
            export_credits(period=month, at=at)
            written += 1
    return written
