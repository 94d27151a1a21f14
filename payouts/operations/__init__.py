"""The verbs of payouts, by noun. Each takes its time as `at=`, checks the role of `by`, and writes the audit log."""

from payouts.operations.accounts import (
    UnableToOpenAccount,
    UnableToSetThreshold,
    disconnect_account,
    onboarding_link,
    open_payout_account,
    refresh_holds,
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
from payouts.operations.audit import (
    NOBODY,
    Presence,
    UnableToAct,
    UnableToActForOneself,
    UnableToActYet,
    UnableToTrustPresence,
    acts_for_payee,
    audit,
    require_role,
)  # fmt: skip
from payouts.operations.bank_files import (
    UnableToChangeBankFile,
    UnableToExport,
    export_bank_file,
    mark_bank_file_sent,
    read_bank_file,
    withdraw_bank_file,
)  # fmt: skip
from payouts.operations.bank_lines import Reported, Result, UnableToRecordBankLine, record_bank_lines
from payouts.operations.banks import (
    UnableToChooseRail,
    UnableToRecordBankDetails,
    account_on_rail,
    choose_rail,
    record_bank_details,
)  # fmt: skip
from payouts.operations.building import UnableToBuildRun, build_run, rebuild_run
from payouts.operations.closing import (
    UnableToClose,
    UnableToDecide,
    UnableToSignOff,
    close_run,
    decide_unknown,
    sign_off,
)  # fmt: skip
from payouts.operations.content import content_hash, row_sha256
from payouts.operations.crew import Progress, execute_run
from payouts.operations.execution import pay_next
from payouts.operations.funding import UnableToFund, apply_top_up, finish_top_up, fund_platform, top_up_of
from payouts.operations.holds import (
    UnableToPlaceHold,
    UnableToReleaseHold,
    pause_own_payouts,
    place_hold,
    release_hold,
    resume_own_payouts,
)  # fmt: skip
from payouts.operations.links import decide_link, dismiss_suspicion, propose_end_of_link, propose_link
from payouts.operations.notices import (
    UnableToChooseNotices,
    choose_notices,
    notice_what_is_due,
    send_due_notices,
)  # fmt: skip
from payouts.operations.pace import LIVE, Clock, Pace, database_clock
from payouts.operations.policies import (
    FIGURES,
    Terms,
    UnableToAdoptPolicy,
    UnableToDecideProposal,
    adopt_policy,
    decide_policy,
    propose_policy,
    terms_in_force,
)  # fmt: skip
from payouts.operations.recording import attempt_of, record_transfer
from payouts.operations.reversals import REVERSIBLE, UnableToReverse, record_reversal, recover_reversals, reverse_payout
from payouts.operations.runs import (
    UnableToChangeRun,
    UnableToExclude,
    UnableToSubmitRun,
    cancel_run,
    exclude,
    submit_run,
    take_up_run,
)  # fmt: skip
from payouts.operations.staff import UnableToApproveThatMuch, UnableToChangeRoles, change_roles
from payouts.operations.tax_forms import UnableToRecordTaxForm, record_tax_form, valid_until_by_law

__all__ = [
    "FIGURES", "LIVE", "NOBODY", "REVERSIBLE", "Clock", "Pace", "Presence", "Progress", "Reported", "Result",
    "Terms", "UnableToAct", "UnableToActForOneself", "UnableToActYet", "UnableToAdoptPolicy", "UnableToApprove",
    "UnableToApproveThatMuch",
    "UnableToBuildRun", "UnableToChangeBankFile", "UnableToChangeRoles", "UnableToChangeRun",
    "UnableToChooseNotices", "UnableToChooseRail", "UnableToClose", "UnableToDecide", "UnableToDecideProposal",
    "UnableToExclude", "UnableToExport", "UnableToFund", "UnableToOpenAccount", "UnableToPause",
    "UnableToPlaceHold", "UnableToRecordBankDetails", "UnableToRecordBankLine", "UnableToRecordTaxForm",
    "UnableToReject", "UnableToReleaseHold", "UnableToResume", "UnableToReverse", "UnableToSetThreshold",
    "UnableToSignOff", "UnableToStart", "UnableToSubmitRun", "UnableToTrustPresence", "account_on_rail",
    "acts_for_payee",
    "adopt_policy", "apply_top_up", "approve_run", "attempt_of", "audit", "build_run", "cancel_run", "change_roles",
    "choose_notices", "choose_rail", "close_run", "content_hash", "database_clock", "decide_link", "decide_policy",
    "decide_unknown", "disconnect_account", "dismiss_suspicion", "exclude", "execute_run", "expire_approvals",
    "export_bank_file", "finish_top_up", "fund_platform", "mark_bank_file_sent", "notice_what_is_due",
    "onboarding_link", "open_payout_account", "pause_own_payouts", "pause_run", "pay_next", "place_hold",
    "propose_end_of_link", "propose_link", "propose_policy", "read_bank_file", "rebuild_run", "record_bank_details",
    "record_bank_lines", "record_reversal", "record_tax_form", "record_transfer", "recover_reversals",
    "refresh_holds", "reject_run", "release_hold", "require_role", "resume_own_payouts", "resume_run",
    "reverse_payout", "row_sha256", "send_due_notices", "set_own_threshold", "sign_off", "start_execution",
    "submit_run", "sync_account", "take_up_run", "terms_in_force", "top_up_of", "valid_until_by_law",
    "withdraw_bank_file",
]  # fmt: skip
