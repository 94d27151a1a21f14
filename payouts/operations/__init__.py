"""The verbs of payouts, by noun. Each takes its time as `at=`, checks the role of `by`, and writes the audit log."""

from payouts.operations.accounts import (
    UnableToOpenAccount,
    UnableToSetThreshold,
    disconnect_account,
    onboarding_link,
    open_payout_account,
    set_own_threshold,
    sync_account,
)  # fmt: skip
from payouts.operations.approval import (
    UnableToApprove,
    UnableToPause,
    UnableToReject,
    UnableToResume,
    UnableToStart,
    approve_run,
    expire_approvals,
    pause_run,
    reject_run,
    resume_run,
    start_execution,
)  # fmt: skip
from payouts.operations.audit import NOBODY, Presence, UnableToAct, UnableToTrustPresence, audit
from payouts.operations.closing import (
    UnableToClose,
    UnableToDecide,
    UnableToFund,
    UnableToSignOff,
    apply_top_up,
    close_run,
    decide_unknown,
    finish_top_up,
    fund_platform,
    sign_off,
)  # fmt: skip
from payouts.operations.execution import Progress, execute_run, pay_next
from payouts.operations.holds import UnableToPlaceHold, UnableToReleaseHold, place_hold, release_hold
from payouts.operations.pace import LIVE, Clock, Pace, database_clock
from payouts.operations.policies import Terms, UnableToAdoptPolicy, adopt_policy, record_tax_profile, terms_in_force
from payouts.operations.recording import attempt_of, record_transfer
from payouts.operations.reversals import UnableToReverse, record_reversal, recover_reversals, reverse_payout
from payouts.operations.runs import (
    UnableToBuildRun,
    UnableToChangeRun,
    UnableToExclude,
    UnableToSubmitRun,
    build_run,
    cancel_run,
    content_hash,
    exclude,
    rebuild_run,
    row_sha256,
    submit_run,
    take_up_run,
)  # fmt: skip

__all__ = [
    "LIVE", "NOBODY", "Clock", "Pace", "Presence", "Progress", "Terms", "UnableToAct", "UnableToAdoptPolicy",
    "UnableToApprove", "UnableToBuildRun", "UnableToChangeRun", "UnableToClose", "UnableToDecide", "UnableToExclude",
    "UnableToFund", "UnableToOpenAccount", "UnableToPause", "UnableToPlaceHold", "UnableToReject",
    "UnableToReleaseHold", "UnableToResume", "UnableToReverse", "UnableToSetThreshold", "UnableToSignOff",
    "UnableToStart", "UnableToSubmitRun", "UnableToTrustPresence", "adopt_policy", "apply_top_up", "approve_run",
    "attempt_of", "audit", "build_run", "cancel_run", "close_run", "content_hash", "database_clock", "decide_unknown",
    "disconnect_account", "exclude", "execute_run", "expire_approvals", "finish_top_up", "fund_platform",
    "onboarding_link", "open_payout_account", "pause_run", "pay_next", "place_hold", "rebuild_run",
    "record_reversal", "record_tax_profile", "record_transfer", "recover_reversals", "reject_run", "release_hold",
    "resume_run", "reverse_payout", "row_sha256", "set_own_threshold", "sign_off", "start_execution", "submit_run",
    "sync_account", "take_up_run", "terms_in_force",
]  # fmt: skip
