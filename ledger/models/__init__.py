"""What each contributor earned: accounts, the journal, its documents, periods and royalty plans."""

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
from ledger.models.disputes import ReceiptDispute
from ledger.models.manual import ManualEntry
from ledger.models.royalties import FloorDistribution, Refusal, RoyaltyPlan, SweepMark, Unaccrued

__all__ = [
    "Account",
    "Accrual",
    "Asset",
    "Balance",
    "ChainHead",
    "Contract",
    "ContractTerms",
    "CreditExport",
    "Entry",
    "EntryKind",
    "FloorDistribution",
    "Leaf",
    "Line",
    "ManualEntry",
    "Period",
    "ReceiptDispute",
    "Refusal",
    "ReserveInstalment",
    "RoyaltyPlan",
    "SweepMark",
    "Unaccrued",
    "next_period",
    "period_of",
    "previous_period",
    "utc_date",
]
