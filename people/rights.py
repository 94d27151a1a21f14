"""The table of rights: each act of staff, its roles, and the roles of the second person. Docs and tests read it too."""

from __future__ import annotations

from dataclasses import dataclass

_MAKER, _CHECKER, _COMPLIANCE, _AUDITOR, _ADMIN = "finance_maker", "finance_checker", "compliance", "auditor", "admin"
_MODEL_TEAM = "model_team"


@dataclass(frozen=True, slots=True)
class Right:
    """One act. `page` is the name of the address with the guard that holds it; `second` approves the proposal of
    another."""

    act: str
    roles: tuple[str, ...]
    page: str
    second: tuple[str, ...] = ()


RIGHTS = (
    Right("See money: home, books, runs, payees", (_MAKER, _CHECKER, _COMPLIANCE, _AUDITOR, _ADMIN), "payouts:runs"),
    Right(
        "See services, models, indexes",
        (_MAKER, _CHECKER, _COMPLIANCE, _AUDITOR, _ADMIN, _MODEL_TEAM),
        "attribution:services",
    ),
    Right("Change services, keys, models, indexes, evaluations", (_ADMIN, _MODEL_TEAM), "attribution:issue_key"),
    Right("Read the audit log", (_MAKER, _CHECKER, _COMPLIANCE, _AUDITOR, _ADMIN), "people:audit"),
    Right("Read every table", (_AUDITOR, _ADMIN), ""),
    Right("Invite staff, change roles", (_ADMIN,), "people:invite"),
    Right("Name the legal entity, test mails", (_ADMIN,), "people:mail"),
)


def table_of_rights() -> tuple[Right, ...]:
    """Every right, in the order of the page Staff."""
    return RIGHTS
