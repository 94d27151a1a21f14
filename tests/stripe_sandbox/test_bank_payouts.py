"""Payouts to the bank on the sandbox's own clock: automatic, manual, failed, returned late."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.sandbox_server import StripeSandbox, code_of


def pay(sandbox: StripeSandbox, account: str, amount: int = 1_000) -> None:
    sandbox.client().v1.transfers.create({"amount": amount, "currency": "usd", "destination": account})


def payouts_of(sandbox: StripeSandbox, account: str) -> list[stripe.Payout]:
    return sandbox.client().v1.payouts.list({"limit": 100}, {"stripe_account": account}).data


def manual(sandbox: StripeSandbox, account: str) -> Any:
    given: Any = {"payments": {"payouts": {"schedule": {"interval": "manual"}}}}
    return sandbox.client().v1.balance_settings.update(given, {"stripe_account": account})


def test_money_leaves_by_itself_every_day_and_arrives(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account()
    pay(sandbox, account, 600)
    pay(sandbox, account, 400)
    sandbox.advance_to_midnight()
    (payout,) = payouts_of(sandbox, account)
    assert (payout.amount, payout.automatic, payout.status) == (1_000, True, "pending")
    assert sandbox.available(account=account) == 0
    sandbox.advance(hours=6)
    assert payouts_of(sandbox, account)[0].status == "in_transit"
    sandbox.advance(days=2)
    (payout,) = payouts_of(sandbox, account)
    assert (payout.status, payout.reconciliation_status) == ("paid", "completed")
    held: Any = {"payout": payout.id, "type": "payment"}
    inside = sandbox.client().v1.balance_transactions.list(held, {"stripe_account": account})
    assert sum(one.net for one in inside.data) == 1_000


def test_a_bank_can_return_a_payout_days_after_it_was_paid(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account()
    pay(sandbox, account)
    sandbox.advance_to_midnight()
    sandbox.advance(days=3)
    (payout,) = payouts_of(sandbox, account)
    assert payout.status == "paid"
    sandbox.fail_payout(payout.id, "account_closed")
    (failed,) = payouts_of(sandbox, account)
    assert (failed.status, failed.failure_code) == ("failed", "account_closed")
    assert failed.failure_balance_transaction
    assert sandbox.available(account=account) == 1_000
    shown = sandbox.client().v1.accounts.retrieve(account)
    assert not shown.payouts_enabled
    sandbox.advance(days=2)
    assert len(payouts_of(sandbox, account)) == 1
    sandbox.happens(account, "change_bank")
    sandbox.advance(days=4)
    assert [one.status for one in payouts_of(sandbox, account)] == ["paid", "failed"]


def test_after_five_days_a_paid_payout_stays_paid(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account()
    pay(sandbox, account)
    sandbox.advance(days=10)
    (payout,) = payouts_of(sandbox, account)
    with pytest.raises(AssertionError, match="cannot fail any more"):
        sandbox.fail_payout(payout.id)
    assert payouts_of(sandbox, account)[0].status == "paid"


def test_a_fault_switch_makes_the_next_payout_fail(undisturbed: StripeSandbox) -> None:
    account = undisturbed.add_account()
    pay(undisturbed, account)
    undisturbed.queue_faults("payout_fail:no_account", path="/v1/payouts", account=account)
    undisturbed.advance(days=4)
    (payout,) = payouts_of(undisturbed, account)
    assert (payout.status, payout.failure_code) == ("failed", "no_account")


def test_with_a_manual_schedule_nothing_leaves_until_it_is_asked_for(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    assert manual(sandbox, account).payments.payouts.schedule.interval == "manual"
    assert client.v1.balance_settings.retrieve(options={"stripe_account": account}).payments.payouts is not None
    pay(sandbox, account)
    sandbox.advance(days=3)
    assert payouts_of(sandbox, account) == []
    here: Any = {"stripe_account": account}
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.payouts.create({"amount": 1_001, "currency": "usd"}, here)
    assert code_of(caught.value) == "balance_insufficient"
    payout = client.v1.payouts.create({"amount": 700, "currency": "usd", "statement_descriptor": "RUN 7"}, here)
    assert (payout.status, payout.automatic, payout.reconciliation_status) == ("pending", False, "not_applicable")
    noted = client.v1.payouts.update(payout.id, {"metadata": {"run": "7"}}, here).metadata
    assert noted is not None
    assert noted["run"] == "7"
    assert client.v1.payouts.cancel(payout.id, options=here).status == "canceled"
    assert sandbox.available(account=account) == 1_000
    second = client.v1.payouts.create({"amount": 1_000, "currency": "usd"}, here)
    sandbox.advance(hours=12)
    with pytest.raises(stripe.InvalidRequestError, match="pending can be canceled"):
        client.v1.payouts.cancel(second.id, options=here)
    sandbox.advance(days=3)
    assert client.v1.payouts.retrieve(second.id, options=here).status == "paid"


def test_a_weekly_schedule_pays_on_its_day(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account()
    given: Any = {"payments": {"payouts": {"schedule": {"interval": "weekly", "weekly_payout_days": ["wednesday"]}}}}
    sandbox.client().v1.balance_settings.update(given, {"stripe_account": account})
    pay(sandbox, account)
    sandbox.advance(days=8)
    (payout,) = payouts_of(sandbox, account)
    # 1 January 1970 was a Thursday.
    assert (payout.created // 86_400 + 3) % 7 == 2


def test_an_account_without_payouts_cannot_ask_for_one(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account()
    pay(sandbox, account)
    sandbox.happens(account, "needs_info")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.client().v1.payouts.create({"amount": 1, "currency": "usd"}, {"stripe_account": account})
    assert code_of(caught.value) == "payouts_not_allowed"
    sandbox.advance(days=3)
    assert payouts_of(sandbox, account) == []


def test_the_platform_pays_itself_out_only_when_asked(sandbox: StripeSandbox) -> None:
    client = sandbox.client()
    sandbox.advance(days=2)
    assert client.v1.payouts.list().data == []
    payout = client.v1.payouts.create({"amount": 100, "currency": "usd"})
    sandbox.advance(days=3)
    assert client.v1.payouts.retrieve(payout.id).status == "paid"


def test_a_negative_balance_swallows_what_arrives(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account()
    sandbox.adjust(account, -500)
    assert sandbox.available(account=account) == -500
    pay(sandbox, account, 400)
    sandbox.advance(days=2)
    assert sandbox.available(account=account) == -100
    assert payouts_of(sandbox, account) == []
    assert sandbox.audit()["balances_that_do_not_add_up"] == []
