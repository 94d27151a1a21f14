"""What stands on a remittance: one payout, from the payable balance to the transfer, each figure with its entry."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings

from contributors.countries import COUNTRIES
from ledger.models import Entry
from ledger.money import asset, format_amount, from_minor
from payouts import words
from payouts.models import BankDetails, Payout, PayoutAttempt, Rail
from payouts.paper import Document, Row, render

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
    """The remittance's bytes: the same for the same rows, so that a payee's copy can be compared."""
    return render(document_of(payout))


def document_of(payout: Payout) -> Document:
    run, contributor = payout.run, payout.contributor
    attempt = payout.attempts.filter(kind=PayoutAttempt.Kind.PAY, state=PayoutAttempt.State.SUCCEEDED).first()
    assert attempt is not None, "a remittance follows a transfer"
    assert payout.transferred_at is not None
    said = words.said(words.PAYOUT_STATES_TO_PAYEE, payout.state)
    names = dict.fromkeys([contributor.legal_name, contributor.display_name])
    facts = [
        ("Run", str(run)),
        ("Credits counted up to", f"{_moment(run.cut_off)}; matured before {_moment(run.matured_before)}"),
        ("Transfer", f"{attempt.provider_transfer_id} to {_where(payout)}, {_moment(payout.transferred_at)}"),
        ("State", f"{said.label}. {said.sentence}"),
    ]
    if payout.settled_at is not None:
        facts.append(("At your bank", _day(payout.settled_at)))
    elif payout.bank_payout is not None and payout.bank_payout.arrives_on is not None:
        facts.append(("Expected at your bank", f"{payout.bank_payout.arrives_on:%-d %B %Y}"))
    return Document(
        title="Remittance advice",
        number=f"Payout {payout.public_id}",
        payer=(settings.PROGRAMME_NAME, settings.SITE_URL),
        payee=(*names, COUNTRIES.get(contributor.country, contributor.country)),
        headline=_money(payout.amount_minor, payout.currency),
        headline_note=f"Sent to your {_where(payout)} on {_moment(payout.transferred_at)}.",
        facts=tuple(facts),
        rows=tuple(_rows(payout)),
        proof=tuple(
            (f"Entry {entry.pk}, {ENTRY_WORDS.get(entry.kind, words.spaced(entry.kind))}", bytes(entry.hash).hex())
            for entry in entries_of(payout)
        ),
        closing=(
            "Each entry is a link of the ledger's hash chain; the statement of the month of its date lists it.",
            "Amounts below one minor unit stay payable and are carried to the next payout. Times are in UTC.",
        ),
    )


def _where(payout: Payout) -> str:
    if payout.rail == Rail.STRIPE_TRANSFER:
        return f"Stripe account {payout.destination}"
    details = BankDetails.objects.filter(account_id=payout.account_id, fingerprint=payout.destination).first()
    return f"bank account {details}" if details else "bank account"


def _rows(payout: Payout) -> list[Row]:
    currency = payout.currency
    rows = [
        Row(
            "Royalties paid out",
            "Taken from your payable balance by this payout, in whole minor units.",
            _money(payout.gross_minor, currency),
        )
    ]
    withheld = (
        f"Withheld for {payout.tax_jurisdiction}{f', {payout.tax_basis}' if payout.tax_basis else ''}."
        if payout.tax_minor
        else "Nothing was withheld."
    )
    rows.append(Row("Tax withheld", withheld, _money(-payout.tax_minor, currency)))
    rows.append(Row("Paid to you", "", _money(payout.amount_minor, currency), total=True))
    rows += [
        Row(
            "Taken back later",
            f"Reversal {reversal.provider_reversal_id}, {_moment(reversal.created_at)}.",
            _money(-reversal.amount_minor, currency),
        )
        for reversal in payout.reversals.order_by("pk")
    ]
    return rows


def _money(minor: int, currency: str) -> str:
    return f"{currency} {format_amount(from_minor(minor, currency), currency, decimals=asset(currency).exponent)}"


def _moment(at: datetime) -> str:
    return f"{at:%-d %B %Y, %H:%M} UTC"


def _day(at: datetime) -> str:
    return f"{at:%-d %B %Y}"
