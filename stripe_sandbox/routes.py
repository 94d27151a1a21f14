"""Map of the operations of Stripe's specification to their functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stripe_sandbox import account_pages, accounts, bank_payouts, events, money, transfers
from stripe_sandbox.events import Call

ROUTES: dict[tuple[str, str], Callable[[Call], dict[str, Any]]] = {
    ("POST", "/v1/accounts"): accounts.create_account,
    ("GET", "/v1/accounts"): accounts.list_accounts,
    ("GET", "/v1/accounts/{account}"): accounts.get_account,
    ("POST", "/v1/accounts/{account}"): accounts.update_account,
    ("DELETE", "/v1/accounts/{account}"): accounts.delete_account,
    ("POST", "/v1/accounts/{account}/reject"): accounts.reject_account,
    ("GET", "/v1/accounts/{account}/capabilities"): accounts.list_capabilities,
    ("GET", "/v1/accounts/{account}/capabilities/{capability}"): accounts.get_capability,
    ("POST", "/v1/accounts/{account}/capabilities/{capability}"): accounts.update_capability,
    ("GET", "/v1/accounts/{account}/external_accounts"): accounts.list_banks,
    ("POST", "/v1/account_links"): account_pages.create_account_link,
    ("POST", "/v1/account_sessions"): account_pages.create_account_session,
    ("GET", "/v1/balance"): money.get_balance,
    ("GET", "/v1/balance_transactions"): money.list_movements,
    ("GET", "/v1/balance_transactions/{id}"): money.get_movement,
    ("GET", "/v1/balance_settings"): bank_payouts.get_settings,
    ("POST", "/v1/balance_settings"): bank_payouts.update_settings,
    ("GET", "/v1/charges/{charge}"): transfers.get_payment,
    ("GET", "/v1/refunds/{refund}"): transfers.get_refund,
    ("GET", "/v1/events"): events.list_events,
    ("GET", "/v1/events/{id}"): events.get_event,
    ("POST", "/v1/payouts"): bank_payouts.create_payout,
    ("GET", "/v1/payouts"): bank_payouts.list_payouts,
    ("GET", "/v1/payouts/{payout}"): bank_payouts.get_payout,
    ("POST", "/v1/payouts/{payout}"): bank_payouts.update_payout,
    ("POST", "/v1/payouts/{payout}/cancel"): bank_payouts.cancel_payout,
    ("POST", "/v1/topups"): money.create_topup,
    ("GET", "/v1/topups"): money.list_topups,
    ("GET", "/v1/topups/{topup}"): money.get_topup,
    ("POST", "/v1/topups/{topup}"): money.update_topup,
    ("POST", "/v1/transfers"): transfers.create_transfer,
    ("GET", "/v1/transfers"): transfers.list_transfers,
    ("GET", "/v1/transfers/{transfer}"): transfers.get_transfer,
    ("POST", "/v1/transfers/{transfer}"): transfers.update_transfer,
    ("POST", "/v1/transfers/{id}/reversals"): transfers.create_reversal,
    ("GET", "/v1/transfers/{id}/reversals"): transfers.list_reversals,
    ("GET", "/v1/transfers/{transfer}/reversals/{id}"): transfers.get_reversal,
    ("POST", "/v1/transfers/{transfer}/reversals/{id}"): transfers.update_reversal,
    ("POST", "/v1/webhook_endpoints"): events.create_endpoint,
    ("GET", "/v1/webhook_endpoints"): events.list_endpoints,
    ("GET", "/v1/webhook_endpoints/{webhook_endpoint}"): events.get_endpoint,
    ("POST", "/v1/webhook_endpoints/{webhook_endpoint}"): events.update_endpoint,
    ("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}"): events.delete_endpoint,
}
