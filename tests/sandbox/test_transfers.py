"""Transfers, reversals and top-ups, as stripe-python sees them."""

from __future__ import annotations

import pytest
import stripe

from tests.sandbox_server import StripeSandbox


def test_a_transfer_moves_money_from_the_platform_to_the_contributor(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    before = client.v1.balance.retrieve().available[0].amount
    transfer = client.v1.transfers.create({
        "amount": 12_345, "currency": "usd", "destination": account, "transfer_group": "payout 1",
        "metadata": {"payout": "1"},
    })  # fmt: skip
    assert transfer.id.startswith("tr_")
    assert transfer.destination == account
    assert transfer.transfer_group == "payout 1"
    assert transfer.metadata.to_dict() == {"payout": "1"}
    assert not transfer.livemode
    assert "status" not in transfer
    assert client.v1.balance.retrieve().available[0].amount == before - 12_345
    theirs = client.v1.balance.retrieve(options={"stripe_account": account})
    assert theirs.available[0].amount == 12_345


def test_a_transfer_can_be_found_by_its_group_and_only_by_it(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    made = client.v1.transfers.create(
        {"amount": 5, "currency": "usd", "destination": account, "transfer_group": "look-up 1"}
    )
    client.v1.transfers.create({"amount": 5, "currency": "usd", "destination": account, "transfer_group": "look-up 2"})
    found = client.v1.transfers.list({"transfer_group": "look-up 1", "limit": 100})
    assert [one.id for one in found.data] == [made.id]
    assert client.v1.transfers.list({"transfer_group": "never sent"}).data == []
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter: transfergroup"):
        client.v1.transfers.list({"transfergroup": "look-up 1"})  # type: ignore[arg-type]
