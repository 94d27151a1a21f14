"""The only door to Stripe: no other module imports its SDK. Our dataclasses out, our errors out."""

from payouts.gateway.calls import (
    account_link,
    balance,
    create_account,
    create_topup,
    create_transfer,
    find_transfers,
    list_balance_transactions,
    list_events,
    list_reversals,
    list_topups,
    list_transfers,
    retrieve_account,
    retrieve_bank_transfer,
    retrieve_topup,
    retrieve_transfer,
    reversal_request,
    reverse_transfer,
    transfer_request,
)  # fmt: skip
from payouts.gateway.client import boot_clock, is_live
from payouts.gateway.errors import Action, Outcome, UnableToSend, UnableToUseStripe, Verdict, classify
from payouts.gateway.values import (
    Account,
    Balance,
    BalanceTransaction,
    BankTransfer,
    ToppedUp,
    Transfer,
    TransferRequest,
    TransferReversal,
)  # fmt: skip
from payouts.gateway.webhooks import UnableToVerify, sign, verify_webhook

__all__ = [
    "Account", "Action", "Balance", "BalanceTransaction", "BankTransfer", "Outcome", "ToppedUp", "Transfer",
    "TransferRequest", "TransferReversal", "UnableToSend", "UnableToUseStripe", "UnableToVerify", "Verdict",
    "account_link", "balance", "boot_clock", "classify", "create_account", "create_topup", "create_transfer",
    "find_transfers", "is_live", "list_balance_transactions", "list_events", "list_reversals", "list_topups",
    "list_transfers", "retrieve_account", "retrieve_bank_transfer", "retrieve_topup", "retrieve_transfer",
    "reversal_request", "reverse_transfer", "sign", "transfer_request", "verify_webhook",
]  # fmt: skip
