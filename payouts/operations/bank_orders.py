"""The orders of a bank file: the programme's account, each payee's approved account, and the values of each order."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal

from django.conf import settings

from ledger.money import asset, format_amount, from_minor
from payouts.attempts.recording import hold_payout
from payouts.models import BankDetails, HoldReason, Payout
from payouts.operations.banks import checked_iban, party_of, why_not_payable
from payouts.rails.bank.pain import Order, Party, why_not_name
from payouts.rails.transfers import is_sepa
from people.queries.programme import programme


class UnableToExport(Exception):
    """The run is not executing by bank transfer, nothing is left to order, or the programme's account is unknown."""

    status = 409
    problem = "bank-file-not-made"


def programme_account(currency: str) -> Party:
    """Return the account that bank transfers of a currency are paid from. Raises UnableToExport where none is set."""
    iban, bic, holder = [*settings.PROGRAMME_ACCOUNTS.get(currency, "").split("/", 2), "", ""][:3]
    if not iban:
        raise UnableToExport(
            f"No account of the programme is set for {currency}: PROGRAMME_ACCOUNTS={currency}=IBAN or IBAN/BIC."
        )
    number = checked_iban(iban)
    return Party(holder.strip() or programme().payer, number.compact, bic or str(number.bic or ""))


def complete_accounts(payouts: list[Payout], at: datetime) -> dict[int, Party]:
    """Return the approved account of each payout, by its key. A hold takes those out that no bank would take."""
    found = {}
    for key, details in approved_details(payouts).items():
        found[key] = party_of(details)
    for payout in payouts:
        if refusal := why_not_payable(found[payout.pk]):
            del found[payout.pk]
            hold_payout(payout, HoldReason.BANK_DETAILS_INCOMPLETE, note=refusal, at=at)
    return found


def approved_details(payouts: list[Payout]) -> dict[int, BankDetails]:
    """The bank account that was approved for each."""
    rows = BankDetails.objects.filter(account__in={payout.account_id for payout in payouts}).order_by("-pk")
    known = {(row.account_id, row.fingerprint): row for row in rows}
    for payout in payouts:
        if (payout.account_id, payout.destination) not in known:
            raise UnableToExport(f"The bank account of {payout.contributor} that was approved is not known.")
    return {payout.pk: known[payout.account_id, payout.destination] for payout in payouts}


def refuse_name(debtor: Party, orders: list[Order], currency: str) -> None:
    """Refuse a name of the programme that the bank would refuse, or cut, together with the file."""
    if refusal := why_not_name(debtor.name, sepa=any(order.is_sepa for order in orders)):
        raise UnableToExport(
            f"The programme's name: {refusal} Set the holder of the account: "
            f"PROGRAMME_ACCOUNTS={currency}=IBAN/BIC/HOLDER."
        )


def order_of(payout: Payout, number: int, creditor: Party, debtor: Party, payer: str) -> Order:
    amount = from_minor(payout.amount_minor, payout.currency)
    return Order(
        instruction_id=f"{payout.public_id.hex}-{number}",
        end_to_end_id=payout.public_id.hex,
        creditor=creditor,
        amount=Decimal(format_amount(amount, payout.currency, decimals=asset(payout.currency).exponent)),
        remittance=f"{payer} royalties {payout.run.cut_off:%Y-%m-%d}",
        is_sepa=creditor.local is None and is_sepa(payout.currency, creditor.country, debtor.country),
    )


def request_of(order: Order, payout: Payout, execution_on: date) -> str:
    """The order as it is kept: its account by the fingerprint, not by its number."""
    return json.dumps(
        {
            "instruction_id": order.instruction_id,
            "end_to_end_id": order.end_to_end_id,
            "amount": str(order.amount),
            "currency": payout.currency,
            "destination": payout.destination,
            "remittance": order.remittance,
            "execution_on": execution_on.isoformat(),
        },
        sort_keys=True,
    )
