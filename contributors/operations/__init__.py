"""What can be done in this app, by noun. Locks are taken in this order: contributor, holder, advisory lock of works."""

from contributors.operations.consents import (
    UnableToRecordConsent,
    grant_consent,
    grant_consents,
    withdraw_consent,
    withdraw_consents,
)
from contributors.operations.people import (
    UnableToRecordSplitSheet,
    UnableToRegisterContributor,
    UnableToRegisterUser,
    add_member,
    enrol_totp,
    record_split_sheet,
    register_contributor,
    register_holder,
    register_user,
)
from contributors.operations.splits import (
    UnableToAnswerSplit,
    UnableToContestShare,
    UnableToProposeSplit,
    answer_split_sheet,
    contest_share,
    propose_split_sheet,
    withdraw_split_proposal,
)
from contributors.operations.works import (
    NewWork,
    UnableToRegisterDataset,
    UnableToRegisterWorks,
    register_dataset,
    register_works,
)

__all__ = [
    "NewWork",
    "UnableToAnswerSplit",
    "UnableToContestShare",
    "UnableToProposeSplit",
    "UnableToRecordConsent",
    "UnableToRecordSplitSheet",
    "UnableToRegisterContributor",
    "UnableToRegisterDataset",
    "UnableToRegisterUser",
    "UnableToRegisterWorks",
    "add_member",
    "answer_split_sheet",
    "contest_share",
    "enrol_totp",
    "grant_consent",
    "grant_consents",
    "propose_split_sheet",
    "record_split_sheet",
    "register_contributor",
    "register_dataset",
    "register_holder",
    "register_user",
    "register_works",
    "withdraw_consent",
    "withdraw_consents",
    "withdraw_split_proposal",
]
