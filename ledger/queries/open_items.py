"""Open work about the books: proposals, disputes, months to close or to seal, and generations that are not accrued.

A new kind of proposal is one line in PROPOSALS.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Model, Q, QuerySet
from django.urls import reverse

from contributors.models import SplitDispute
from ledger.models import (
    AdvanceCancellation,
    AdvanceProposal,
    ContractTerms,
    ManualEntry,
    Period,
    PeriodPool,
    ReceiptDispute,
    Restatement,
    RoyaltyPlan,
    SweepMark,
    VerbProposal,
    VoidProposal,
    WithholdingRate,
    utc_date,
)
from ledger.money import asset
from people.inbox import COUNT_MAX, Kind, OpenItem
from people.presentation import amounts, dates

CHECKERS = ("finance_checker",)
# They also decide contributors' disputes, and the part that is withheld.
WITH_COMPLIANCE = ("finance_checker", "compliance")
# Business verbs that compliance approves too.
CLAIM_VERBS = ("decide_dispute", "escheat", "find_owner", "mark_dormant", "open_dispute", "reclaim")


def proposal_kind(
    model: type[Model],
    *,
    name: str,
    heading: str,
    mail: str,
    url: Callable[[Any], str],
    words: Callable[[Any], str],
    title: Callable[[Any], str] = str,
    related: tuple[str, ...] = (),
    roles: tuple[str, ...] = CHECKERS,
    where: Q | None = None,
) -> Kind:
    """Make the kind of a model with rows that are `proposed` by one person (proposed_by, proposed_at) for another.

    `where` chooses some of its rows, where not all are decided by the same roles.
    """

    def rows(at: datetime) -> QuerySet[Any]:
        waiting = model._default_manager.filter(where or Q(), state="proposed")
        return waiting.select_related("proposed_by", *related).order_by("pk")

    def item(row: Any) -> OpenItem:
        said = title(row)
        return OpenItem(
            subject=f"{name}:{row.pk}",
            title=said[:1].upper() + said[1:],
            words=words(row),
            url=url(row),
            since=row.proposed_at,
            person=str(row.proposed_by or ""),
            barred=frozenset({row.proposed_by_id} - {None}),
        )

    label = model._meta.label
    return Kind(
        name=name,
        heading=heading,
        mail=mail,
        roles=roles,
        rows=rows,
        item=item,
        covers={label: frozenset({"proposed"})},
    )


def _advance(row: AdvanceProposal) -> str:
    return f"{amounts.text(row.amount, asset(row.currency))} under {row.contract}: {row.reason}"


def _restatement_url(row: Restatement) -> str:
    if row.generation_id is None:
        return reverse("ledger:restatements")
    return reverse("ledger:generation_page", args=[row.generation_id])


PROPOSALS = [
    proposal_kind(
        RoyaltyPlan, name="plan_proposed", heading="Royalty plans", mail="A royalty plan waits for a second person",
        url=lambda row: reverse("ledger:plan", args=[row.pk]),
        words=lambda row: row.note or f"By {row.get_basis_display()}, from {dates.day(row.effective_from)}.",
    ),
    proposal_kind(
        PeriodPool, name="pool_proposed", heading="Pools of a month", mail="A pool waits for a second person",
        related=("plan", "period"), url=lambda row: reverse("ledger:plan", args=[row.plan_id]),
        title=lambda row: f"Pool of {row.plan} in {row.period.code}",
        words=lambda row: amounts.text(row.amount, asset(row.plan.currency)),
    ),
    proposal_kind(
        ContractTerms, name="terms_proposed", heading="Terms of contracts", mail="Terms wait for a second person",
        related=("contract",), url=lambda row: reverse("ledger:terms", args=[row.contract_id, row.version]),
        title=lambda row: f"{row.contract.title}, version {row.version}",
        words=lambda row: row.note or f"From {dates.day(row.effective_from)}.",
    ),
    proposal_kind(
        AdvanceProposal, name="advance_proposed", heading="Advances", mail="An advance waits for a second person",
        related=("contract",), url=lambda row: reverse("ledger:advance", args=[row.pk]), words=_advance,
    ),
    proposal_kind(
        AdvanceCancellation, name="cancellation_proposed", heading="Cancelled advances",
        mail="The cancellation of an advance waits for a second person", related=("advance__contract",),
        url=lambda row: reverse("ledger:advance", args=[row.advance_id]), words=lambda row: row.reason,
    ),
    proposal_kind(
        ManualEntry, name="manual_entry_proposed", heading="Manual entries",
        mail="A manual entry waits for a second person",
        url=lambda row: reverse("ledger:manual_entry", args=[row.pk]), words=lambda row: row.reason,
    ),
    proposal_kind(
        VerbProposal, name="transaction_proposed", heading="Transactions",
        mail="A transaction waits for a second person", where=~Q(verb__in=CLAIM_VERBS),
        url=lambda row: reverse("ledger:transaction", args=[row.pk]),
        title=lambda row: f"{row.get_kind_display()}, {row.reference}", words=lambda row: row.note,
    ),
    proposal_kind(
        VerbProposal, name="claim_transaction_proposed", heading="Transactions of holds and unclaimed money",
        mail="A transaction waits for a second person", where=Q(verb__in=CLAIM_VERBS), roles=WITH_COMPLIANCE,
        url=lambda row: reverse("ledger:transaction", args=[row.pk]),
        title=lambda row: f"{row.get_kind_display()}, {row.reference}", words=lambda row: row.note,
    ),
    proposal_kind(
        VoidProposal, name="void_proposed", heading="Voids", mail="A void waits for a second person",
        related=("generation",), url=lambda row: reverse("ledger:generation_page", args=[row.generation_id]),
        title=lambda row: f"Void of generation {row.generation.external_id}", words=lambda row: row.detail,
    ),
    proposal_kind(
        Restatement, name="restatement_proposed", heading="Restatements",
        mail="A restatement waits for a second person", related=("index__model_version", "generation"),
        url=_restatement_url, words=lambda row: row.reason,
        title=lambda row: (
            f"Restatement of {row.generation.external_id if row.generation else row.index.model_version}"
        ),
    ),
    proposal_kind(
        WithholdingRate, name="withholding_proposed", heading="Withholding rates",
        mail="A withholding rate waits for a second person", roles=WITH_COMPLIANCE,
        url=lambda row: reverse("ledger:withholding"), words=lambda row: f"{row.basis}, from {row.effective_from}",
    ),
]  # fmt: skip


# --- disputes -----------------------------------------------------------------------------------------------------
def _dispute(row: ReceiptDispute) -> OpenItem:
    return OpenItem(
        subject=f"dispute:{row.pk}",
        title=f"{row.contributor} disputes a receipt",
        words=row.words,
        url=reverse("ledger:answer_dispute", args=[row.pk]),
        since=row.raised_at,
        person=str(row.contributor),
        barred=frozenset({row.raised_by_id}),
        barred_because="You raised this dispute, so somebody else has to answer it.",
    )


def _contest(row: SplitDispute) -> OpenItem:
    return OpenItem(
        subject=f"contest:{row.pk}",
        title=f"{row.claimant} claims a share of {row.against} in {row.holder}",
        words=row.reason,
        url=reverse("ledger:contest", args=[row.pk]),
        since=row.raised_at,
        person=str(row.claimant),
        barred=frozenset({row.raised_by_id}),
        barred_because="You raised this claim, so somebody else has to decide it.",
    )


# --- months -------------------------------------------------------------------------------------------------------
def _month(row: Period) -> OpenItem:
    states = Period.State
    words = {
        states.OPEN: "The month is over and can be closed.",
        states.CLOSING: "The close has begun and is not finished; close it again to finish it.",
        states.CLOSED: "The month is closed and can be sealed, so that its statements can be proved.",
    }
    ended = datetime.combine(row.ends, datetime.min.time(), UTC)
    return OpenItem(
        subject=f"month:{row.pk}:{'seal' if row.state == states.CLOSED else 'close'}",
        title=dates.month(row.starts),
        words=words[states(row.state)],
        url=reverse("ledger:period", args=[row.code]),
        since=row.closed_at or ended,
    )


# --- accrual ------------------------------------------------------------------------------------------------------
# Generations under a period pool wait for the close of their month; so they are no backlog.
_NOT_ACCRUED = """
SELECT a.created_at FROM attribution_attribution a JOIN attribution_generation g ON g.id = a.generation_id
 WHERE a.id > %s AND a.created_at < %s
   AND NOT EXISTS (SELECT FROM ledger_accrual d WHERE d.generation_id = a.generation_id AND d.revision = a.revision)
   AND NOT EXISTS (SELECT FROM ledger_refusal r WHERE r.generation_id = a.generation_id AND r.revision = a.revision
                                                  AND r.withdrawn_at IS NULL)
   AND NOT EXISTS (SELECT FROM ledger_void v WHERE v.generation_id = a.generation_id)
   AND NOT EXISTS (SELECT FROM attribution_attribution b
                    WHERE b.generation_id = a.generation_id AND b.revision > a.revision)
   AND coalesce((SELECT p.basis FROM ledger_royaltyplan p
                  WHERE p.state = 'effective' AND p.currency = g.currency AND p.effective_from <= g.occurred_at
                  ORDER BY p.effective_from DESC LIMIT 1), '') <> 'period_pool'
 ORDER BY a.id LIMIT %s"""


def _not_accrued(at: datetime) -> list[OpenItem]:
    """Name the backlog of attributions since the last sweep, where its oldest is older than the limit."""
    mark = SweepMark.objects.filter(name="accrue").values_list("value", flat=True).first() or 0
    with connection.cursor() as cursor:
        cursor.execute(_NOT_ACCRUED, [mark, at - timedelta(minutes=settings.STALLED_MINUTES), COUNT_MAX])
        moments = [moment for (moment,) in cursor.fetchall()]
    if not moments:
        return []
    number = f"{COUNT_MAX} or more" if len(moments) == COUNT_MAX else str(len(moments))
    return [
        OpenItem(
            subject=f"attributed:{min(moments):%Y%m%d%H%M%S%f}",
            title=f"{number} attributed generation{'s' if len(moments) > 1 else ''} without an accrual",
            words="Do the workers of the default queue run?",
            url=reverse("ledger:generations"),
            since=min(moments),
        )
    ]


KINDS = [
    *PROPOSALS,
    Kind(
        name="receipt_disputed", heading="Receipt disputes", mail="A contributor disputes a receipt",
        roles=WITH_COMPLIANCE, item=_dispute,
        rows=lambda at: ReceiptDispute.objects.filter(state="open").select_related("contributor").order_by("pk"),
        covers={"ledger.ReceiptDispute": frozenset({"open"})},
    ),
    Kind(
        name="share_contested", heading="Contested shares", mail="A co-author contests a share",
        roles=WITH_COMPLIANCE, item=_contest,
        rows=lambda at: (
            SplitDispute.objects.filter(state="open").select_related("holder", "claimant", "against").order_by("pk")
        ),
        covers={"contributors.SplitDispute": frozenset({"open"})},
    ),
    Kind(
        name="month_to_close", heading="Months to close", mail="A month can be closed", roles=CHECKERS, item=_month,
        rows=lambda at: Period.objects.filter(
            Q(state="closing") | Q(state="open", ends__lte=utc_date(at))
        ).order_by("pk"),
        covers={"ledger.Period": frozenset({"open", "closing"})},
    ),
    Kind(
        name="month_to_seal", heading="Months to seal", mail="A month can be sealed", roles=CHECKERS, item=_month,
        rows=lambda at: Period.objects.filter(state="closed").order_by("pk"),
        covers={"ledger.Period": frozenset({"closed"})},
    ),
    Kind(
        name="accruals_stalled", heading="Generations that wait for their accrual",
        mail="Generations wait for their accrual", roles=("admin",), rows=_not_accrued,
    ),
]  # fmt: skip
