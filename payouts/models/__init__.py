"""Records of each payment: its payee, its run, its attempts, and whether it arrived.

The rules are constraints and triggers (sql/guards.sql, sql/rails.sql): a row that breaks one cannot be written, by
anybody. Amounts of a payout are whole minor units of its currency (`_minor`); the ledger's are units at the asset's
scale.
"""

from payouts.models.accounts import (
    Hold,
    HoldReason,
    PayoutAccount,
    PayoutPolicy,
    PolicyProposal,
    Rail,
    TaxProfile,
)
from payouts.models.banks import BankDetails, BankFile, BankLine
from payouts.models.payouts import BankPayout, Payout, PayoutAttempt, Reversal
from payouts.models.records import Difference, IgnoredEvent, MutedNotice, Notice, Reconciliation, WebhookEvent
from payouts.models.runs import LeftOut, PayoutRun, TopUp
from payouts.models.stripe_accounts import EndedAccount, SetUpAttempt

__all__ = [
    "BankDetails", "BankFile", "BankLine", "BankPayout", "Difference", "EndedAccount", "Hold", "HoldReason",
    "IgnoredEvent",
    "LeftOut",
    "MutedNotice", "Notice", "Payout", "PayoutAccount", "PayoutAttempt", "PayoutPolicy", "PayoutRun", "PolicyProposal",
    "Rail", "Reconciliation", "Reversal", "SetUpAttempt", "TaxProfile", "TopUp", "WebhookEvent",
]  # fmt: skip
