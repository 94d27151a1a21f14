"""Disputes of receipts: raised by the contributor on the receipt itself, answered by staff in words."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import IntegrityError, transaction

from contributors.models import Contributor
from contributors.operations.deciding import why_not_decide
from ledger.models import ReceiptDispute
from ledger.models.disputes import WORDS_MAX
from ledger.queries import receipt
from people.actor import logged
from people.models import User

OPEN_MAX = 50
ANSWERERS = ("finance_checker", "compliance")


class UnableToDispute(Exception):
    """The receipt cannot be disputed now; the message says why."""

    status = 409
    problem = "unable-to-dispute"


class UnableToAnswerDispute(Exception):
    """The dispute has ended, or this person may not answer it."""

    status = 409
    problem = "unable-to-answer-dispute"


def dispute_receipt(
    *, contributor: Contributor, generation_id: uuid.UUID, words: str, by: User, at: datetime
) -> ReceiptDispute:
    """Dispute one's own receipt of a generation, with the fault in words. It moves no money.

    Raises UnableToDispute: no such receipt; no words or more than WORDS_MAX; a dispute on it is open already; OPEN_MAX
    disputes of this contributor wait for an answer.
    """
    found = receipt.receipt_for_contributor(generation_id, contributor.pk)
    if found is None or found.standing.attribution is None:
        raise UnableToDispute("You have no receipt for this generation.")
    words = words.strip()
    if not words or len(words) > WORDS_MAX:
        raise UnableToDispute(f"Describe the error, in 1 to {WORDS_MAX} characters; these are {len(words)}.")
    if ReceiptDispute.objects.filter(contributor=contributor, state=ReceiptDispute.State.OPEN).count() >= OPEN_MAX:
        raise UnableToDispute(f"{OPEN_MAX} of your disputes wait for an answer; withdraw one, or wait for an answer.")
    try:
        with transaction.atomic():
            return ReceiptDispute.objects.create(
                contributor=contributor,
                generation_id=generation_id,
                revision=found.standing.attribution.revision,
                words=words,
                raised_by=by,
                raised_at=at,
            )
    except IntegrityError as error:
        raise UnableToDispute("Your dispute of this receipt is open already.") from error


def withdraw_dispute(*, dispute: ReceiptDispute, at: datetime) -> ReceiptDispute:
    """The contributor no longer holds the receipt to be wrong. Raises UnableToDispute where it was answered already."""
    with transaction.atomic():
        fresh = ReceiptDispute.objects.select_for_update(no_key=True).get(pk=dispute.pk)
        if fresh.state != ReceiptDispute.State.OPEN:
            raise UnableToDispute(f"This dispute was {fresh.get_state_display().lower()} already.")
        fresh.state, fresh.answered_at = ReceiptDispute.State.WITHDRAWN, at
        fresh.save(update_fields=["state", "answered_at"])
    return fresh


@logged("dispute", "state", "answer", before="open")
def answer_dispute(*, dispute: ReceiptDispute, upheld: bool, words: str, by: User, at: datetime) -> ReceiptDispute:
    """Decide a dispute and tell the contributor why. Upheld, its generation is to be attributed again: that restates
    the receipt, and the journal shows both.

    Raises UnableToAnswerDispute: answered or withdrawn already; by the person that raised it; without words.
    """
    words = words.strip()
    if not words or len(words) > WORDS_MAX:
        raise UnableToAnswerDispute(f"Answer in 1 to {WORDS_MAX} characters: the contributor reads it.")
    with transaction.atomic():
        fresh = ReceiptDispute.objects.select_for_update(no_key=True).get(pk=dispute.pk)
        if fresh.state != ReceiptDispute.State.OPEN:
            raise UnableToAnswerDispute(f"This dispute was {fresh.get_state_display().lower()} already.")
        if fresh.raised_by_id == by.pk:
            raise UnableToAnswerDispute("A dispute is answered by somebody other than its claimant.")
        if refusal := why_not_decide(by=by, roles=ANSWERERS, at=at, about=[fresh.contributor_id]):
            raise UnableToAnswerDispute(refusal)
        fresh.state = ReceiptDispute.State.UPHELD if upheld else ReceiptDispute.State.DECLINED
        fresh.answer, fresh.answered_by, fresh.answered_at = words, by, at
        fresh.save(update_fields=["state", "answer", "answered_by", "answered_at"])
    return fresh
