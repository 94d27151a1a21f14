"""The content of a remittance: one payout, from the payable balance to the transfer, each figure with its entry."""

from __future__ import annotations

from datetime import datetime

from contributors.queries.details import details_at
from ledger.models import Entry
from ledger.money import asset
from payouts.models import BankDetails, Payout, PayoutAttempt, Rail
from payouts.queries import words
from payouts.queries.arrivals import arrival_of
from people.presentation import codes, dates
from people.presentation.amounts import text_of_minor
from people.presentation.countries import COUNTRIES
from people.presentation.pdf import Column, Facts, Heading, Labelled, Lines, Paper, Row, Sum, Words
from people.presentation.pdf import pdf as pdf_of
from people.queries.programme import sender_of_papers

ENTRY_WORDS = {
    "payout_reserve": "payout reserved",
    "payout_succeed": "payout sent",
    "payout_refuse": "reserve given back",
    "transfer_reversed": "transfer reversed",
    "withholding_reversed": "withholding given back",
    "bank_return": "returned by the bank",
}
RETURNS = ("transfer_reversed", "bank_return", "withholding_reversed")


def entries_of(payout: Payout) -> list[Entry]:
    """Every journal entry of the payout, in the order of the chain."""
    keys: list[str] = []
    for attempt in payout.attempts.all():
        keys += [f"{kind}:{attempt.idempotency_key}" for kind in ("payout_reserve", "payout_succeed", "payout_refuse")]
    for reversal in payout.reversals.all():
        keys += [f"{kind}:{reversal.provider_reversal_id}" for kind in RETURNS]
    return list(Entry.objects.filter(idem_key__in=keys).order_by("id"))


def pdf(payout: Payout) -> bytes:
    """Return the remittance: the same bytes for the same rows, so that a payee's copy can be compared."""
    return pdf_of(paper_of(payout))


def paper_of(payout: Payout) -> Paper:
    """Lay the remittance out as plain values."""
    run = payout.run
    attempt = payout.attempts.filter(kind=PayoutAttempt.Kind.PAY, state=PayoutAttempt.State.SUCCEEDED).first()
    assert attempt is not None, "a remittance follows a transfer"
    assert payout.transferred_at is not None
    # The payee as named when the payment went out, under a later name too.
    payee = details_at(payout.contributor, payout.transferred_at)
    said = words.said(words.PAYOUT_STATES_TO_PAYEE, payout.state)
    names = dict.fromkeys([payee.legal_name, payee.display_name])
    facts = [
        ("Run", str(run)),
        ("Credits counted up to", f"{dates.moment(run.cut_off)}; matured before {dates.moment(run.matured_before)}"),
        ("Transfer", f"{attempt.provider_transfer_id} to {_where(payout)}, {dates.moment(payout.transferred_at)}"),
        ("State", f"{said.label}. {said.sentence}"),
    ]
    if payout.settled_at is not None:
        facts.append(("At your bank", dates.day(payout.settled_at)))
    elif payout.bank_payout is not None and payout.bank_payout.arrives_on is not None:
        facts.append(("Expected at your bank", dates.day(payout.bank_payout.arrives_on)))
    if (here := arrival_of(payout)) is not None:
        facts.append(("Amount at your bank", f"{here.amount}. {here.said}{f' {here.source}.' if here.source else ''}"))
    number = f"Payout {payout.public_id}"
    headline_note = f"Sent to your {_where(payout)} on {dates.moment(payout.transferred_at)}."
    proof = tuple(
        (f"Entry {entry.pk}, {ENTRY_WORDS.get(entry.kind, codes.spaced(entry.kind))}", bytes(entry.hash).hex())
        for entry in entries_of(payout)
    )
    return Paper(
        title="Remittance advice",
        running=number,
        number=number,
        sender=sender_of_papers(),
        recipient=(*names, COUNTRIES.get(payee.country, payee.country)),
        blocks=(
            Sum(_money(payout.amount_minor, payout.currency), headline_note),
            Heading("Calculation"),
            Lines((Column("Line", 70), Column("Amount", 30, "amount")), tuple(_rows(payout))),
            Heading("Transfer"),
            Facts(tuple(facts)),
            Heading("Ledger entries"),
            Facts(proof, "code"),
            Words(
                "Each entry is a link of the ledger's hash chain; the statement of the month of its date lists it.",
                soft=True,
            ),
            Words("Amounts below one minor unit stay payable and are carried to the next payout.", soft=True),
        ),
        made_at=_last_change(payout),
        country=payee.country,
    )


def _last_change(payout: Payout) -> datetime:
    """Return the moment from which on the remittance has had these rows."""
    moments = [payout.transferred_at, payout.settled_at, *(reversal.created_at for reversal in payout.reversals.all())]
    return max(moment for moment in moments if moment is not None)


def _where(payout: Payout) -> str:
    if payout.rail == Rail.STRIPE_TRANSFER:
        return f"Stripe account {payout.destination}"
    details = BankDetails.objects.filter(account_id=payout.account_id, fingerprint=payout.destination).first()
    return f"bank account {details}" if details else "bank account"


def _rows(payout: Payout) -> list[Row]:
    withheld = (
        f"Withheld for {payout.tax_jurisdiction}{f', {payout.tax_basis}' if payout.tax_basis else ''}."
        if payout.tax_minor
        else "Nothing was withheld."
    )
    lines = [
        ("Royalties paid out", "Taken from your payable balance by this payout, in whole minor units.",
         payout.gross_minor, False),
        ("Tax withheld", withheld, -payout.tax_minor, False),
        ("Paid to you", "", payout.amount_minor, True),
        *(("Reversed later", f"Reversal {reversal.provider_reversal_id}, {dates.moment(reversal.created_at)}.",
           -reversal.amount_minor, False)
          for reversal in payout.reversals.order_by("pk")),
    ]  # fmt: skip
    return [
        Row((Labelled(label, note) if note else label, _money(minor, payout.currency)), total=total)
        for label, note, minor, total in lines
    ]


def _money(minor: int, currency: str) -> str:
    return text_of_minor(minor, asset(currency))
