"""A contributor's pages about money: five numbers that add up, the obstacles to the next payout, past payments."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from contributors.models import Contributor
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import Entry
from ledger.money import asset, from_minor
from ledger.queries import earnings, receipts
from ledger.queries.balances import balances_of
from ledger.templatetags.amounts import amount_text
from payouts.models import PayoutAccount
from payouts.operations import holds
from payouts.queries import payees
from people.models import AuditEvent
from people.operations.users import enrol_totp
from people.presentation.amounts import text_in_minor
from tests.people.presentation.papers import text_of as paper_text_of
from tests.worlds.browser import TOTP_SECRET, LogIn, member_of, words_of
from tests.worlds.pages import sure
from tests.worlds.programme import Programme
from tests.worlds.world import SEEN, World

HOME, PAYOUTS = "payouts:home", "payouts:payouts"


def accrue(world: World, contributor: Contributor, units: int) -> None:
    """Something earned in a month that is not closed."""
    journal.post(
        kind="close_guarantee",
        idem_key=f"accrued:{contributor.pk}",
        effective=world.at.date(),
        lines=[
            (AccountKey("programme_cost", "USD"), -units),
            (AccountKey("contributor_accrued", "USD", f"contributor:{contributor.pk}"), units),
        ],
    )


def account_of(contributor: Contributor) -> PayoutAccount:
    account = payees.account_of(contributor)
    assert account is not None
    return account


def in_cents(units: int) -> str:
    return text_in_minor(units, asset("USD"))


def tiles(page: str) -> dict[str, str]:
    names = ("Pending", "Payable", "Held", "In transit", "Paid so far")
    return {name: re.search(rf"{name} (USD [\d,.]+)", page)[1] for name in names}  # type: ignore[index]


def test_the_five_numbers_are_the_ledgers_and_add_up(paying: World, log_in: LogIn) -> None:
    world = paying
    contributor = world.contributor(1234)
    world.fund(1234)
    world.pay(world.executing())
    world.credit(contributor, 700, nanos=123)
    accrue(world, contributor, 4_991_203)
    page = words_of(log_in(member_of(contributor)).get(reverse(HOME)))
    [balances] = balances_of(contributor.pk)
    assert tiles(page) == {
        "Pending": "USD 0.004991203",
        "Payable": "USD 7.000000123",
        "Held": "USD 0.00",
        "In transit": "USD 0.00",
        "Paid so far": "USD 12.34",
    }
    assert tiles(page)["Paid so far"] == amount_text(balances.paid, "USD")
    assert f"= {amount_text(balances.earned, 'USD')}, all that you have earned." in page
    assert balances.earned == 4_991_203 + from_minor(700, "USD") + 123 + from_minor(1234, "USD")
    assert "The threshold is reached: the next run pays it." in page
    assert "Ready. The next run pays it." in page


def test_payable_money_under_a_hold_is_shown_as_held_with_the_reason(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1234)
    holds.place_hold(contributor=contributor, reason="dispute_or_claim", by=world.maker, at=world.at, seen=SEEN)
    client = log_in(member_of(contributor))
    page = words_of(client.get(reverse(HOME)))
    assert (tiles(page)["Payable"], tiles(page)["Held"]) == ("USD 0.00", "USD 12.34")
    assert "Somebody disputes the authorship of some of the works" in page
    page = words_of(client.get(reverse(PAYOUTS)))
    assert "A person releases it" in page


def test_the_works_that_earned_most_are_a_page_where_no_script_fetches_them(world: World, log_in: LogIn) -> None:
    client = log_in(member_of(world.contributor(1234)))
    page = client.get(reverse("payouts:top_works")).content.decode()
    assert "<title>Works that earned most" in page
    assert 'class="masthead' in page
    assert "<title>" not in client.get(reverse("payouts:top_works"), headers={"HX-Request": "true"}).content.decode()


def test_the_way_to_the_threshold_says_what_is_missing(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(310)
    response = log_in(member_of(contributor)).get(reverse(HOME))
    assert 'value="62" max="100"' in response.content.decode()
    page = words_of(response)
    assert "USD 3.10 of USD 5.00" in page
    assert "USD 1.90 to go before we can pay you." in page


def test_nobody_who_has_nothing_is_left_without_a_next_step(world: World, log_in: LogIn) -> None:
    page = words_of(log_in(member_of(world.contributor(outcome=None))).get(reverse(HOME)))
    assert "Nothing is earned yet." in page
    assert "Begin with your works" in page
    assert "Say where you want to be paid" in page


def test_the_blocking_task_names_what_stripe_asks_for(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1234)
    account = account_of(contributor)
    account.transfers_capability = PayoutAccount.Capability.INACTIVE
    account.requirements = {
        "currently_due": ["individual.dob.day", "individual.dob.month", "individual.dob.year", "external_account"],
        "pending_verification": ["individual.verification.document"],
    }
    account.save()
    client = log_in(member_of(contributor))
    for name in (HOME, PAYOUTS):
        page = words_of(client.get(reverse(name)))
        assert "Stripe needs your date of birth and a bank account to pay to" in page
        assert "processing" not in page.lower()
    assert "Stripe is checking a photograph of an identity document" in words_of(client.get(reverse(PAYOUTS)))


def test_why_one_was_left_out_of_the_last_run_is_told(world: World, log_in: LogIn) -> None:
    world.contributor(9999)
    small = world.contributor(310)
    world.in_review()
    page = words_of(log_in(member_of(small)).get(reverse(PAYOUTS)))
    assert "It is below the minimum payout of USD 5.00." in page
    assert "it is carried over and paid once it is enough." in page


def test_a_contributor_raises_the_threshold(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1234)
    client = log_in(world.owner)
    page = words_of(sure(client, reverse("payouts:threshold"), {"minimum_minor": "USD 25"}, follow=True))
    assert "You are paid from USD 25.00 on." in page
    assert account_of(contributor).minimum_minor == 2500
    assert "USD 12.34 of USD 25.00" in page
    response = sure(client, reverse("payouts:threshold"), {"minimum_minor": "a lot"})
    assert response.status_code == 422
    assert "is no number, such as 1250.50" in words_of(response)


@pytest.mark.parametrize(("currency", "typed", "written"), [("JPY", "2500", "2,500"), ("KWD", "25.500", "25.500")])
def test_a_threshold_is_repeated_with_the_decimals_of_its_currency(
    world: World, log_in: LogIn, currency: str, typed: str, written: str
) -> None:
    contributor = world.contributor(1234)
    Contributor.objects.filter(pk=contributor.pk).update(currency=currency)
    entry = {"minimum_minor": typed}
    page = words_of(sure(log_in(world.owner), reverse("payouts:threshold"), entry, follow=True))
    assert f"You are paid from {currency} {written} on." in page


def test_changing_the_threshold_asks_who_it_is_after_five_minutes(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1234)
    response = sure(log_in(world.owner, factor_age=301), reverse("payouts:threshold"), {"minimum_minor": "25"})
    assert "reauthenticate" in response["Location"]
    assert account_of(contributor).minimum_minor == 0


@pytest.mark.parametrize(
    ("act", "country", "given"),
    [
        ("threshold", "US", {"minimum_minor": "25"}),
        ("pause_own", "US", {}),
        ("resume_own", "US", {}),
        ("set_up", "US", {}),
        (
            "bank_details",
            "BR",
            {"holder_name": "A", "iban": "GB33BUKB20201555555555", "town": "Recife", "address_country": "BR"},
        ),
    ],
)
def test_a_contributors_own_act_is_logged_with_the_address_and_the_age_of_the_factor(
    paying: World, log_in: LogIn, act: str, country: str, given: dict[str, str]
) -> None:
    outcome = None if act in ("set_up", "bank_details") else "complete"
    contributor = paying.contributor(1234, outcome=outcome, country=country)
    if act == "resume_own":
        holds.pause_own_payouts(contributor=contributor, by=paying.owner, at=paying.at)
    enrol_totp(user=paying.owner, secret=TOTP_SECRET)
    before = AuditEvent.objects.latest("sequence")
    client = log_in(paying.owner, factor_age=30)
    given = given | {"contributor": str(contributor.public_id)}
    response = sure(client, reverse(f"payouts:{act}"), given, headers={"X-Request-ID": "r1"})
    assert response.status_code in (200, 302)
    [event] = AuditEvent.objects.filter(sequence__gt=before.sequence, actor=paying.owner)
    assert (event.ip, event.request_id) == ("127.0.0.1", "r1")
    assert event.mfa_age_seconds in range(30, 60)


def test_onboarding_leads_to_stripe_and_arriving_back_means_nothing(paying: World, log_in: LogIn) -> None:
    world = paying
    assert world.sandbox is not None
    contributor = world.contributor(1234, outcome=None)
    client = log_in(world.owner)
    assert "Open my account at Stripe" in words_of(client.get(reverse("payouts:set_up")))
    leaving = client.post(reverse("payouts:set_up"))
    assert leaving.status_code == 200, "a redirect of a form to another site is stopped by form-action"
    assert f'href="{world.sandbox.url}' in leaving.content.decode()
    account = account_of(contributor)
    assert account.provider_account_id is not None

    page = words_of(client.get(reverse("payouts:returned"), follow=True))
    assert "Stripe still needs" in page
    assert "You can be paid." not in page
    again = client.get(reverse("payouts:onboarding"))
    assert again.status_code == 302
    assert again["Location"].startswith(world.sandbox.url)

    world.sandbox.happens(account.provider_account_id, "complete")
    page = words_of(client.get(reverse("payouts:returned"), follow=True))
    assert "Stripe has all it needs. You can be paid." in page
    assert "Ready to be paid" in page
    assert "Your account is open" in words_of(client.get(reverse("payouts:set_up")))


def test_somebody_without_an_account_is_taken_to_the_set_up(world: World, log_in: LogIn) -> None:
    world.contributor(outcome=None)
    client = log_in(world.owner)
    assert client.get(reverse("payouts:onboarding"))["Location"] == reverse("payouts:set_up")
    assert sure(client, reverse("payouts:threshold"), {})["Location"] == reverse("payouts:set_up")
    assert client.get(reverse("payouts:returned"))["Location"] == reverse(PAYOUTS)


def test_a_remittance_says_what_the_ledger_says(paying: World, log_in: LogIn) -> None:
    world = paying
    contributor = world.contributor(10_001)
    contributor.legal_name = "Zofia Łęcka-Ørsted (王) & Söhne <b>"
    contributor.details_since = contributor.created_at
    contributor.save()
    world.tax_form(contributor, 300_000_000)
    world.fund(10_001)
    run = world.pay(world.executing())
    payout = run.payouts.get()
    client = log_in(member_of(contributor))
    address = reverse("payouts:remittance", args=[payout.public_id])
    content = client.get(address).content
    assert content == client.get(address).content
    text = paper_text_of(content)
    reserve, succeed = Entry.objects.filter(reference=payout.attempts.get().idempotency_key).order_by("id")
    sums = {line.account.kind: line.amount for line in reserve.lines.select_related("account")}
    for units in (-sums["contributor_payable"], sums["payouts_in_transit"]):
        assert amount_text(units, "USD") in text
    assert f"Tax withheld Withheld for US. {amount_text(-sums['tax_payable'], 'USD')}" in text
    assert f"Entry {reserve.pk}, payout reserved" in text
    assert bytes(reserve.hash).hex() in text
    assert bytes(succeed.hash).hex() in text
    assert str(payout.attempts.get().provider_transfer_id) in text
    assert contributor.legal_name in text

    page = words_of(client.get(reverse(PAYOUTS)))
    assert "USD 70.01" in page
    assert "On its way to your bank" in page


def test_there_is_no_remittance_before_the_transfer(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1234)
    payout = world.approved().payouts.get()
    client = log_in(member_of(contributor))
    assert client.get(reverse("payouts:remittance", args=[payout.public_id])).status_code == 404
    assert "after the transfer" in words_of(client.get(reverse(PAYOUTS)))


@pytest.mark.parametrize("name", [HOME, PAYOUTS, "payouts:top_works"])
def test_two_currencies_are_kept_apart(world: World, log_in: LogIn, name: str) -> None:
    contributor = world.contributor(1234)
    world.credit(contributor, 5678, currency="EUR")
    page = words_of(log_in(member_of(contributor)).get(reverse(name)))
    if name == HOME:
        assert "Payable EUR 56.78" in page
        assert "Payable USD 12.34" in page


def test_home_shows_the_latest_receipts_the_top_works_and_the_months(accrued: Programme) -> None:
    client, contributor = accrued.client(0), accrued.contributors[0]
    response = client.get(reverse(HOME))
    rows = receipts.receipts_of(contributor.pk, limit=5).rows
    page, source = words_of(response), response.content.decode()
    assert rows
    for row in rows:
        assert reverse("ledger:receipt", args=[row.generation_id]) in source
        assert amount_text(row.amount, row.currency) in page
    [balances] = balances_of(contributor.pk)
    # Cents first, the exact amount on demand.
    assert tiles(page)["Pending"] == in_cents(balances.pending)
    assert f"Pending {in_cents(balances.pending)} Exactly {amount_text(balances.pending, 'USD')}" in page
    month = earnings.earnings_by_month(contributor.pk)[-1]
    assert amount_text(month.total, "USD") in page
    assert reverse("payouts:top_works") in source
    best = earnings.earnings_by_work(contributor.pk, month.period_id)[0]
    works = words_of(client.get(reverse("payouts:top_works")))
    assert best.work is not None
    assert f"{best.work.title} {in_cents(best.amount)} Exactly {amount_text(best.amount, 'USD')}" in works
    other = accrued.works_of(1)[0].title
    assert other not in page + works


def test_works_in_a_training_set_are_the_first_thing_said_while_nothing_is_earned(programme: Programme) -> None:
    page = words_of(programme.client(0).get(reverse(HOME)))
    assert "3 of your works are in the training set of" in page
    assert "Training generative models allowed" in page
