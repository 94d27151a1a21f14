"""The bank's report on a transfer: executed, rejected, or returned later. Each line of it is believed once.

Another person than the sender of the file records it. A line that fits nothing, or not exactly, is never booked as if
it did: it becomes a difference for a person.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import transaction

from contributors.operations.deciding import require_stranger
from ledger.money import asset, from_minor
from ledger.operations import payouts
from payouts.attempts.recording import give_back, hold_payout
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import (
    BankFile,
    BankLine,
    Difference,
    HoldReason,
    Notice,
    Payout,
    PayoutAttempt,
    PayoutRun,
    Rail,
    Reversal,
)
from payouts.operations import bank_blocks
from payouts.operations.approval import stop_run
from payouts.operations.holds import UnableToPlaceHold, place_hold
from payouts.rails.bank.answers import PAIN_002, Reported, reference_of
from people.actor import (
    ADMIN,
    CHECKER,
    COMPLIANCE,
    NOBODY,
    Presence,
    UnableToActForOneself,
    audit,
    require_fresh_factor,
    require_role,
    require_settled_role,
)
from people.models import User
from people.operations.trial import second_half
from people.presentation import amounts, dates

LINES_MAX = 20_000


class UnableToRecordBankLine(Exception):
    """The line fits no payment order, or it takes somebody else to record it."""

    status = 409
    problem = "bank-line-not-recorded"


class Outcome(enum.StrEnum):
    RECORDED = "recorded"
    KNOWN = "known"  # the same line was recorded before
    DIFFERS = "differs"  # a difference waits for a person
    REFUSED = "refused"


@dataclass(frozen=True)
class Result:
    line: Reported
    outcome: Outcome
    words: str


def record_bank_lines(*, lines: Iterable[Reported], by: User, at: datetime, seen: Presence = NOBODY) -> list[Result]:
    """Record the bank's report, line by line, each in a transaction of its own. Repeatable.

    Raises UnableToRecordBankLine for more than LINES_MAX lines.
    """
    require_role(by, CHECKER, COMPLIANCE, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    given, results = [], []
    for one in lines:
        try:
            given += bank_blocks.orders_of(one)
        except bank_blocks.UnableToFindOrders as error:
            results.append(Result(one, Outcome.REFUSED, str(error)))
    if len(given) > LINES_MAX:
        raise UnableToRecordBankLine(f"A file has at most {LINES_MAX:,} lines; split it.")
    # A bank may list a return above its transfer.
    given.sort(key=lambda line: line.kind == BankLine.Kind.RETURNED)
    together = _references(given)
    for line in given:
        try:
            outcome, words = _record(line, by, at, seen, together)
        except (UnableToRecordBankLine, UnableToActForOneself) as error:
            outcome, words = Outcome.REFUSED, str(error)
        results.append(Result(line, outcome, words))
        crashpoint(CrashPoint.BANK_LINE_COMMITTED)
    return results


def _key(line: Reported) -> tuple[str, str]:
    return line.kind, line.end_to_end_id


def _references(lines: Iterable[Reported]) -> dict[tuple[str, str], list[str]]:
    """Return the references of one file for each order and outcome: two of them are two bookings."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        if line.reference not in found.setdefault(_key(line), []):
            found[_key(line)].append(line.reference)
    return found


@transaction.atomic
def _record(
    line: Reported, by: User, at: datetime, seen: Presence, together: dict[tuple[str, str], list[str]]
) -> tuple[Outcome, str]:
    amount = line.amount_minor
    if line.kind not in BankLine.Kind.values or not line.reference.strip() or (amount is not None and amount <= 0):
        raise UnableToRecordBankLine("A line has an outcome, the bank's reference and an amount above zero.")
    if line.booked_on > dates.today(at):
        raise UnableToRecordBankLine("The bank cannot have booked it on a day to come.")
    name = _uuid(line.end_to_end_id)
    found = Payout.objects.filter(public_id=name, rail=Rail.MANUAL_BANK_FILE).first() if name else None
    if found is None:
        raise UnableToRecordBankLine(f"No bank transfer has the end-to-end id {line.end_to_end_id[:40]}.")
    require_stranger(by, found.contributor_id)
    # The run before the payout, as everywhere.
    run = PayoutRun.objects.select_for_update(no_key=True).get(pk=found.run_id)
    payout = Payout.objects.select_for_update(no_key=True).get(pk=found.pk)
    others = together[_key(line)]
    if line.amount_minor is None:
        line = replace(line, amount_minor=payout.amount_minor, currency=payout.currency)
    known = BankLine.objects.filter(reference=line.reference).select_related("attempt").first()
    if known is not None and (known.attempt.payout_id, known.kind) != (payout.pk, line.kind):
        # A batch shares the bank's reference, and a return may repeat it: then the order's id stands beside it.
        own = reference_of(line.reference, payout.public_id.hex, line.kind, line.booked_on)
        line = replace(line, reference=own)
        known = BankLine.objects.filter(reference=own).select_related("attempt").first()
    if known is not None:
        if _same(known, line, payout):
            return Outcome.KNOWN, "Recorded before."
        raise UnableToRecordBankLine(f"The reference {line.reference} was recorded for something else.")
    if told := _told_elsewhere(line, payout, others):
        return Outcome.KNOWN, f"Recorded before, from another report ({told.source}, {told.reference})."
    wanted = PayoutAttempt.State.SUCCEEDED if line.kind == BankLine.Kind.RETURNED else PayoutAttempt.State.SENT
    attempt = (
        payout.attempts.select_for_update(no_key=True)
        .filter(kind=PayoutAttempt.Kind.PAY, state=wanted, bank_file__state=BankFile.State.SENT)
        .first()
    )
    if attempt is None:
        return _unexpected(line, payout, run, at)
    assert attempt.bank_file is not None
    if line.message_id and line.message_id != attempt.bank_file.message_id:
        raise UnableToRecordBankLine(
            f"The bank answers the file {line.message_id}; this order is under way in {attempt.bank_file.message_id}."
        )
    by = second_half(by, (attempt.bank_file.sent_by_id,))
    if attempt.bank_file.sent_by_id == by.pk:
        raise UnableToRecordBankLine("You sent this file to the bank, so somebody else confirms its result.")
    left = payout.amount_minor - payout.reversed_minor
    fits = _minor(line) <= left if line.kind == BankLine.Kind.RETURNED else _minor(line) == left
    if not fits or line.currency != payout.currency:
        return _differs(line, payout, run, at)
    BankLine.objects.create(
        kind=line.kind,
        reference=line.reference,
        source=line.source,
        attempt=attempt,
        amount_minor=_minor(line),
        currency=line.currency,
        booked_on=line.booked_on,
        reason=line.reason[:200],
        recorded_by=by,
        recorded_at=at,
    )
    audit(
        by=by,
        action=f"bank_{line.kind}",
        subject=f"payout:{payout.public_id}",
        at=at,
        seen=seen,
        after={"reference": line.reference, "amount_minor": line.amount_minor, "booked_on": str(line.booked_on)},
    )
    crashpoint(CrashPoint.BANK_LINE_WRITTEN)
    {"executed": _executed, "rejected": _rejected, "returned": _returned}[line.kind](line, payout, attempt, at)
    Difference.objects.filter(
        type=Difference.Type.UNEXPECTED_REVERSAL, subject=line.reference[:120], state=Difference.State.OPEN
    ).update(state=Difference.State.RESOLVED, ended_at=at)
    crashpoint(CrashPoint.BANK_LINE_BOOKED)
    return Outcome.RECORDED, f"{_money(line)} {line.kind}."


def _uuid(text: str) -> str | None:
    """The payout's id, where the text is one."""
    name = text.strip().lower().replace("-", "")
    return name if len(name) == 32 and all(letter in "0123456789abcdef" for letter in name) else None


def _same(known: BankLine, line: Reported, payout: Payout) -> bool:
    # A status that is sent again carries the day of its sending.
    is_same_day = known.booked_on == line.booked_on or line.source == PAIN_002
    return is_same_day and (known.kind, known.amount_minor, known.currency, known.attempt.payout_id) == (
        line.kind,
        line.amount_minor,
        line.currency,
        payout.pk,
    )


def _told_elsewhere(line: Reported, payout: Payout, others: list[str]) -> BankLine | None:
    """Return the same booking from a report of another kind, which may have another reference.

    Two references in one file are two bookings. Only the first may be the known one, and not where the other is.
    """
    if line.reference not in others[:1] and len(others) > 1:
        return None
    told = BankLine.objects.filter(
        attempt__payout=payout,
        kind=line.kind,
        amount_minor=_minor(line),
        currency=line.currency,
        booked_on=line.booked_on,
    ).exclude(source=line.source)
    return told.exclude(reference__in=others).first()


def _minor(line: Reported) -> int:
    assert line.amount_minor is not None
    return line.amount_minor


def _money(line: Reported) -> str:
    return amounts.text_of_minor(_minor(line), asset(line.currency))


def _executed(line: Reported, payout: Payout, attempt: PayoutAttempt, at: datetime) -> None:
    attempt.state, attempt.provider_transfer_id, attempt.finished_at = (
        PayoutAttempt.State.SUCCEEDED,
        line.reference,
        at,
    )
    attempt.save(update_fields=["state", "provider_transfer_id", "finished_at"])
    # The bank's booking is the last that is heard of a transfer that arrives, so that both steps are taken at once.
    payout.state, payout.transferred_at, payout.next_try_at = Payout.State.TRANSFERRED, at, None
    payout.save(update_fields=["state", "transferred_at", "next_try_at"])
    payout.state, payout.settled_at = Payout.State.SETTLED, at
    payout.save(update_fields=["state", "settled_at"])
    Notice.objects.get_or_create(
        kind="payout_transferred",
        subject=f"payout:{payout.public_id}",
        defaults={
            "contributor_id": payout.contributor_id,
            "created_at": at,
            "title": f"{_money(line)} is on its way",
            "words": f"{_money(line)} left our bank for yours on {dates.day(line.booked_on)}.",
        },
    )
    assert attempt.reserve_entry is not None
    payouts.succeed_payout(
        reserve_entry=attempt.reserve_entry,
        attempt_key=attempt.idempotency_key,
        currency=payout.currency,
        net=from_minor(payout.amount_minor, payout.currency),
        at=at,
    )


def _rejected(line: Reported, payout: Payout, attempt: PayoutAttempt, at: datetime) -> None:
    """The bank did not execute the order: the money is payable again, and waits for another account."""
    attempt.state, attempt.finished_at = PayoutAttempt.State.REFUSED, at
    attempt.error_code, attempt.error_message = "rejected_by_bank", line.reason[:500]
    attempt.save(update_fields=["state", "finished_at", "error_code", "error_message"])
    payout.state = Payout.State.REFUSED
    payout.save(update_fields=["state"])
    hold_payout(payout, HoldReason.REFUSED_BY_BANK, note=line.reason, at=at)
    give_back(attempt, at)


def _returned(line: Reported, payout: Payout, attempt: PayoutAttempt, at: datetime) -> None:
    """Book a transfer that the payee's bank sent back days later: it settles the contributor's debt, the rest is
    payable again."""
    before, payout.reversed_minor = payout.reversed_minor, payout.reversed_minor + _minor(line)
    is_whole = payout.reversed_minor == payout.amount_minor
    payout.state = Payout.State.REVERSED if is_whole else Payout.State.PARTIALLY_REVERSED
    payout.reason, payout.reason_note = "returned_by_bank", line.reason[:500]
    payout.save(update_fields=["state", "reversed_minor", "reason", "reason_note"])
    try:
        with transaction.atomic():
            place_hold(
                contributor=payout.contributor,
                reason=HoldReason.REFUSED_BY_BANK,
                note=line.reason,
                payout=payout,
                at=at,
            )
    except UnableToPlaceHold:
        pass  # Held for this reason already, which was told.
    Notice.objects.get_or_create(
        kind="payout_bank_failed",
        subject=f"payout:{payout.public_id}:{line.reference}",
        defaults={
            "contributor_id": payout.contributor_id,
            "created_at": at,
            "title": f"Your bank sent {_money(line)} back",
            "words": f"Your bank sent {_money(line)} back to us ({line.reason[:200] or 'no reason given'}). It is "
            "payable again. Check the bank account on the page of payouts.",
        },
    )
    entry = payouts.record_bank_return(
        contributor_id=payout.contributor_id,
        currency=payout.currency,
        amount=from_minor(_minor(line), payout.currency),
        return_id=line.reference,
        at=at,
    )
    tax = payout.tax_minor * payout.reversed_minor // payout.amount_minor
    tax -= payout.tax_minor * before // payout.amount_minor
    if tax:
        payouts.reverse_withholding(
            contributor_id=payout.contributor_id,
            currency=payout.currency,
            amount=from_minor(tax, payout.currency),
            reversal_id=line.reference,
            at=at,
            jurisdiction=payout.tax_jurisdiction,
        )
    Reversal.objects.create(
        payout=payout, provider_reversal_id=line.reference, amount_minor=_minor(line), entry=entry, created_at=at
    )


def _unexpected(line: Reported, payout: Payout, run: PayoutRun, at: datetime) -> tuple[Outcome, str]:
    """A line for an order that is not under way: already settled, withdrawn, or never sent."""
    if not payout.attempts.filter(bank_file__isnull=False).exclude(bank_file__state=BankFile.State.MADE).exists():
        raise UnableToRecordBankLine("The file of this transfer is not marked as sent.")
    words = f"The bank reports a transfer as {line.kind} that is {payout.get_state_display().lower()} here."
    if line.kind == BankLine.Kind.EXECUTED:
        stop_run(run_id=run.pk, code=PayoutRun.PauseCode.PAID_TWICE, note=f"{words} ({line.reference})", at=at)
        # Of a type that no comparison resolves: only a person finds out where the second payment went.
        return _list(Difference.Type.DUPLICATE_GROUP, line, payout, run, words, at)
    if line.kind == BankLine.Kind.RETURNED and payout.state == Payout.State.SENDING:
        words = (
            "The bank returned a transfer before it reported the execution here. Read the earlier statement, then this "
            "one again."
        )
        return _list(Difference.Type.UNEXPECTED_REVERSAL, line, payout, run, words, at)
    raise UnableToRecordBankLine(words)


def _differs(line: Reported, payout: Payout, run: PayoutRun, at: datetime) -> tuple[Outcome, str]:
    is_currency = line.currency != payout.currency
    type_ = Difference.Type.CURRENCY if is_currency else Difference.Type.AMOUNT
    return _list(type_, line, payout, run, f"The bank's {type_.label.lower()} is not the one that was ordered.", at)


def _list(
    type_: Difference.Type, line: Reported, payout: Payout, run: PayoutRun, words: str, at: datetime
) -> tuple[Outcome, str]:
    known = Difference.objects.filter(type=type_, currency=payout.currency, subject=line.reference[:120])
    if not known.exclude(state=Difference.State.RESOLVED).exists():
        Difference.objects.create(
            type=type_,
            run=run,
            payout=payout,
            currency=payout.currency,
            subject=line.reference[:120],
            expected=amounts.text_of_minor(payout.amount_minor, asset(payout.currency)),
            found=_money(line),
            words=words,
            found_at=at,
        )
    return Outcome.DIFFERS, words
