"""The amount that reached a payee's bank: with Stripe's rate and source where Stripe states them, else "not known"."""

from __future__ import annotations

import csv
import io

import pytest
from django.urls import reverse

from contributors.models import Contributor
from payouts.exports import remittance, tables
from payouts.models import BankPayout, Notice, Payout, PayoutAccount
from payouts.queries import payees
from payouts.queries.arrivals import arrival_of
from payouts.rails.amounts import currency_at_stripe
from payouts.reconciliation import comparison
from payouts.reconciliation.bank_payouts import sync_bank_payout
from people.presentation.amounts import text_of_minor
from tests.people.presentation.papers import text_of as paper_text_of
from tests.worlds.browser import LogIn, log_in, member_of, words_of
from tests.worlds.world import World, only

__all__ = ["log_in"]


def settle(paying: World, contributor: Contributor) -> BankPayout:
    """Stripe pays the bank by itself, two days later."""
    assert paying.sandbox is not None
    paying.sandbox.advance(days=4)
    account = PayoutAccount.objects.get(contributor=contributor)
    listed = paying.sandbox.client().v1.payouts.list({}, {"stripe_account": paying.account(contributor)})
    return sync_bank_payout(account=account, payout_id=listed.data[0].id, at=paying.at)


def paid(paying: World, country: str, minor: int) -> tuple[Contributor, Payout]:
    contributor = paying.contributor(minor, country=country)
    return contributor, only(paying.pay(paying.executing()))


def history(contributor: Contributor) -> list[dict[str, str]]:
    text = tables.history(payees.payouts_of(contributor)).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_a_converted_payout_shows_the_currency_and_amount_that_arrived(paying: World, log_in: LogIn) -> None:
    contributor, payout = paid(paying, "DE", 7000)
    early = arrival_of(payout)
    assert early is not None
    assert (early.amount, early.is_converted) == ("not known", False)
    assert history(contributor)[0]["arrived_amount"] == "not known"
    bank = settle(paying, contributor)
    payout.refresh_from_db()
    assert (payout.state, bank.currency, bank.amount_minor) == ("settled", "EUR", 6440)
    assert (payout.arrived_minor, payout.arrived_currency, payout.exchange_rate) == (6440, "EUR", "0.92")
    assert payout.arrival_source.startswith("txn_")
    page = words_of(log_in(member_of(contributor)).get(reverse("payouts:payouts")))
    assert "EUR 64.40 Converted by Stripe; rate: 0.92 EUR for one USD." in page
    assert f"Stripe balance transaction {payout.arrival_source}" in page
    paper = paper_text_of(remittance.pdf(payout))
    assert "EUR 64.40. Converted by Stripe; rate: 0.92 EUR for one USD." in paper
    [row] = history(contributor)
    assert (row["paid"], row["arrived_currency"], row["arrived_amount"]) == ("70.00", "EUR", "64.40")
    assert (row["exchange_rate"], row["arrival_source"]) == (
        "0.92 EUR for one USD",
        f"Stripe balance transaction {payout.arrival_source}",
    )
    header, rows = tables.payouts_table(payout.run)
    assert dict(zip(header, rows[0], strict=True))["arrived_amount"] == "64.40"
    notice = Notice.objects.get(contributor=contributor, kind="payout_settled")
    assert notice.title == "EUR 64.40 for USD 70.00 arrived"


def test_each_payment_of_one_payout_to_the_bank_has_its_own_part(paying: World) -> None:
    contributor, first = paid(paying, "DE", 7000)
    assert comparison.reconcile_run(run=first.run, at=paying.at).is_clean
    paying.credit(contributor, 1234)
    second = only(paying.pay(paying.executing()))
    bank = settle(paying, contributor)
    for payout in (first, second):
        payout.refresh_from_db()
    assert (first.arrived_minor, second.arrived_minor, bank.amount_minor) == (6440, 1135, 7575)
    assert first.arrival_source != second.arrival_source


def test_a_payout_in_the_currency_of_the_bank_is_not_converted(paying: World) -> None:
    contributor, payout = paid(paying, "US", 7000)
    settle(paying, contributor)
    payout.refresh_from_db()
    here = arrival_of(payout)
    assert here is not None
    assert (here.amount, here.rate, here.is_converted, here.said) == (
        "USD 70.00",
        "",
        False,
        "Not converted by Stripe.",
    )


def test_an_amount_that_stripe_does_not_state_is_not_known(paying: World) -> None:
    """The bank's currency is known, and the part of this payment is not."""
    contributor, payout = paid(paying, "DE", 7000)
    settle(paying, contributor)
    payout.refresh_from_db()
    payout.arrived_minor, payout.exchange_rate, payout.arrival_source = None, "", ""
    here = arrival_of(payout)
    assert here is not None
    assert (here.amount, here.number, here.currency, here.rate) == ("not known", "not known", "EUR", "")
    assert "paid your bank in EUR" in here.said


def test_currencies_that_the_ledger_has_not_are_written_with_their_decimals() -> None:
    written = [text_of_minor(150_050, currency_at_stripe(code)) for code in ("CZK", "VND", "JOD", "JPY", "HUF")]
    assert written == ["CZK 1,500.50", "VND 150,050", "JOD 150.050", "JPY 150,050", "HUF 1,500.50"]


@pytest.mark.parametrize("country", ["CZ", "RO"])
def test_pages_take_a_payee_whose_bank_has_a_currency_without_an_account(
    paying: World, log_in: LogIn, country: str
) -> None:
    contributor, _ = paid(paying, country, 7000)
    settle(paying, contributor)
    BankPayout.objects.filter(account__contributor=contributor).update(note="Stripe does not say.")
    page = words_of(log_in(member_of(contributor)).get(reverse("payouts:payouts")))
    assert {"CZ": "CZK 1,610.00", "RO": "RON 320.60"}[country] in page
