"""The rows of payouts for an administrator to look at. Nothing here can be added, changed or deleted."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Model

from payouts import models
from people.admin import ReadOnlyAdmin

_SHOWN: dict[type[Model], tuple[str, ...]] = {
    models.PayoutRun: ("public_id", "currency", "cut_off", "state", "n_payouts", "total_minor"),
    models.Payout: ("public_id", "run", "contributor", "currency", "amount_minor", "state"),
    models.PayoutAttempt: ("idempotency_key", "payout", "kind", "state", "provider_transfer_id"),
    models.LeftOut: ("run", "contributor", "reason", "amount"),
    models.PayoutAccount: ("contributor", "provider_account_id", "transfers_capability", "payouts_enabled"),
    models.SetUpAttempt: ("idempotency_key", "account", "provider_account_id", "failed_at"),
    models.EndedAccount: ("provider_account_id", "account", "country", "why", "ended_at"),
    models.PayoutPolicy: ("currency", "version", "minimum_minor", "maturity_days"),
    models.TaxProfile: ("contributor", "form", "country", "received_on", "valid_until", "withholding_ppb"),
    models.Hold: ("contributor", "reason", "placed_at", "released_at"),
    models.BankPayout: ("provider_payout_id", "account", "amount_minor", "currency", "state"),
    models.Reversal: ("provider_reversal_id", "payout", "amount_minor", "created_at"),
    models.TopUp: ("public_id", "currency", "amount_minor", "state"),
    models.WebhookEvent: ("event_id", "endpoint", "type", "state", "received_at"),
    models.IgnoredEvent: ("reason", "type", "endpoint", "n", "last_at"),
    models.Reconciliation: ("public_id", "kind", "currency", "until", "n_differences"),
    models.Difference: ("public_id", "type", "currency", "subject", "state"),
    models.Notice: ("kind", "subject", "contributor", "created_at"),
}

for _model, _columns in _SHOWN.items():
    admin.site.register(_model, type(f"{_model.__name__}Admin", (ReadOnlyAdmin,), {"list_display": _columns}))
