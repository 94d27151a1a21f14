"""Each contributor's earnings: accounts, the journal, its documents, periods and royalty plans."""

from ledger.models.advances import AdvanceCancellation, AdvanceProposal
from ledger.models.books import (
    Account,
    Accrual,
    Asset,
    Balance,
    ChainHead,
    CreditExport,
    Entry,
    EntryKind,
    Leaf,
    Line,
    Period,
    next_period,
    period_of,
    previous_period,
    utc_date,
)
from ledger.models.contracts import Contract, ContractTerms, ReserveInstalment
from ledger.models.corrections import Restatement, Void, VoidProposal
from ledger.models.disputes import ReceiptDispute
from ledger.models.earned import Earned, EarnedMark
from ledger.models.limits import MonthSpent, SpendAlert, SpendLimit
from ledger.models.manual import ManualEntry
from ledger.models.pools import PeriodPool, PoolEstimate, PoolPart, pool_owner
from ledger.models.previews import PlanPreview
from ledger.models.royalties import FloorCorrection, FloorDistribution, Refusal, RoyaltyPlan, SweepMark, Unaccrued
from ledger.models.taxes import WithholdingRate
from ledger.models.verbs import VerbProposal

__all__ = [
    "Account",
    "Accrual",
    "AdvanceCancellation",
    "AdvanceProposal",
    "Asset",
    "Balance",
    "ChainHead",
    "Contract",
    "ContractTerms",
    "CreditExport",
    "Earned",
    "EarnedMark",
    "Entry",
    "EntryKind",
    "FloorCorrection",
    "FloorDistribution",
    "Leaf",
    "Line",
    "ManualEntry",
    "MonthSpent",
    "Period",
    "PeriodPool",
    "PlanPreview",
    "PoolEstimate",
    "PoolPart",
    "ReceiptDispute",
    "Refusal",
    "ReserveInstalment",
    "Restatement",
    "RoyaltyPlan",
    "SpendAlert",
    "SpendLimit",
    "SweepMark",
    "Unaccrued",
    "VerbProposal",
    "Void",
    "VoidProposal",
    "WithholdingRate",
    "next_period",
    "period_of",
    "pool_owner",
    "previous_period",
    "utc_date",
]
