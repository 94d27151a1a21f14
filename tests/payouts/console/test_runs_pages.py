"""The board and a run: every figure on the page equals the ledger's, and exceptions are said."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from ledger.models import Line
from ledger.money import from_minor
from ledger.queries import balances, books
from ledger.templatetags.amounts import amount_text
from payouts.models import Payout, PayoutRun
from payouts.operations import accounts, building, holds
from payouts.queries import payees
from payouts.rails.stripe import calls
from tests.worlds.browser import LogIn, member_of, words_of
from tests.worlds.world import SEEN, World


def address(name: str, run: PayoutRun, *more: object) -> str:
    return reverse(f"payouts:{name}", args=[run.public_id, *more])


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_a_maker_builds_and_submits_a_run(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    client = log_in(world.maker)
    page = words_of(client.get(reverse("payouts:runs")))
    assert "No run yet" in page
    today = world.at.date().isoformat()
    response = client.post(reverse("payouts:build"), {"currency": "USD", "cut_off": today})
    run = PayoutRun.objects.get()
    assert response["Location"] == address("run", run)
    page = words_of(client.post(address("submit", run), follow=True))
    assert "The run is frozen and waits for another person to approve it." in page
    run.refresh_from_db()
    assert run.state == PayoutRun.State.IN_REVIEW
    assert run.hash_hex in page


def test_a_second_run_of_a_currency_is_refused_in_words(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    world.in_review()
    client = log_in(world.maker)
    form = {"currency": "USD", "cut_off": world.at.date().isoformat()}
    response = client.post(reverse("payouts:build"), form)
    assert response.status_code == 409
    assert "A USD run is open already; finish or cancel it first." in words_of(response)


def test_the_form_offers_a_currency_without_an_open_run_first(world: World, log_in: LogIn) -> None:
    payee = world.contributor(1234)
    world.credit(payee, 1234, currency="EUR")
    client = log_in(world.maker)
    assert re.findall(r'<option value="([A-Z]{3})"', client.get(reverse("payouts:runs")).content.decode()) == [
        "EUR",
        "USD",
    ]
    building.build_run(currency="EUR", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN)
    assert re.findall(r'<option value="([A-Z]{3})"', client.get(reverse("payouts:runs")).content.decode()) == [
        "USD",
        "EUR",
    ]


def test_a_cut_off_in_the_future_is_marked_at_its_field(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    form = {"currency": "USD", "cut_off": (world.at + timedelta(days=2)).date().isoformat()}
    response = log_in(world.maker).post(reverse("payouts:build"), form)
    assert response.status_code == 422
    assert "The cut-off lies in the future." in words_of(response)


def test_the_control_totals_are_the_ledgers(world: World, log_in: LogIn) -> None:
    for minor, nanos in ((1234, 882_113), (56789, 1), (700, 9_999_999)):
        world.credit(world.contributor(), minor, nanos=nanos)
    run = world.in_review()
    page = words_of(log_in(world.checker).get(address("run", run)))
    owed = sum(balances.payable(c.pk, "USD", world.at) for c in world.contributors)
    assert f"Ledger, payable to them {amount_text(owed, 'USD')}" in page
    assert f"Run, to be sent {amount_text(from_minor(58723, 'USD'), 'USD')}" in page
    assert f"Stays owed to them {amount_text(owed - from_minor(58723, 'USD'), 'USD')}" in page
    assert "Covers every payout" in page


def test_a_payee_whom_the_ledger_no_longer_covers_is_named(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1234)
    run = world.in_review()
    world.credit(contributor, -300)
    page = words_of(log_in(world.checker).get(address("approve", run)))
    assert f"The ledger does not cover {contributor}" in page
    assert "Does not cover all" in page


def test_who_is_left_out_stands_there_with_the_reason(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    small, new, held = world.contributor(499), world.contributor(2000, outcome=None), world.contributor(3000)
    holds.place_hold(contributor=held, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)
    run = world.built()
    page = words_of(log_in(world.maker).get(address("run", run)))
    for contributor, reason in ((small, "Below the threshold"), (new, "No payout account"), (held, "On hold")):
        assert f"{contributor} {reason}" in page
    assert "3 in all USD 54.99" in page
    rows = rows_of(log_in(world.maker).get(address("left_out_csv", run)).content)
    assert {row["reason"] for row in rows} == {"below_threshold", "not_onboarded", "held"}
    assert sum(float(row["amount"]) for row in rows) == pytest.approx(54.99)


def test_a_run_that_pays_nobody_cannot_be_submitted(world: World, log_in: LogIn) -> None:
    world.contributor(100)
    run = world.built()
    client = log_in(world.maker)
    assert "This run pays nobody" in words_of(client.get(address("run", run)))
    assert "The run pays nobody." in words_of(client.post(address("submit", run), follow=True))


def test_the_list_is_searched_and_filtered(world: World, log_in: LogIn) -> None:
    first, second = world.contributor(1234), world.contributor(5678)
    run = world.built()
    client = log_in(world.maker)

    def listed(**query: str) -> set[int]:
        return {p.contributor_id for p in client.get(address("run", run), query).context["page_obj"]}

    assert listed(q=first.display_name) == {first.pk}
    assert listed(state="ready") == {first.pk, second.pk}
    assert listed(state="held") == set()
    assert listed(state="'; drop table", q="%") == set()


def test_a_name_that_is_a_formula_is_no_formula_in_the_csv(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1234)
    contributor.display_name = '=HYPERLINK("http://evil.example","x")'
    contributor.legal_name = "+cmd|' /C calc'!A0"
    contributor.save()
    run = world.built()
    [row] = rows_of(log_in(world.maker).get(address("run_csv", run)).content)
    assert row["display_name"] == "'" + contributor.display_name
    assert row["legal_name"] == "'" + contributor.legal_name
    assert (row["amount"], row["currency"], row["tax_withheld"]) == ("12.34", "USD", "0.00")


def test_a_run_is_compared_with_the_last_one(paying: World, log_in: LogIn) -> None:
    world = paying
    same, grown, gone = world.contributor(2000), world.contributor(2000), world.contributor(2000)
    world.fund(20_000)
    first = world.pay(world.executing())
    client, reader = log_in(world.checker), log_in(world._user("auditor", "auditor"))
    page = words_of(client.post(address("reconcile", first), follow=True))
    assert "Ours, the ledger's and Stripe's figures agree." in page
    page = words_of(client.post(address("close", first), follow=True))
    assert "The run is closed." in page
    controls = reader.get(address("run", first)).context["controls"]
    assert controls.booked == controls.paid == controls.at_stripe == from_minor(6000, "USD")
    assert "Ledger, booked as sent USD 60.00" in words_of(reader.get(address("run", first)))

    new = world.contributor(2000)
    world.credit(same, 2100)
    world.credit(grown, 3100)
    account = payees.account_of(grown)
    assert account is not None
    assert account.provider_account_id is not None
    assert world.sandbox is not None
    world.sandbox.happens(account.provider_account_id, "change_bank")
    account = accounts.sync_account(account=account, at=world.at - timedelta(days=10))
    accounts.sync_account(account=account, at=world.at)
    second = world.in_review()
    context = reader.get(address("run", second)).context
    review = context["review"]
    assert review.previous == first
    assert [p.contributor for p in review.new_payees] == [new]
    assert [p.contributor for p in context["removed"]] == [gone]
    assert [(c.payout.contributor, c.percent) for c in review.large_changes] == [(grown, 55)]
    assert [p.contributor for p in review.bank_changed] == [grown]
    page = words_of(reader.get(address("run", second)))
    assert "Bank details changed in the last 30 days (1)" in page
    assert "+55 %" in page


def test_a_run_is_executed_from_the_page_and_followed_to_the_payee(paying: World, log_in: LogIn) -> None:
    world = paying
    contributor = world.contributor(4321)
    world.fund(4321)
    run = world.approved()
    client = log_in(world.maker)
    page = words_of(client.get(address("execute", run)))
    assert "Stripe, available" in page
    assert "Suffices" in page
    assert "The run is executing." in words_of(client.post(address("execute", run), follow=True))
    progress = client.get(address("progress", run)).content.decode()
    assert "every 2s" in progress
    world.pay(run)
    progress = words_of(client.get(address("progress", run)))
    assert "1 of 1 payouts transferred" in progress
    assert "Every payout has its answer." in progress
    payout = run.payouts.get()
    page = words_of(client.get(address("payee", run, payout.public_id)))
    attempt = payout.attempts.get()
    assert attempt.idempotency_key in page
    assert str(attempt.provider_transfer_id) in page
    assert "Payout reserve" in page
    assert "Payout succeed" in page
    [row] = rows_of(client.get(address("attempts_csv", run)).content)
    assert (row["state"], row["amount"], row["transfer"]) == ("succeeded", "43.21", attempt.provider_transfer_id)
    booked = Line.objects.get(entry__idem_key=f"payout_succeed:{attempt.idempotency_key}", amount__lt=0)
    assert -booked.amount == from_minor(payout.amount_minor, "USD")
    remittance = client.get(address("payee_pdf", run, payout.public_id))
    assert remittance["Content-Type"] == "application/pdf"
    mine = log_in(member_of(contributor)).get(reverse("payouts:remittance", args=[payout.public_id]))
    assert mine.content == remittance.content


def test_a_start_without_enough_at_stripe_is_refused_in_words(paying: World, log_in: LogIn) -> None:
    world = paying
    world.contributor(calls.balance().available.get("USD", 0) + 100)
    run = world.approved()
    client = log_in(world.checker)
    assert "Too low: top it up" in words_of(client.get(address("execute", run)))
    response = client.post(address("execute", run))
    assert response.status_code == 409
    assert "The balance at Stripe is USD 1.00 short; top it up first." in words_of(response)


def test_a_run_is_paused_and_resumed(paying: World, log_in: LogIn) -> None:
    world = paying
    world.contributor(1000)
    world.fund(1000)
    run = world.executing()
    client = log_in(world.maker)
    page = words_of(client.post(address("pause", run), {"reason": "A payee called."}, follow=True))
    assert "Somebody paused it. A payee called." in page
    assert "Sending goes on where it stopped." in words_of(client.get(address("resume", run)))
    assert "The run goes on." in words_of(client.post(address("resume", run), follow=True))
    world.pay(run)
    assert run.payouts.get().state == Payout.State.TRANSFERRED
    response = client.post(address("pause", run), {"reason": "Too late."})
    assert response.status_code in {302, 409}


def test_stripes_silence_is_shown_and_breaks_no_page(
    world: World, log_in: LogIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "STRIPE_API_BASE", "http://127.0.0.1:9")
    monkeypatch.setattr(settings, "STRIPE_READ_KEY", "sk_test_nobody_answers")
    world.contributor(1234)
    run = world.in_review()
    page = words_of(log_in(world.checker).get(address("stripe_balance", run)))
    assert "Stripe gave no answer" in page


def test_the_board_groups_runs_and_sums_each_currency(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    world.in_review()
    client = log_in(world.checker)
    page = words_of(client.get(reverse("payouts:runs")))
    assert "Needs attention" in page
    assert "Sum in USD USD 12.34" in page
    home = words_of(client.get(reverse("payouts:console")))
    assert "Runs to approve 1" in home
    assert "USD 12.34 to 1 payee, built by" in home
    assert "You, as finance checker or admin" in home
    assert "You built or changed this run" in words_of(log_in(world.maker).get(reverse("payouts:console")))


@pytest.mark.parametrize("name", ["runs", "console"])
def test_a_list_of_runs_asks_the_database_as_often_however_long_it_is(world: World, log_in: LogIn, name: str) -> None:
    contributor = world.contributor(1234)
    for world.currency in ("JPY", "KWD", "USD"):
        world.credit(contributor, 50_000)
    client = log_in(world.checker)

    def n_queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            client.get(reverse(f"payouts:{name}"))
        return len(asked)

    world.built()
    n_queries()
    with_one = n_queries()
    for world.currency in ("JPY", "KWD"):
        world.built()
    assert n_queries() == with_one


def test_the_home_of_finance_shows_the_trial_balance_s_figures(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    world.credit(world.contributor(), 0, nanos=7)
    owed = next(row for row in books.trial_balance().rows["USD"] if row.kind == "contributor_payable")
    page = words_of(log_in(world.checker).get(reverse("payouts:console")))
    assert f"Payable {amount_text(owed.balance, 'USD')}" in page
