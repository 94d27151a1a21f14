"""Transfers, reversals and top-ups, as stripe-python sees them."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.sandbox_server import StripeSandbox, code_of


def send(sandbox: StripeSandbox, account: str, amount: int, **more: str) -> stripe.Transfer:
    given: Any = {"amount": amount, "currency": "usd", "destination": account, **more}
    return sandbox.client().v1.transfers.create(given)


def test_a_transfer_moves_money_from_the_platform_to_the_contributor(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    before = sandbox.available()
    transfer = client.v1.transfers.create(
        {
            "amount": 12_345,
            "currency": "usd",
            "destination": account,
            "transfer_group": "payout 1",
            "metadata": {"payout": "1"},
        }
    )
    assert transfer.id.startswith("tr_")
    assert transfer.destination == account
    assert transfer.transfer_group == "payout 1"
    assert transfer.metadata.to_dict() == {"payout": "1"}
    assert not transfer.livemode
    assert "status" not in transfer
    assert sandbox.available() == before - 12_345
    assert sandbox.available(account=account) == 12_345


def test_a_transfer_can_be_found_by_its_group_and_only_by_it(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    made = send(sandbox, account, 5, transfer_group="look-up 1")
    send(sandbox, account, 5, transfer_group="look-up 2")
    found = client.v1.transfers.list({"transfer_group": "look-up 1", "limit": 100})
    assert [one.id for one in found.data] == [made.id]
    assert client.v1.transfers.list({"transfer_group": "never sent"}).data == []


def test_transfers_are_listed_newest_first_a_page_at_a_time_and_by_time(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    made = [send(sandbox, account, 1 + n).id for n in range(5)]
    first = client.v1.transfers.list({"destination": account, "limit": 2})
    assert [one.id for one in first.data] == made[:2:-1]
    assert first.has_more
    assert [one.id for one in first.auto_paging_iter()] == made[::-1]
    back = client.v1.transfers.list({"destination": account, "limit": 2, "ending_before": made[1]})
    assert [one.id for one in back.data] == [made[3], made[2]]
    created = first.data[0].created
    assert client.v1.transfers.list({"destination": account, "created": {"gt": created}}).data == []
    assert len(client.v1.transfers.list({"destination": account, "created": {"lte": created}}).data) == 5
    with pytest.raises(stripe.InvalidRequestError, match="less than or equal to 100"):
        client.v1.transfers.list({"limit": 101})


def test_an_answer_carries_whole_objects_where_they_are_asked_for(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    transfer = client.v1.transfers.create(
        {
            "amount": 700,
            "currency": "usd",
            "destination": account,
            "expand": ["balance_transaction", "destination_payment.balance_transaction"],
        }
    )
    assert isinstance(transfer.balance_transaction, stripe.BalanceTransaction)
    assert (transfer.balance_transaction.type, transfer.balance_transaction.net) == ("transfer", -700)
    assert transfer.balance_transaction.source == transfer.id
    payment = transfer.destination_payment
    assert isinstance(payment, stripe.Charge)
    assert isinstance(payment.balance_transaction, stripe.BalanceTransaction)
    assert (payment.balance_transaction.type, payment.balance_transaction.amount) == ("payment", 700)
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        client.v1.transfers.retrieve(transfer.id, {"expand": ["recipient"]})


def test_metadata_is_merged_and_an_empty_value_removes_its_key(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    transfer = client.v1.transfers.create(
        {"amount": 9, "currency": "usd", "destination": account, "metadata": {"run": "1", "payout": "2"}}
    )
    changed = client.v1.transfers.update(transfer.id, {"metadata": {"run": "", "attempt": "3"}, "description": "note"})
    assert changed.metadata.to_dict() == {"payout": "2", "attempt": "3"}
    assert client.v1.transfers.update(transfer.id, {"metadata": ""}).metadata.to_dict() == {}
    assert client.v1.transfers.retrieve(transfer.id).description == "note"


def test_a_transfer_is_reversed_in_parts_and_never_by_more_than_it_was(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    transfer = send(sandbox, account, 1_000)
    before = sandbox.available()
    part = client.v1.transfers.reversals.create(transfer.id, {"amount": 400, "metadata": {"why": "refund"}})
    assert (part.amount, part.transfer) == (400, transfer.id)
    now = client.v1.transfers.retrieve(transfer.id)
    assert (now.amount_reversed, now.reversed) == (400, False)
    with pytest.raises(stripe.InvalidRequestError, match="greater than unreversed amount"):
        client.v1.transfers.reversals.create(transfer.id, {"amount": 601})
    rest = client.v1.transfers.reversals.create(transfer.id, {"expand": ["destination_payment_refund"]})
    assert rest.amount == 600
    assert isinstance(rest.destination_payment_refund, stripe.Refund)
    assert rest.destination_payment_refund.source_transfer_reversal == rest.id
    with pytest.raises(stripe.InvalidRequestError, match="already fully reversed"):
        client.v1.transfers.reversals.create(transfer.id)
    assert client.v1.transfers.retrieve(transfer.id).reversed
    assert sandbox.available() == before + 1_000
    assert sandbox.available(account=account) == 0
    listed = client.v1.transfers.reversals.list(transfer.id)
    assert [one.id for one in listed.data] == [rest.id, part.id]
    assert client.v1.transfers.reversals.retrieve(transfer.id, part.id).metadata.to_dict() == {"why": "refund"}  # type: ignore[union-attr]


def test_a_reversal_needs_the_money_to_be_there_still(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    transfer = send(sandbox, account, 1_000)
    sandbox.adjust(account, -1)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.transfers.reversals.create(transfer.id)
    assert code_of(caught.value) == "balance_insufficient"
    assert client.v1.transfers.reversals.create(transfer.id, {"amount": 999}).amount == 999


def test_a_recipient_has_the_money_a_day_later(sandbox: StripeSandbox) -> None:
    client = sandbox.client()
    account = sandbox.add_account(country="DE", tos_acceptance={"service_agreement": "recipient"})
    transfer = send(sandbox, account, 1_000, currency="usd")
    at_first = client.v1.balance.retrieve(options={"stripe_account": account})
    assert (at_first.available[0].amount, at_first.pending[0].amount) == (0, 920)
    reversal = client.v1.transfers.reversals.create(transfer.id, {"amount": 500})
    assert reversal.amount == 500
    sandbox.control("POST", "advance", {"seconds": 86_400})
    later = client.v1.balance.retrieve(options={"stripe_account": account})
    assert later.pending[0].amount == 0
    moved = client.v1.balance_transactions.list(options={"stripe_account": account})
    assert sum(one.net for one in moved.data if one.type != "payout") == 460
    assert {one.status for one in moved.data} == {"available"}


def test_a_converted_transfer_tells_its_rate_and_parts_of_a_reversal_add_up(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account(country="FR")
    transfer = send(sandbox, account, 1_001, currency="usd")
    payment = client.v1.charges.retrieve(
        str(transfer.destination_payment), {"expand": ["balance_transaction"]}, {"stripe_account": account}
    )
    movement = payment.balance_transaction
    assert isinstance(movement, stripe.BalanceTransaction)
    assert (movement.amount, movement.currency, movement.exchange_rate) == (920, "eur", 0.92)
    for part in (333, 333, 335):
        client.v1.transfers.reversals.create(transfer.id, {"amount": part})
    assert sandbox.available("eur", account) == 0


def test_a_topup_adds_to_the_platform_at_once_or_after_its_time(undisturbed: StripeSandbox) -> None:
    client = undisturbed.client()
    topup = client.v1.topups.create(
        {"amount": 500, "currency": "eur", "description": "programme", "metadata": {"a": "1"}}
    )
    assert topup.status == "succeeded"
    assert client.v1.topups.retrieve(topup.id).balance_transaction == topup.balance_transaction
    undisturbed.settings(topup_seconds=3600)
    waiting = client.v1.topups.create({"amount": 700, "currency": "eur"})
    assert waiting.status == "pending"
    assert undisturbed.available("eur") == 500
    undisturbed.advance(hours=1)
    assert client.v1.topups.retrieve(waiting.id).status == "succeeded"
    assert undisturbed.available("eur") == 1_200
    large = client.v1.topups.list({"amount": {"gte": 600}, "status": "succeeded"})
    assert large.data[0].id == waiting.id


def test_every_movement_of_the_platform_can_be_listed_by_type_source_and_time(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    transfer = send(sandbox, account, 321)
    client.v1.transfers.reversals.create(transfer.id, {"amount": 21})
    by_source = client.v1.balance_transactions.list({"source": transfer.id})
    assert [(one.type, one.net, one.reporting_category) for one in by_source.data] == [("transfer", -321, "transfer")]
    assert client.v1.balance_transactions.retrieve(by_source.data[0].id).source == transfer.id
    refunds = client.v1.balance_transactions.list({"type": "transfer_refund", "currency": "usd", "limit": 1})
    assert (refunds.data[0].net, refunds.data[0].reporting_category) == (21, "transfer_reversal")
    audit = sandbox.audit()
    assert audit["balances_that_do_not_add_up"] == []
