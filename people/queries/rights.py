"""The table of rights: each act of staff, its roles, and the roles of the second person.

The page Staff and docs/operate/payouts.md show it; tests hold it against the operations and the guards of the pages.
"""

from __future__ import annotations

from dataclasses import dataclass

from people.models import FINANCE_ROLES, STAFF_ROLES
from people.queries.proposals import kinds

_MAKER, _CHECKER, _COMPLIANCE, _AUDITOR, _ADMIN = FINANCE_ROLES
_MODEL_TEAM = "model_team"


@dataclass(frozen=True, slots=True)
class Right:
    """One line. `operations` are its acts, and `pages` are addresses with a guard that lets in exactly
    these roles; `second` approves the proposal of another person.
    """

    act: str
    roles: tuple[str, ...]
    operations: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    second: tuple[str, ...] = ()


RIGHTS = (
    Right("See money: home, runs, payees, holds", FINANCE_ROLES, pages=("payouts:runs", "payouts:payees")),
    Right("Read the audit log", FINANCE_ROLES, pages=("people:audit", "people:audit_csv")),
    Right("Read every table", (_AUDITOR, _ADMIN)),
    Right("See services, models, staff, set-up", STAFF_ROLES, pages=("attribution:services", "people:staff", "setup")),
    Right(
        "Change services, keys, models, indexes, evaluations",
        (_ADMIN, _MODEL_TEAM),
        pages=("attribution:issue_key", "attribution:queue_build", "attribution:queue_audit"),
    ),
    Right(
        "Build, submit, split, cancel payout runs",
        (_MAKER, _ADMIN),
        operations=("build_run", "submit_run", "exclude", "take_up_run", "cancel_run", "rebuild_run"),
    ),
    Right(
        "Approve or reject a payout run (never one's own)", (_CHECKER, _ADMIN), operations=("approve_run", "reject_run")
    ),
    Right(
        "Execute and close runs, top up, write and send bank files",
        (_MAKER, _CHECKER, _ADMIN),
        operations=(
            "start_execution",
            "close_run",
            "fund_platform",
            "book_top_up",
            "export_bank_file",
            "read_bank_file",
            "mark_bank_file_sent",
        ),
    ),
    Right(
        "Pause and resume runs, place holds",
        (_MAKER, _CHECKER, _COMPLIANCE, _ADMIN),
        operations=("pause_run", "resume_run", "place_hold"),
    ),
    Right(
        "Release holds of finance, confirm bank lines, decide unknown payouts, sign off differences, "
        "end Stripe accounts",
        (_CHECKER, _COMPLIANCE, _ADMIN),
        operations=("release_hold", "record_bank_lines", "decide_unknown", "sign_off", "retire_account"),
    ),
    Right(
        "Reverse payouts, choose a rail, withdraw bank files",
        (_CHECKER, _ADMIN),
        operations=("reverse_payout", "choose_rail", "withdraw_bank_file"),
    ),
    Right(
        "Place and release holds of compliance, record tax forms",
        (_COMPLIANCE,),
        operations=("place_hold after screening", "release_hold of compliance", "record_tax_form"),
    ),
    Right("Dismiss suspected links of accounts", (_COMPLIANCE, _ADMIN), operations=("dismiss_suspicion",)),
    Right("Import contributors", (_COMPLIANCE, _ADMIN), pages=("contributors:import",)),
    Right("Close and seal months", (_CHECKER,), pages=("ledger:close_period", "ledger:seal_period")),
    Right(
        "Change roles, confirm second factors, invite staff, test mails, try out alone",
        (_ADMIN,),
        operations=("change_roles", "confirm_factors"),
        pages=("people:confirm_factors", "people:invite", "people:mail", "people:trial"),
    ),
)


def table_of_rights() -> list[Right]:
    """Every right: the acts of one person, then each kind of proposal with its second person."""
    proposed = [
        Right(f"Propose: {kind.heading}", tuple(kind.proposers), second=tuple(kind.approvers)) for kind in kinds()
    ]
    return [*RIGHTS, *proposed]


def as_markdown() -> str:
    """The table for the docs."""
    lines = ["| act | roles | second person |", "|---|---|---|"]
    for right in table_of_rights():
        second = ", ".join(role.replace("_", " ") for role in right.second) or "–"
        lines.append(f"| {right.act} | {', '.join(role.replace('_', ' ') for role in right.roles)} | {second} |")
    return "\n".join(lines)
