"""The amount of a payout in the currency of the payee's bank, with rate and source, or that nobody knows it."""

from __future__ import annotations

from dataclasses import dataclass

from payouts.models import Payout, Rail
from payouts.rails.amounts import currency_at_stripe
from people.presentation import amounts

NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Arrival:
    """`amount` is "EUR 64.40" or NOT_KNOWN; `said` explains it in one or two sentences for the payee."""

    currency: str
    amount: str
    number: str
    rate: str
    source: str
    said: str
    is_converted: bool = False


def arrival_of(payout: Payout) -> Arrival | None:
    """The arrival of a payout that was sent; None before. Needs `bank_payout` loaded."""
    if payout.state not in Payout.PAID:
        return None
    if payout.rail != Rail.STRIPE_TRANSFER:
        return _unknown(f"Our bank sent {payout.currency}. If your bank converts it, only your bank knows the amount.")
    if payout.arrived_minor is None:
        return _of_unknown_amount(payout)
    currency = currency_at_stripe(payout.arrived_currency)
    written = amounts.text_of_minor(payout.arrived_minor, currency)
    is_converted = payout.arrived_currency != payout.currency
    rate = f"{payout.exchange_rate} {payout.arrived_currency} for one {payout.currency}" if is_converted else ""
    if is_converted and not payout.exchange_rate:
        rate = NOT_KNOWN
    said = f"Converted by Stripe; rate: {rate}." if is_converted else "Not converted by Stripe."
    if payout.reversed_minor:
        said += " Before the reversal."
    return Arrival(
        currency=payout.arrived_currency,
        amount=written,
        number=amounts.plain(payout.arrived_minor, currency.scale),
        rate=rate,
        source=f"Stripe balance transaction {payout.arrival_source}",
        said=said,
        is_converted=is_converted,
    )


def _of_unknown_amount(payout: Payout) -> Arrival:
    if payout.bank_payout is None:
        return _unknown("Stripe has not named the payout to your bank yet.", payout.arrived_currency)
    if payout.arrived_currency in ("", payout.currency):
        return _unknown("Stripe does not say which amount of this payment went to your bank.", payout.arrived_currency)
    said = f"Stripe paid your bank in {payout.arrived_currency}, and does not say which amount is of this payment."
    return _unknown(said, payout.arrived_currency)


def _unknown(said: str, currency: str = "") -> Arrival:
    return Arrival(currency, NOT_KNOWN, NOT_KNOWN, "", "", said)
