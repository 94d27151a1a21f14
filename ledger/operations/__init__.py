"""The ledger's verbs, by noun. Each is idempotent by its key, takes time as `at=` and amounts in units of the asset."""

from ledger.operations.accruals import UnableToAccrue, accrue, withdraw_refusals
from ledger.operations.closing import UnableToClose, close_period
from ledger.operations.payouts import (
    UnableToRecordPayout,
    record_bank_return,
    record_transfer_reversal,
    refuse_payout,
    reserve_payout,
    reverse_withholding,
    succeed_payout,
)
from ledger.operations.periods import open_periods
from ledger.operations.plans import UnableToAdoptPlan, UnableToProposePlan, adopt_plan, plan_at, propose_plan
from ledger.operations.programme import (
    add_capital,
    record_stripe_fee,
    sweep_stripe,
    top_up_stripe,
)
from ledger.operations.sealing import UnableToSeal, seal_period
from ledger.operations.services import (
    UnableToBillService,
    apply_deposit,
    collect_receivable,
    invoice_service,
    prefund_service,
)

__all__ = [
    "UnableToAccrue",
    "UnableToAdoptPlan",
    "UnableToBillService",
    "UnableToClose",
    "UnableToProposePlan",
    "UnableToRecordPayout",
    "UnableToSeal",
    "accrue",
    "add_capital",
    "adopt_plan",
    "apply_deposit",
    "close_period",
    "collect_receivable",
    "invoice_service",
    "open_periods",
    "plan_at",
    "prefund_service",
    "propose_plan",
    "record_bank_return",
    "record_stripe_fee",
    "record_transfer_reversal",
    "refuse_payout",
    "reserve_payout",
    "reverse_withholding",
    "seal_period",
    "succeed_payout",
    "sweep_stripe",
    "top_up_stripe",
    "withdraw_refusals",
]
