"""An account at Stripe that ended: a fresh one for the same contributor, and the old id on record."""

from __future__ import annotations

from typing import Any

import pytest
import stripe
from django.db import IntegrityError, transaction

from contributors.models import Contributor
from payouts.models import BankPayout, EndedAccount, Payout, PayoutAccount, PayoutAttempt, Rail, SetUpAttempt
from payouts.operations import accounts, approval, building, ended_accounts
from payouts.queries import payees, standing
from payouts.reconciliation import comparison, inbox
from people import actor
from people.models import AuditEvent
from tests.worlds.world import SEEN, World, only, states


def _reasons(contributor: Contributor) -> set[str]:
    return {one.hold.reason for one in payees.open_holds(contributor)}


def _moves(paying: World, contributor: Contributor, country: str) -> None:
    """The contributor's country is another one from now on."""
    Contributor.objects.filter(pk=contributor.pk).update(country=country)
    contributor.refresh_from_db()
    accounts.sync_account(account=PayoutAccount.objects.get(contributor=contributor), at=paying.at)


def _ended_by_payee(paying: World, contributor: Contributor) -> PayoutAccount:
    assert paying.sandbox is not None
    paying.sandbox.happens(paying.account(contributor), "disconnect")
    accounts.sync_account(account=PayoutAccount.objects.get(contributor=contributor), at=paying.at)
    return ended_accounts.set_up_again(contributor=contributor, by=paying.owner, at=paying.at)


def test_a_disconnected_account_gets_a_fresh_one_and_past_payouts_keep_the_old(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(5000)
    old = paying.account(contributor)
    run = paying.pay(paying.executing())
    paid = only(run)
    account = _ended_by_payee(paying, contributor)
    assert account.provider_account_id not in (None, old)
    assert _reasons(contributor) == {"onboarding_incomplete", "bank_details_changed_recently"}
    ended = EndedAccount.objects.get(account=account)
    assert (ended.provider_account_id, ended.why, ended.ended_by) == (old, "disconnected", paying.owner)
    assert AuditEvent.objects.filter(action="end_stripe_account", subject=f"contributor:{contributor.pk}").exists()
    paid.refresh_from_db()
    assert (paid.destination, paid.state) == (old, "transferred")
    # Events about the old account change nothing about the new one.
    event: dict[str, Any] = {
        "id": "evt_old",
        "object": "event",
        "type": "account.application.deauthorized",
        "account": old,
    }
    event |= {"created": 1_700_000_000, "livemode": False, "data": {"object": {"id": "ca_1"}}}
    stored = inbox.record_webhook(endpoint="connect", event=event, payload="{}", headers={}, at=paying.at)
    assert stored is not None
    assert inbox.apply_webhook(event_id=stored, at=paying.at) == "applied"
    account.refresh_from_db()
    assert account.disconnected_at is None
    # The new one is paid by the next run, after the cool-down for money that goes elsewhere.
    paying.sandbox.happens(str(account.provider_account_id), "complete")
    account = accounts.sync_account(account=account, at=paying.at)
    assert _reasons(contributor) == {"bank_details_changed_recently"}


def test_an_account_that_is_connected_or_rejected_is_not_replaced_by_the_payee(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor()
    before = paying.account(contributor)
    with pytest.raises(ended_accounts.UnableToReplaceAccount, match="needs no replacement"):
        ended_accounts.set_up_again(contributor=contributor, by=paying.owner, at=paying.at)
    paying.sandbox.happens(before, "reject_fraud")
    with pytest.raises(ended_accounts.UnableToReplaceAccount, match="compliance decides"):
        ended_accounts.set_up_again(contributor=contributor, by=paying.owner, at=paying.at)
    assert paying.account(contributor) == before
    task = standing.task_of(contributor)
    assert task is not None
    assert not task.again


def test_compliance_opens_the_way_to_a_new_account_after_a_rejection(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor()
    paying.sandbox.happens(paying.account(contributor), "reject")
    accounts.sync_account(account=PayoutAccount.objects.get(contributor=contributor), at=paying.at)
    assert _reasons(contributor) == {"rejected_by_stripe"}
    given: dict[str, Any] = {"contributor": contributor, "reason": "Stripe's mistake", "at": paying.at, "seen": SEEN}
    with pytest.raises(actor.UnableToAct):
        ended_accounts.retire_account(by=paying.checker, **given)
    ended_accounts.retire_account(by=paying.compliance, **given)
    assert _reasons(contributor) == {"onboarding_incomplete", "bank_details_changed_recently"}
    assert contributor.notices.filter(kind="set_up_again").exists()
    account = accounts.open_payout_account(contributor=contributor, by=paying.owner, at=paying.at)
    assert account.set_ups.count() == 2
    assert not EndedAccount.objects.filter(provider_account_id=account.provider_account_id).exists()


def test_a_changed_country_takes_a_new_account_of_that_country(paying: World) -> None:
    contributor = paying.contributor()
    old = paying.account(contributor)
    _moves(paying, contributor, "DE")
    assert _reasons(contributor) == {"account_outdated"}
    account = ended_accounts.set_up_again(contributor=contributor, by=paying.owner, at=paying.at)
    assert account.country == "DE"
    assert account.provider_account_id != old
    assert "account_outdated" not in _reasons(contributor)


def test_a_payee_that_moved_out_of_stripes_countries_is_paid_by_bank_transfer(world: World) -> None:
    contributor = world.contributor()
    Contributor.objects.filter(pk=contributor.pk).update(country="BR")
    contributor.refresh_from_db()
    PayoutAccount.objects.filter(contributor=contributor).update(synced_at=world.at)
    ended_accounts.retire_account(contributor=contributor, reason="moved", by=world.checker, at=world.at, seen=SEEN)
    account = PayoutAccount.objects.get(contributor=contributor)
    assert (account.rail, account.provider_account_id) == (Rail.MANUAL_BANK_FILE, None)


def test_a_payout_approved_for_an_account_that_ended_is_held_and_the_next_run_pays_the_new_one(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(5000)
    old = paying.account(contributor)
    run = paying.approved()
    account = _ended_by_payee(paying, contributor)
    paying.sandbox.happens(str(account.provider_account_id), "complete")
    PayoutAccount.objects.filter(pk=account.pk).update(ready_at=None, bank_fingerprint="", bank_changed_at=None)
    accounts.sync_account(account=PayoutAccount.objects.get(pk=account.pk), at=paying.at)
    assert not _reasons(contributor)
    run = paying.pay(approval.start_execution(run=run, by=paying.checker, at=paying.at, seen=SEEN))
    held = only(run)
    assert (held.state, held.reason, held.destination) == ("held", "account_replaced", old)
    assert not PayoutAttempt.objects.filter(payout=held).exists()
    assert not _reasons(contributor)
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean
    again = building.build_run(currency="USD", cut_off=paying.at, by=paying.maker, at=paying.at)
    assert only(again).destination == account.provider_account_id
    assert states(again) == ["ready"]


def test_the_database_pays_no_account_that_ended_and_lets_none_come_back(world: World) -> None:
    contributor = world.contributor(5000)
    account = PayoutAccount.objects.get(contributor=contributor)
    old = str(account.provider_account_id)
    with pytest.raises(IntegrityError, match="without a record"), transaction.atomic():
        PayoutAccount.objects.filter(pk=account.pk).update(provider_account_id="acct_other")
    run = world.approved()
    ended_accounts.retire_account(contributor=contributor, reason="x", by=world.checker, at=world.at, seen=SEEN)
    with pytest.raises(IntegrityError, match="has ended"), transaction.atomic():
        PayoutAccount.objects.filter(pk=account.pk).update(provider_account_id=old)
    run.state = "executing"
    payout = only(run)
    with pytest.raises(IntegrityError), transaction.atomic():
        Payout.objects.filter(pk=payout.pk).update(state="sending")


def test_a_stored_failure_is_never_final_and_each_attempt_keeps_its_parameters(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(outcome=None)
    # The SDK asks three times under one key, which gives the stored failure again; the product then takes a new key.
    paying.sandbox.queue_faults("500_before", path="/v1/accounts")
    account = accounts.open_payout_account(contributor=contributor, by=paying.owner, at=paying.at)
    assert account.provider_account_id
    tries = list(SetUpAttempt.objects.filter(account=account).order_by("number"))
    assert len({one.idempotency_key for one in tries}) == len(tries)
    assert tries[-1].provider_account_id == account.provider_account_id
    with pytest.raises(IntegrityError), transaction.atomic():
        SetUpAttempt.objects.filter(pk=tries[0].pk).update(parameters={})


def test_an_account_that_was_opened_behind_a_stored_failure_is_found_and_not_opened_again(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(outcome=None)
    paying.sandbox.queue_faults("500_after", path="/v1/accounts")
    account = accounts.open_payout_account(contributor=contributor, by=paying.owner, at=paying.at)
    theirs = stripe.StripeClient(paying.sandbox.key, base_addresses={"api": paying.sandbox.url})
    opened = [
        found.id
        for found in theirs.v1.accounts.list({"limit": 100}).auto_paging_iter()
        if found.metadata and found.metadata.to_dict().get("contributor") == str(contributor.public_id)
    ]
    assert opened == [account.provider_account_id]


def test_a_refusal_ends_the_attempt_and_the_next_try_has_another_key(paying: World) -> None:
    contributor = paying.contributor(outcome=None)
    Contributor.objects.filter(pk=contributor.pk).update(country="XK")
    contributor.refresh_from_db()
    made = PayoutAccount.objects.create(
        contributor=contributor, country="XK", destination_currency="USD", created_at=paying.at
    )
    for _ in range(2):
        with pytest.raises(accounts.UnableToOpenAccount):
            accounts.open_payout_account(contributor=contributor, by=paying.owner, at=paying.at)
    assert [one.failed_at is not None for one in made.set_ups.order_by("number")] == [True, True]
    Contributor.objects.filter(pk=contributor.pk).update(country="US")
    contributor.refresh_from_db()
    account = accounts.open_payout_account(contributor=contributor, by=paying.owner, at=paying.at)
    assert account.provider_account_id
    assert account.set_ups.get(number=3).parameters["country"] == "US"


def test_a_bank_payout_of_the_old_account_still_settles_its_payouts(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(5000)
    old = paying.account(contributor)
    run = paying.pay(paying.executing())
    _moves(paying, contributor, "DE")
    ended_accounts.set_up_again(contributor=contributor, by=paying.owner, at=paying.at)
    paying.sandbox.advance(days=5)
    theirs = stripe.StripeClient(paying.sandbox.key, base_addresses={"api": paying.sandbox.url})
    [payout] = theirs.v1.payouts.list({}, {"stripe_account": old}).data
    event: dict[str, Any] = {
        "id": "evt_paid",
        "object": "event",
        "type": "payout.paid",
        "account": old,
        "livemode": False,
    }
    event |= {"created": 1_700_000_000, "data": {"object": {"id": payout.id}}}
    stored = inbox.record_webhook(endpoint="connect", event=event, payload="{}", headers={}, at=paying.at)
    assert stored is not None
    assert inbox.apply_webhook(event_id=stored, at=paying.at) == "applied"
    assert states(run) == ["settled"]
    assert BankPayout.objects.get().provider_account_id == old
