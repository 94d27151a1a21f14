"""The ledger's verbs, by noun. Each is idempotent by its key, takes time as `at=` and amounts in units of the asset."""

from ledger.operations.accruals import UnableToAccrue, accrue, withdraw_refusals
from ledger.operations.claims import (
    UnableToSettleClaim,
    absorb_deficit,
    decide_dispute,
    escheat,
    find_owner,
    grant_advance,
    mark_dormant,
    open_dispute,
    reclaim,
    write_off_contributor,
    write_off_service,
)
from ledger.operations.closing import UnableToClose, close_period
from ledger.operations.contracts import (
    UnableToAdoptTerms,
    UnableToProposeTerms,
    UnableToRecordContract,
    adopt_terms,
    propose_terms,
    record_contract,
    reject_terms,
)
from ledger.operations.exchange import UnableToExchange, exchange_cash, exchange_debt
from ledger.operations.model_services import (
    UnableToBillService,
    apply_deposit,
    collect_receivable,
    invoice_service,
    prefund_service,
)
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
    match_cash,
    receive_unidentified,
    record_stripe_fee,
    remit_tax,
    sweep_stripe,
    top_up_stripe,
)
from ledger.operations.reserves import release_reserves
from ledger.operations.sealing import UnableToSeal, seal_period

__all__ = [
    "UnableToAccrue",
    "UnableToAdoptPlan",
    "UnableToAdoptTerms",
    "UnableToBillService",
    "UnableToClose",
    "UnableToExchange",
    "UnableToProposePlan",
    "UnableToProposeTerms",
    "UnableToRecordContract",
    "UnableToRecordPayout",
    "UnableToSeal",
    "UnableToSettleClaim",
    "absorb_deficit",
    "accrue",
    "add_capital",
    "adopt_plan",
    "adopt_terms",
    "apply_deposit",
    "close_period",
    "collect_receivable",
    "decide_dispute",
    "escheat",
    "exchange_cash",
    "exchange_debt",
    "find_owner",
    "grant_advance",
    "invoice_service",
    "mark_dormant",
    "match_cash",
    "open_dispute",
    "open_periods",
    "plan_at",
    "prefund_service",
    "propose_plan",
    "propose_terms",
    "receive_unidentified",
    "reclaim",
    "record_bank_return",
    "record_contract",
    "record_stripe_fee",
    "record_transfer_reversal",
    "refuse_payout",
    "reject_terms",
    "release_reserves",
    "remit_tax",
    "reserve_payout",
    "reverse_withholding",
    "seal_period",
    "succeed_payout",
    "sweep_stripe",
    "top_up_stripe",
    "withdraw_refusals",
    "write_off_contributor",
    "write_off_service",
]
