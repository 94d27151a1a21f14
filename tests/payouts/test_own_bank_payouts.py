"""Payouts that a payee asks for at Stripe, manual or instant: Stripe lists no parts of them."""

from __future__ import annotations

import pytest
import stripe

from payouts.models import BankPayout, PayoutAccount, PayoutRun
from payouts.reconciliation import comparison
from payouts.reconciliation.bank_payouts import sync_bank_payout
from tests.worlds.world import World, states


def _transferred(paying: World, *minor: int) -> list[PayoutRun]:
    """One payee with manual payouts at Stripe, and a run for each amount."""
    assert paying.sandbox is not None
    contributor = paying.contributor()
    paying.sandbox.client().v1.balance_settings.update(
        {"payments": {"payouts": {"schedule": {"interval": "manual"}}}},
        {"stripe_account": paying.account(contributor)},
    )
    runs = []
    for amount in minor:
        paying.credit(contributor, amount)
        run = paying.pay(paying.executing())
        assert comparison.reconcile_run(run=run, at=paying.at).is_clean
        runs.append(run)
    paying.sandbox.advance(days=2)
    return runs


def _paid_out(paying: World, amount: int, *, method: str = "standard") -> BankPayout:
    """The payee asks for a payout at Stripe's dashboard, and it arrives."""
    assert paying.sandbox is not None
    [contributor] = paying.contributors
    account = paying.account(contributor)
    made = paying.sandbox.client().v1.payouts.create(
        {"amount": amount, "currency": "usd", "method": method},
        {"stripe_account": account, "idempotency_key": f"own-{account}-{amount}"},
    )
    paying.sandbox.advance(days=3)
    of = PayoutAccount.objects.get(contributor=contributor)
    return sync_bank_payout(account=of, payout_id=made.id, at=paying.at)


def test_stripe_and_the_sandbox_list_no_parts_of_a_manual_payout(paying: World) -> None:
    assert paying.sandbox is not None
    _transferred(paying, 5000)
    bank = _paid_out(paying, 5000)
    with pytest.raises(stripe.InvalidRequestError, match="automatic"):
        paying.sandbox.client().v1.balance_transactions.list(
            {"payout": bank.provider_payout_id}, {"stripe_account": bank.provider_account_id}
        )


@pytest.mark.parametrize("method", ["standard", "instant"])
def test_a_payout_of_the_whole_balance_settles_by_its_amount(paying: World, method: str) -> None:
    runs = _transferred(paying, 5000, 700)
    bank = _paid_out(paying, 5700, method=method)
    assert (bank.state, bank.automatic, bank.note) == ("paid", False, "")
    assert [states(run) for run in runs] == [["settled"], ["settled"]]
    # Days later the bank sends it back.
    assert paying.sandbox is not None
    paying.sandbox.fail_payout(bank.provider_payout_id)
    sync_bank_payout(account=bank.account, payout_id=bank.provider_payout_id, at=paying.at)
    assert [states(run) for run in runs] == [["bank_failed"], ["bank_failed"]]


def test_the_oldest_payment_leaves_first(paying: World) -> None:
    runs = _transferred(paying, 5000, 700)
    assert _paid_out(paying, 5000).note == ""
    assert [states(run) for run in runs] == [["settled"], ["transferred"]]
    assert _paid_out(paying, 700).note == ""
    assert [states(run) for run in runs] == [["settled"], ["settled"]]


def test_parts_that_no_amount_tells_are_said_and_settle_together_once_the_rest_has_left(paying: World) -> None:
    runs = _transferred(paying, 5000, 700)
    first = _paid_out(paying, 3000)
    assert "does not say" in first.note
    assert [states(run) for run in runs] == [["transferred"], ["transferred"]]
    assert _paid_out(paying, 2700).note == ""
    first.refresh_from_db()
    assert first.note == ""
    assert [states(run) for run in runs] == [["settled"], ["settled"]]
