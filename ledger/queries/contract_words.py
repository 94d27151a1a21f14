"""Contract terms in plain words, the same for the bound contributor and for the approver in finance."""

from __future__ import annotations

from collections.abc import Mapping

from contributors.models import Holder
from ledger.models import ContractTerms
from ledger.money import asset
from people.presentation import amounts, percent


def per_cent(ppb: int) -> str:
    """Parts of a billion as an exact percentage: "12.5 %", with a space that keeps it on one line."""
    return percent.text(ppb).replace(" ", "\u00a0")


def terms_in_words(terms: ContractTerms, holders: Mapping[int, str] | None = None) -> list[tuple[str, str]]:
    """(subject, sentence), in the order in which a close applies them. `holders`: names that are known already."""
    return [
        ("Covers", _covers(terms, holders)),
        ("Guarantee", _guarantee(terms)),
        ("Advances", _recoupment(terms)),
        ("Reserve", _reserve(terms)),
    ]


def _covers(terms: ContractTerms, holders: Mapping[int, str] | None) -> str:
    if terms.covers_rest:
        return "Everything that no other contract covers, the base pool included."
    if not terms.holder_ids:
        return "Nothing: earnings are under no contract, or under another."
    known = holders or dict(Holder.objects.filter(pk__in=terms.holder_ids).values_list("pk", "label"))
    return "Earnings through " + ", ".join(f"“{known[number]}”" for number in terms.holder_ids) + "."


def _guarantee(terms: ContractTerms) -> str:
    if not terms.guarantee:
        return "None."
    least = amounts.text(terms.guarantee, asset(terms.guarantee_currency))
    payer = str(terms.guarantee_service) if terms.guarantee_service else "the programme"
    return f"Each month brings at least {least}; the gap is filled at the close, paid by {payer}."


def _recoupment(terms: ContractTerms) -> str:
    words = f"Earned back from the contract's earnings, in place {terms.recoup_order} (lower first)."
    if terms.recoup_group and terms.cross_recoup:
        return f"{words} Also from the other contracts of the group “{terms.recoup_group}”."
    if terms.recoup_group:
        return (
            f"{words} Of the group “{terms.recoup_group}”: its earnings may pay for the others' advances, but the "
            "others do not pay for its own."
        )
    return f"{words} No other contract pays for them."


def _reserve(terms: ContractTerms) -> str:
    if not terms.reserve_ppb:
        return "None."
    parts = [f"{per_cent(ppb)} after {months} month{'' if months == 1 else 's'}" for months, ppb in terms.schedule]
    return (
        f"{per_cent(terms.reserve_ppb)} of the rest at each close is held back. Of what a month held, "
        f"{' and '.join(parts)} {'is' if len(parts) == 1 else 'are'} released."
    )
