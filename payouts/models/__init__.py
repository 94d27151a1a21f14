"""What is paid to whom, in which run, by which attempt, and whether it arrived.

The rules are constraints and triggers (sql/guards.sql): a row that breaks one cannot be written, by anybody.
Amounts of a payout are whole minor units of its currency (`_minor`); the ledger's are units at the asset's scale.
"""

from payouts.models.accounts import Hold, HoldReason, PayoutAccount, PayoutPolicy, TaxProfile
from payouts.models.records import AuditEvent, Difference, Notice, Reconciliation, WebhookEvent
from payouts.models.runs import BankPayout, LeftOut, Payout, PayoutAttempt, PayoutRun, Rail, Reversal, TopUp

__all__ = [
    "AuditEvent", "BankPayout", "Difference", "Hold", "HoldReason", "LeftOut", "Notice", "Payout", "PayoutAccount",
    "PayoutAttempt", "PayoutPolicy", "PayoutRun", "Rail", "Reconciliation", "Reversal", "TaxProfile", "TopUp",
    "WebhookEvent",
]  # fmt: skip
