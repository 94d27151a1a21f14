"""Paying by bank transfer: the order is written down as a file, one person hands it to the bank.

The same states and guards as on Stripe's rail. The attempts, the entries that reserve the money and the file that
orders it are one transaction. An attempt stands in one file for ever, and a file gives the same bytes each time.
Whether somebody uploaded it cannot be known here. So a file that was not marked as sent is withdrawn by two people or
not at all.
"""

from __future__ import annotations

import hashlib
from datetime import date, datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q

from ledger.journal import UnableToPost
from ledger.operations.payouts import Reserve, reserve_payouts
from payouts.attempts.content import row_sha256
from payouts.attempts.pace import LIVE
from payouts.attempts.recording import hold_payout, reserve_of, void_attempt
from payouts.crashpoints import CrashPoint, crashpoint
from payouts.models import BankFile, Hold, HoldReason, Payout, PayoutAttempt, PayoutRun, Rail
from payouts.operations.bank_orders import (
    UnableToExport,
    complete_accounts,
    order_of,
    programme_account,
    refuse_name,
    request_of,
)
from payouts.operations.conflicts import acts_for_payee
from payouts.operations.holds import first_holds, open_holds_q
from payouts.operations.runs import lock
from payouts.rails.bank.pain import Party, checked, pain_001
from payouts.rails.transfers import banking_day, rules
from people import sealing
from people.actor import (
    ADMIN,
    CHECKER,
    MAKER,
    NOBODY,
    Presence,
    UnableToActForOneself,
    audit,
    require_fresh_factor,
    require_role,
    require_settled_role,
)
from people.models import AuditEvent, User
from people.operations.trial import second_half
from people.presentation import dates
from people.queries.programme import programme

# Banks take no more orders in one file; a larger run becomes several files.
ORDERS_MAX = 5000


class UnableToChangeBankFile(Exception):
    """The file is sent or withdrawn already, or it takes somebody else."""

    status = 409
    problem = "bank-file-not-changed"


class _Short(Exception):
    """These have less than when the run was built."""

    def __init__(self, payouts: list[Payout]) -> None:
        super().__init__("less is payable")
        self.payouts = payouts


def export_bank_file(
    *, run: PayoutRun, by: User, at: datetime, execution_on: date | None = None, seen: Presence = NOBODY
) -> BankFile:
    """Write every approved payout of a run into one file: attempts, reserve entries and bytes, or nothing. A payee that
    is held by now, or has less, leaves the run, even where that is everybody.

    Raises UnableToExport, UnableToOrder where the schema refuses the file, UnableToUnseal for a lost key.
    """
    require_role(by, MAKER, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    if settings.PAYOUTS_FROZEN:
        raise UnableToExport("Payouts are frozen for the whole installation (PAYOUTS_FROZEN).")
    today = dates.today(at)
    day = banking_day(run.currency, execution_on or today)
    if execution_on is not None and execution_on < today:
        raise UnableToExport("The bank cannot execute on a day that is past.")
    if execution_on not in (None, day):
        raise UnableToExport(f"Banks move no {run.currency} on {execution_on}. The next day on which they do is {day}.")
    debtor = programme_account(run.currency)
    with transaction.atomic():
        file = _export_payable(lock(run), debtor, day, by=by, at=at, seen=seen)
    # Only now, when every unpayable payee has left the run for good: a run in which nobody remains comes to its end.
    if file is None:
        raise UnableToExport(
            "No payout of the run is left to order; payees with a hold or a smaller balance were taken out of it."
        )
    return file


def _export_payable(
    run: PayoutRun, debtor: Party, execution_on: date, *, by: User, at: datetime, seen: Presence
) -> BankFile | None:
    """Make the file of those payouts in a locked run that nothing stops; the others are held. None where nobody is
    left."""
    if run.rail != Rail.MANUAL_BANK_FILE or run.state != PayoutRun.State.EXECUTING:
        raise UnableToExport("Only a run by bank transfer that is executing is exported.")
    if bytes(run.approved_hash or b"") != bytes(run.content_hash or b""):
        raise UnableToExport("The run differs from the approved one. Nothing was ordered.")
    due = run.payouts.filter(state=Payout.State.APPROVED).select_for_update(of=("self",), no_key=True)
    payouts = _left(list(due.select_related("contributor", "run").order_by("pk")[:ORDERS_MAX]), at)
    parties = complete_accounts(payouts, at)
    payouts = [payout for payout in payouts if payout.pk in parties]
    while payouts:
        try:
            with transaction.atomic():
                return _export(run, payouts, parties, debtor, execution_on, by=by, at=at, seen=seen)
        except _Short as short:
            for payout in short.payouts:
                payouts.remove(payout)
                hold_payout(
                    payout, HoldReason.NEGATIVE_BALANCE, note="Less is payable than when the run was built.", at=at
                )
    return None


def _left(payouts: list[Payout], at: datetime) -> list[Payout]:
    """Return the payouts that nothing stops since the approval; a hold takes the others out of the run."""
    for payout in payouts:
        if bytes(payout.row_sha256) != row_sha256(payout):
            raise UnableToExport(
                f"The payout to {payout.contributor} differs from the approved one. Nothing was ordered."
            )
    held = first_holds([payout.contributor_id for payout in payouts], at=at)
    for payout in payouts:
        if payout.contributor_id in held:
            hold_payout(payout, held[payout.contributor_id], note="Held after the run was approved.", at=at)
    return [payout for payout in payouts if payout.contributor_id not in held]


def _export(
    run: PayoutRun,
    payouts: list[Payout],
    parties: dict[int, Party],
    debtor: Party,
    execution_on: date,
    *,
    by: User,
    at: datetime,
    seen: Presence,
) -> BankFile:
    number = run.bank_files.count() + 1
    message_id = f"{run.public_id.hex[:28]}-{number}"
    made = PayoutAttempt.objects.filter(payout__in=payouts).values_list("payout_id").annotate(number=Count("pk"))
    before = dict(made)
    numbers = {payout.pk: before.get(payout.pk, 0) + 1 for payout in payouts}
    payer = programme().shown_name
    orders = [order_of(payout, numbers[payout.pk], parties[payout.pk], debtor, payer) for payout in payouts]
    refuse_name(debtor, orders, run.currency)
    content = checked(
        pain_001(
            message_id=message_id,
            made_at=at,
            execution_on=execution_on,
            currency=run.currency,
            debtor=debtor,
            orders=orders,
            other_service_level=rules().other_service_level,
        )
    )
    file = BankFile.objects.create(
        run=run,
        number=number,
        message_id=message_id,
        sealed=sealing.seal(content),
        sha256=hashlib.sha256(content).digest(),
        n_payments=len(payouts),
        total_minor=sum(payout.amount_minor for payout in payouts),
        execution_on=execution_on,
        made_by=by,
        made_at=at,
    )
    audit(
        by=by,
        action="export_bank_file",
        subject=f"run:{run.public_id}",
        at=at,
        seen=seen,
        after={
            "file": message_id,
            "sha256": hashlib.sha256(content).hexdigest(),
            "payments": len(payouts),
            "total_minor": file.total_minor,
        },
    )
    crashpoint(CrashPoint.BANK_FILE_WRITTEN)
    # The journal's lock is taken last, and by everybody in this order.
    keys = {payout.pk: f"{payout.transfer_group}_{numbers[payout.pk]}" for payout in payouts}
    entries = _reserve(payouts, keys, at)
    Payout.objects.filter(pk__in=keys).update(state=Payout.State.SENDING, next_try_at=None)
    attempts = []
    for payout, order, entry in zip(payouts, orders, entries, strict=True):
        request = request_of(order, payout, execution_on)
        attempts.append(
            PayoutAttempt(
                payout=payout,
                number=numbers[payout.pk],
                provider=run.rail,
                idempotency_key=keys[payout.pk],
                amount_minor=payout.amount_minor,
                request=request,
                bank_file=file,
                requested_by=by,
                request_sha256=hashlib.sha256(request.encode()).digest(),
                first_sent_at=at,
                reserve_entry=entry,
            )
        )
    PayoutAttempt.objects.bulk_create(attempts, batch_size=1000)
    crashpoint(CrashPoint.BANK_FILE_ORDERED)
    return file


def _reserve(payouts: list[Payout], keys: dict[int, str], at: datetime) -> list[int]:
    """The entries that take the money of each, in order. Raises _Short with all payouts of payees that have less."""
    reserves = [reserve_of(payout, keys[payout.pk]) for payout in payouts]
    if (entries := _reserved(reserves, at)) is not None:
        return entries
    one_by_one = [(payout, _reserved([reserve], at)) for payout, reserve in zip(payouts, reserves, strict=True)]
    raise _Short([payout for payout, entries in one_by_one if entries is None])


def _reserved(reserves: list[Reserve], at: datetime) -> list[int] | None:
    """None where somebody has less than is to be reserved."""
    try:
        with transaction.atomic():
            return reserve_payouts(reserves=reserves, at=at)
    except UnableToPost as error:
        if error.problem != "below-minimum":
            raise
        return None


@transaction.atomic
def read_bank_file(*, file: BankFile, by: User, at: datetime, seen: Presence = NOBODY) -> bytes:
    """Return the file's bytes, the same as ever. Each reading is in the audit log: the bytes name people's accounts.

    Raises UnableToChangeBankFile for a withdrawn file, and UnableToUnseal for bytes without the recorded digest.
    """
    require_role(by, MAKER, CHECKER, ADMIN)
    require_fresh_factor(seen)
    file = BankFile.objects.select_related("run").get(pk=file.pk)
    if file.state == BankFile.State.WITHDRAWN:
        raise UnableToChangeBankFile("The file was withdrawn; it must not reach the bank.")
    if file.state == BankFile.State.MADE:
        _refuse_held(file, at)
    content = sealing.unseal(file.sealed)
    if hashlib.sha256(content).digest() != bytes(file.sha256):
        raise sealing.UnableToUnseal("The file is not the one that was made.")
    audit(
        by=by,
        action="read_bank_file",
        subject=f"run:{file.run.public_id}",
        at=at,
        seen=seen,
        after={"file": file.message_id},
    )
    return content


def _refuse_held(file: BankFile, at: datetime) -> None:
    """Refuse a file with a payee that was held after the file was made: nobody gets it to hand over any more.

    That it was handed over can still be said: it may have been before the hold, and that must not be lost.
    """
    of_file = Q(contributor__payouts__attempts__bank_file=file)
    held = Hold.objects.filter(open_holds_q(at) & of_file).order_by("contributor__display_name").distinct()
    if names := list(dict.fromkeys(str(hold.contributor) for hold in held.select_related("contributor")))[:5]:
        raise UnableToChangeBankFile(
            f"Held since the file was made: {', '.join(names)}. If the bank does not have the file, have somebody else "
            "withdraw it, and export a new one without them."
        )


def _has_read(by: User, file: BankFile) -> bool:
    """Tell whether the person has held the file's bytes, and so may have handed them over without saying so."""
    readings = AuditEvent.objects.filter(action="read_bank_file", subject=f"run:{file.run.public_id}", actor=by)
    return readings.filter(after__file=file.message_id).exists()


@transaction.atomic
def mark_bank_file_sent(*, file: BankFile, by: User, at: datetime, seen: Presence = NOBODY) -> BankFile:
    """Say that the bank has the file. The person that says so does not confirm the result.

    Raises UnableToChangeBankFile while payouts are frozen, and for a file sent or withdrawn already. Raises it also for
    a run that is not executing.
    """
    require_role(by, MAKER, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    if settings.PAYOUTS_FROZEN:
        raise UnableToChangeBankFile("Payouts are frozen for the whole installation (PAYOUTS_FROZEN).")
    run = lock(file.run)
    file = BankFile.objects.select_for_update(no_key=True).get(pk=file.pk)
    if file.state != BankFile.State.MADE:
        raise UnableToChangeBankFile(f"The file is {file.get_state_display().lower()} already.")
    if run.state != PayoutRun.State.EXECUTING:
        raise UnableToChangeBankFile(f"The run is {run.get_state_display().lower()}; no file of it goes to the bank.")
    file.state, file.sent_by, file.sent_at = BankFile.State.SENT, by, at
    file.save(update_fields=["state", "sent_by", "sent_at"])
    audit(
        by=by,
        action="mark_bank_file_sent",
        subject=f"run:{run.public_id}",
        at=at,
        seen=seen,
        after={"file": file.message_id},
    )
    crashpoint(CrashPoint.BANK_FILE_MARKED)
    return file


@transaction.atomic
def withdraw_bank_file(*, file: BankFile, by: User, reason: str, at: datetime, seen: Presence = NOBODY) -> BankFile:
    """Declare a file dead that never reached the bank: its attempts are void, its money is payable again.

    Raises UnableToChangeBankFile without a reason, and for a file sent or withdrawn already. Raises it also for a
    person that made or downloaded the file. Raises UnableToActForOneself for a person that acts for a payee in it.
    """
    require_role(by, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    if not reason.strip():
        raise UnableToChangeBankFile("Say how you know that the bank never got it.")
    run = lock(file.run)
    payouts = {
        payout.pk: payout
        for payout in Payout.objects.select_for_update(no_key=True)
        .filter(attempts__bank_file=file, attempts__state=PayoutAttempt.State.SENT)
        .order_by("pk")
    }
    attempts = list(
        PayoutAttempt.objects.select_for_update(no_key=True)
        .filter(bank_file=file, state=PayoutAttempt.State.SENT)
        .order_by("pk")
    )
    file = BankFile.objects.select_for_update(no_key=True).get(pk=file.pk)
    if file.state != BankFile.State.MADE:
        raise UnableToChangeBankFile(f"The file is {file.get_state_display().lower()} already.")
    by = second_half(by, (file.made_by_id,))
    if file.made_by_id == by.pk:
        raise UnableToChangeBankFile("You made this file, so somebody else has to withdraw it.")
    if _has_read(by, file):
        raise UnableToChangeBankFile(
            "You downloaded this file, so that somebody else has to find out that the bank never got it."
        )
    if refusal := acts_for_payee(by, Payout.objects.filter(attempts__bank_file=file)):
        raise UnableToActForOneself(refusal)
    file.state, file.withdrawn_by, file.withdrawn_at = BankFile.State.WITHDRAWN, by, at
    file.note = reason.strip()[:500]
    file.save(update_fields=["state", "withdrawn_by", "withdrawn_at", "note"])
    audit(
        by=by,
        action="withdraw_bank_file",
        subject=f"run:{run.public_id}",
        at=at,
        seen=seen,
        after={"file": file.message_id, "reason": file.note},
    )
    for attempt in attempts:
        payout = payouts[attempt.payout_id]
        attempt.state, payout.state = PayoutAttempt.State.UNKNOWN, Payout.State.UNKNOWN
        attempt.save(update_fields=["state"])
        payout.save(update_fields=["state"])
        void_attempt(payout=payout, attempt=attempt, at=at, pace=LIVE)
    return file
