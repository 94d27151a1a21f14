"""The table of rights agrees with the guards of the pages and with the operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.urls import get_resolver

from people.models import STAFF_ROLES
from people.queries.rights import RIGHTS, as_markdown, table_of_rights
from tests.payouts.test_roles import ACTS
from tests.people.test_audit_lines import _patterns

DOCS = Path(__file__).resolve().parents[2] / "docs" / "operate" / "payouts.md"


def roles_of_pages() -> dict[str, set[str]]:
    """The roles that the guard of each console page lets in, by the page's name."""
    found: dict[str, set[str]] = {}
    for name, _, callback in _patterns(get_resolver().url_patterns, "", ""):
        view: Any = callback
        while view is not None:
            if hasattr(view, "staff_roles"):
                found[name] = set(view.staff_roles)
            view = getattr(view, "__wrapped__", None)
    return found


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: right.act)
def test_a_right_is_the_one_of_its_operations_and_pages(right: Any) -> None:
    assert set(right.roles) <= set(STAFF_ROLES)
    for name in right.operations:
        assert ACTS[name][0] == set(right.roles), name
    pages = roles_of_pages()
    for name in right.pages:
        assert pages[name] == set(right.roles), name


def test_every_act_on_money_has_its_line() -> None:
    named = {name for right in RIGHTS for name in right.operations}
    proposed = {"propose_policy"}
    assert named | proposed == set(ACTS)


def test_every_kind_of_proposal_has_its_line_with_the_second_person() -> None:
    from people.queries.proposals import kinds

    lines = {right.act: right for right in table_of_rights()}
    for kind in kinds():
        line = lines[f"Propose: {kind.heading}"]
        assert set(line.roles) == set(kind.proposers)
        assert set(line.second) == set(kind.approvers)


def test_the_model_team_has_no_right_about_money_or_roles() -> None:
    own = [right.act for right in table_of_rights() if "model_team" in (*right.roles, *right.second)]
    assert not [
        act for act in own if any(word in act.lower() for word in ("money", "payout", "role", "invite", "plan"))
    ]


def test_the_docs_hold_the_table() -> None:
    assert as_markdown() in DOCS.read_text()
