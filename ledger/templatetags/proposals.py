"""The tag that reads the lines of a proposed entry."""

from __future__ import annotations

from django import template

from ledger.models import ManualEntry, VerbProposal
from ledger.queries.proposed_lines import ShownLine, lines_with_balances

register = template.Library()


@register.simple_tag
def proposed_lines(proposal: ManualEntry | VerbProposal) -> list[ShownLine]:
    """`{% proposed_lines proposal as lines %}`: its lines with the balances of their accounts before and after."""
    return lines_with_balances(proposal.lines, is_posted=proposal.entry_id is not None)
