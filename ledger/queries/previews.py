"""The effect of a change of a contract's terms on a past month: each step under the old and the new version.

Nothing is written. The books are those of the moment before the month's close began, so that a month that is closed
comes out as it was closed; a month that is still open as it would close now.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from ledger import settlement
from ledger.models import ContractTerms, Period
from ledger.queries.contracts import as_terms, terms_in_force
from ledger.queries.parties import entry_before_close, load_parties
from ledger.settlement import Party, Terms

STEP_LABELS = {
    "close_guarantee": "1 Guarantee: made up to the minimum",
    "close_recover": "2 Recover: taken for debts",
    "close_recoup": "3 Recoup: taken for advances",
    "close_reserve": "4 Reserve: held back for later",
    "close_payable": "5 Payable: paid with the next run",
}
GAINS_LABELS = {
    "now": "The contributor, payable at once",
    "later": "The contributor, from the reserve later",
    "advance": "The programme, advances earned back",
    "programme": "The programme, cost of the guarantee",
    "service": "Model services, billed for the guarantee",
}


@dataclass(frozen=True, slots=True)
class PreviewRow:
    currency: str
    label: str
    before: int
    after: int

    @property
    def change(self) -> int:
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Preview:
    """`steps`: the movement of each step. `gains`: the gain of each side, the contributor's and the programme's."""

    period: Period
    closed: bool
    # The version in force that the proposal would replace; None where the contract had none.
    replaced: int | None
    steps: list[PreviewRow]
    gains: list[PreviewRow]
    # True when the proposal would move holders' earnings between contracts. Past earnings stay on their accounts.
    moves_holders: bool


def preview_terms(terms: ContractTerms, period: Period) -> Preview:
    """The month's close of this contributor, as it was (or would be) and as it would be under `terms`."""
    contributor = terms.contract.contributor_id
    old = terms_in_force(period.pk, [contributor]).get(contributor, [])
    replaced = next((found for found in old if found.contract_id == terms.contract_id), None)
    new = [found for found in old if found is not replaced] + [as_terms(terms)]
    before = entry_before_close(period.pk)
    closed = period.state in (Period.State.CLOSED, Period.State.SEALED)
    was = _settled(load_parties(period.pk, [contributor], before=before, terms={contributor: old}))
    would = _settled(load_parties(period.pk, [contributor], before=before, terms={contributor: _on_accounts(new)}))
    currencies = sorted({currency for currency, _ in (*was, *would)})
    rows = [
        PreviewRow(currency, label, was.get((currency, name), 0), would.get((currency, name), 0))
        for currency in currencies
        for name, label in (*STEP_LABELS.items(), *GAINS_LABELS.items())
    ]
    labels = set(STEP_LABELS.values())
    return Preview(
        period=period,
        closed=closed,
        replaced=replaced.terms_id if replaced else None,
        steps=[row for row in rows if row.label in labels],
        gains=[row for row in rows if row.label not in labels and (row.before or row.after)],
        moves_holders=set(terms.holder_ids) != _holders(replaced),
    )


def _holders(replaced: Terms | None) -> set[int]:
    if replaced is None:
        return set()
    return set(ContractTerms.objects.values_list("holder_ids", flat=True).get(pk=replaced.terms_id))


def _on_accounts(new: list[Terms]) -> list[Terms]:
    """Where a proposal covers the rest and another version did so before, the proposal stands for it."""
    proposed = new[-1]
    if not proposed.covers_rest:
        return new
    return [replace(found, covers_rest=False) if found.covers_rest else found for found in new[:-1]] + [proposed]


def _settled(parties: list[Party]) -> dict[tuple[str, str], int]:
    """Sum the movements of the steps, one after the other, by (currency, step or side), in units."""
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for party in parties:
        for name, step in settlement.STEPS.items():
            lines = step(party)
            party.apply(lines)
            for key, amount in lines:
                sums[party.asset, name] += _moved(name, key.kind, amount)
                if side := _SIDES.get((name, key.kind)):
                    sums[party.asset, side] += amount
    return dict(sums)


def _moved(name: str, kind: str, amount: int) -> int:
    """Count a step's movement once: its gift to the accrued money, or its taking from it. For the last step, the amount
    that becomes payable less the amount that becomes owed.
    """
    if name == "close_payable":
        return amount if kind != "contributor_accrued" else 0
    if kind != "contributor_accrued":
        return 0
    return amount if name == "close_guarantee" else -amount


_SIDES = {
    ("close_guarantee", "programme_cost"): "programme",
    ("close_guarantee", "service_unbilled"): "service",
    ("close_recoup", "advance"): "advance",
    ("close_reserve", "reserve_held"): "later",
    ("close_payable", "contributor_payable"): "now",
    ("close_payable", "contributor_receivable"): "now",
}
