"""Believing nobody: events are hints, and our rows, the ledger and Stripe are compared."""

from payouts.operations import sign_off
from payouts.reconciliation.banks import reconcile_bank_run
from payouts.reconciliation.comparison import UnableToReconcile, days_to_compare, reconcile_day, reconcile_run
from payouts.reconciliation.inbox import (
    UnableToRecordWebhook,
    UnableToReplay,
    apply_webhook,
    back_fill,
    is_live,
    record_webhook,
    replay_webhook,
    sync_bank_payout,
)  # fmt: skip
from payouts.reconciliation.sweeping import sweep_accounts, sweep_stuck, sweep_webhooks

__all__ = [
    "UnableToReconcile", "UnableToRecordWebhook", "UnableToReplay", "apply_webhook", "back_fill", "days_to_compare",
    "is_live", "reconcile_bank_run", "reconcile_day", "reconcile_run", "record_webhook", "replay_webhook", "sign_off",
    "sweep_accounts", "sweep_stuck", "sweep_webhooks", "sync_bank_payout",
]  # fmt: skip
