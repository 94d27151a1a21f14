"""Contracts and their terms: the version that a month has, its coverage, the money held in reserve."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import QuerySet

from contributors.models import SplitProposal
from ledger.journal import AccountKey
from ledger.models import Contract, ContractTerms, ReserveInstalment
from ledger.settlement import Terms


def first_day(month: int) -> date:
    return date(month // 100, month % 100, 1)


def as_terms(row: ContractTerms) -> Terms:
    """The terms of a version that the arithmetic of a close needs."""
    payer = None
    if row.guarantee:
        programme = AccountKey("programme_cost", row.guarantee_currency)
        service = AccountKey("service_unbilled", row.guarantee_currency, f"service:{row.guarantee_service_id}")
        payer = service if row.guarantee_payer == ContractTerms.GuaranteePayer.SERVICE else programme
    return Terms(
        contract_id=row.contract_id,
        terms_id=row.pk,
        code=row.contract.code,
        covers_rest=row.covers_rest,
        recoup_order=row.recoup_order,
        recoup_group=row.recoup_group,
        cross_recoup=row.cross_recoup,
        guarantee=row.guarantee,
        guarantee_currency=row.guarantee_currency,
        payer=payer,
        reserve_ppb=row.reserve_ppb,
        schedule=tuple(row.schedule),
    )


def versions_in_force(month: int, contributor_ids: Collection[int] | None = None) -> list[ContractTerms]:
    """The version that each contract has in a month, in the order of contracts."""
    rows = ContractTerms.objects.filter(
        state=ContractTerms.State.APPROVED, effective_from__lte=first_day(month)
    ).select_related("contract")
    if contributor_ids is not None:
        rows = rows.filter(contract__contributor_id__in=contributor_ids)
    return list(rows.order_by("contract_id", "-effective_from").distinct("contract_id"))


def terms_in_force(month: int, contributor_ids: Collection[int]) -> dict[int, list[Terms]]:
    """contributor -> the terms of its contracts in a month."""
    found: dict[int, list[Terms]] = defaultdict(list)
    for row in versions_in_force(month, contributor_ids):
        found[row.contract.contributor_id].append(as_terms(row))
    return dict(found)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which contract of a contributor covers a holder, month by month."""

    # (contributor, holder) -> of each contract that ever covers it: its code, the first days of its versions
    # (ascending), and whether each of them covers the holder.
    versions: dict[tuple[int, int], list[tuple[str, list[date], list[bool]]]]

    def contract_of(self, contributor_id: int, holder_id: int, day: date) -> str:
        """The contract's code; empty where none covers the holder."""
        for code, days, covers in self.versions.get((contributor_id, holder_id), ()):
            if (place := bisect_right(days, day)) and covers[place - 1]:
                return code
        return ""


def coverage(holder_ids: Iterable[int]) -> Coverage:
    """The facts that assign these holders' earnings to contracts.

    A split sheet can give a work a holder of its own. The work stays under the contracts that its former holder had by
    then, unless terms name the new holder: a sheet is the co-authors' affair, and does not lift a debt.
    """
    asked = set(holder_ids)
    left = _left_by(asked)
    known = asked.union(former for formers in left.values() for former, _ in formers)
    adopted = ContractTerms.objects.filter(state=ContractTerms.State.APPROVED)
    covering = set(adopted.filter(holder_ids__overlap=list(known)).values_list("contract_id", flat=True))
    rows: dict[Contract, list[ContractTerms]] = defaultdict(list)
    if covering:
        of_these = adopted.filter(contract_id__in=covering).select_related("contract")
        for row in of_these.order_by("contract_id", "effective_from"):
            rows[row.contract].append(row)
    versions: dict[tuple[int, int], list[tuple[str, list[date], list[bool]]]] = defaultdict(list)
    for contract, own in rows.items():
        days = [row.effective_from for row in own]
        for holder in asked & {h for row in own for h in row.holder_ids}:
            covers = [holder in row.holder_ids for row in own]
            versions[contract.contributor_id, holder].append((contract.code, days, covers))
    for holder, formers in left.items():
        for former, left_at in formers:
            for contract, own in rows.items():
                if any(former in row.holder_ids and row.decided_at and row.decided_at <= left_at for row in own):
                    days = [row.effective_from for row in own]
                    covers = [former in row.holder_ids for row in own]
                    versions[contract.contributor_id, holder].append((contract.code, days, covers))
    return Coverage(dict(versions))


def _left_by(holder_ids: Collection[int]) -> dict[int, list[tuple[int, datetime]]]:
    """holder of one work -> the holders that it was under before, each with when it was left, the last first."""
    left: dict[int, list[tuple[int, datetime]]] = defaultdict(list)
    agreed = SplitProposal.objects.filter(state=SplitProposal.State.AGREED, work__holder_id__in=list(holder_ids))
    rows = agreed.order_by("-closed_at", "-id").values_list("work__holder_id", "holder_id", "closed_at")
    for holder, former, left_at in rows:
        assert left_at is not None, "A closed proposal says when."
        left[holder].append((former, left_at))
    return dict(left)


def contracts() -> QuerySet[Contract]:
    return Contract.objects.select_related("contributor", "recorded_by").order_by("contributor__display_name", "code")


def versions_of(contract: Contract) -> list[ContractTerms]:
    """Every version, the newest first."""
    return list(contract.versions.select_related("proposed_by", "decided_by", "guarantee_service").order_by("-version"))


def reserves_of(contributor_id: int) -> list[ReserveInstalment]:
    """A contributor's reserve, held and released, by the due day of each instalment."""
    rows = ReserveInstalment.objects.filter(contract__contributor_id=contributor_id)
    return list(rows.select_related("contract", "asset", "period", "released_entry").order_by("due_on", "id"))
