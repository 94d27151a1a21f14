"""The content that an approver agrees to, as bytes: the digest of a payout, and that of a run over all of its
payouts."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from payouts.models import Payout, PayoutRun


def _digest(value: Any) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).digest()


def row_sha256(payout: Payout) -> bytes:
    """Digest the content that an approver agrees to for one payout, the destination included."""
    return _digest(
        [
            payout.public_id.hex, payout.contributor_id, payout.account_id, payout.rail, payout.currency,
            payout.gross_minor, payout.tax_minor, payout.tax_jurisdiction, payout.tax_basis, payout.amount_minor,
            payout.destination, payout.destination_currency,
        ]
    )  # fmt: skip


def content_hash(run: PayoutRun) -> bytes:
    """SHA-256 over the run's terms and its payouts in the order of their contributors, computed from the rows now."""
    whole = hashlib.sha256(
        _digest(
            [
                run.public_id.hex,
                run.currency,
                run.rail,
                run.cut_off.isoformat(),
                run.matured_before.isoformat(),
                run.configuration,
            ]
        )
    )
    for payout in run.payouts.order_by("contributor_id").iterator(chunk_size=2000):
        whole.update(row_sha256(payout))
    return whole.digest()
