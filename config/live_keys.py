"""The refusal of a live Stripe key where one person tries the programme out: asked by every program at its start."""

from __future__ import annotations

from django.utils import timezone

from people.operations.programme import UnableToUseLiveKey, note_live_key
from people.queries.programme import has_live_key

__all__ = ["UnableToUseLiveKey", "refuse_live_key_on_trial"]


def refuse_live_key_on_trial() -> None:
    """Note a live Stripe key before anything serves. Raises UnableToUseLiveKey while one person tries it out.

    Without a live key it asks nothing of the database.
    """
    if has_live_key():
        note_live_key(at=timezone.now())
