"""One receipt: everything needed to see, and to do again, how a generation's money was divided.

The division here is written a second time, apart from the one that posts (ledger.operations.accruals), from the
published rule alone; a receipt says whether both give the same units.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from django.db.models import QuerySet

from attribution.models import Attribution, Generation
from attribution.queries.generations import (
    Group,
    general_by_holder,
    group_of,
    positive_sum,
    shares_by_holder,
    weighed_holders,
)
from contributors.models import PPB, Holder, Work
from contributors.queries.splits import split_of
from ledger.models import Accrual, Entry, Refusal, RoyaltyPlan, Void
from ledger.money import apportion, part, tie_key
from ledger.queries.archived import is_archived
from ledger.queries.balances import accounts_of
from ledger.queries.earnings import divide_among_works
from ledger.queries.receipts import CREDITED_KINDS, holders_of, ranked_works

UNATTRIBUTED = 0
"""Stands for "nobody" where remainders are ordered; no holder has this number."""


# --- the division of one generation -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Division:
    """The steps from gross to credits, in units of the currency's scale."""

    gross: int
    take: int
    pool: int
    floor_part: int
    rest: int
    weight_ppb: int
    direct: int
    # Holders that have a weight or could have one; parallel to them the weight of each (the weights sum to `whole`) and
    # its units.
    holder_ids: tuple[int, ...]
    weights: tuple[int, ...]
    whole: int
    units: tuple[int, ...]
    unattributed: int

    @property
    def to_floor_pool(self) -> int:
        return self.pool - self.direct + self.unattributed

    @cached_property
    def units_of(self) -> dict[int, int]:
        """Holder -> units, of the holders that have some."""
        return {holder: units for holder, units in zip(self.holder_ids, self.units, strict=True) if units}

    def quota(self, holder_id: int) -> Fraction:
        """The holder's exact part in units, as if a unit could be divided."""
        if holder_id not in self.holder_ids:
            return Fraction(0)
        return Fraction(self.direct * self.weights[self.holder_ids.index(holder_id)], self.whole)


def divide(attribution: Attribution, plan: RoyaltyPlan, gross: int) -> Division:
    """The published rule of one accrual; amounts in units."""
    take = part(gross, plan.take_ppb)
    pool = gross - take
    floor_part = part(pool, plan.floor_ppb)
    direct = part(pool - floor_part, attribution.weight_ppb)
    specific = shares_by_holder(attribution) | {UNATTRIBUTED: attribution.unattributed_ppb}
    if plan.general_ppb:
        general = general_by_holder(attribution) | {UNATTRIBUTED: attribution.general_unattributed_ppb}
        numbers = sorted(specific.keys() | general.keys(), key=lambda number: (number == UNATTRIBUTED, number))
        weights = [
            specific.get(n, 0) * (PPB - plan.general_ppb) + general.get(n, 0) * plan.general_ppb for n in numbers
        ]
    else:
        numbers, weights = list(specific), list(specific.values())
    keys = [tie_key(attribution.generation_id.bytes, number) for number in numbers]
    units = apportion(direct, weights, keys)
    return Division(
        gross=gross,
        take=take,
        pool=pool,
        floor_part=floor_part,
        rest=pool - floor_part,
        weight_ppb=attribution.weight_ppb,
        direct=direct,
        holder_ids=tuple(numbers[:-1]),
        weights=tuple(weights[:-1]),
        whole=sum(weights),
        units=tuple(units[:-1]),
        unattributed=units[-1],
    )


# --- what stands behind both receipts -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Standing:
    """A generation with the revision that counts now, its document and its entry."""

    generation: Generation
    state: str
    attribution: Attribution | None
    accrual: Accrual | None
    entry: Entry | None
    refusal: Refusal | None
    # Where it was taken back; `accrual` and `entry` are then those that were reversed, and `taken_back` the reversal.
    void: Void | None = None
    taken_back: Entry | None = None

    @property
    def division(self) -> Division | None:
        if self.attribution is None or self.accrual is None:
            return None
        return divide(self.attribution, self.accrual.plan, self.accrual.gross)


def _standing(generation: Generation, estimated_gross: int | None = None) -> Standing:
    attributions = Attribution.objects.filter(generation=generation).select_related("index__model_version", "general")
    latest = attributions.order_by("-revision").first()
    documents = {
        document.revision: document
        for document in Accrual.objects.filter(generation=generation).select_related("plan", "source__asset")
    }
    standing = max((r for r in documents if r > 0 and -r not in documents), default=None)
    if standing is not None:
        accrual = documents[standing]
        entry = Entry.objects.select_related("period", "earned_period").get(batch_id=accrual.batch_id)
        counted = latest if latest and latest.revision == standing else attributions.get(revision=standing)
        return Standing(generation, "accrued", counted, accrual, entry, None)
    if (void := Void.objects.filter(generation=generation).first()) is not None:
        return _voided(generation, void, attributions, documents)
    refusal = Refusal.objects.filter(generation=generation, withdrawn_at__isnull=True).order_by("-revision").first()
    if estimated_gross is not None and latest is not None and refusal is None:
        plan = _plan_of(generation)
        assert plan is not None
        # Stands for the document that the close will post; it is never stored.
        expected = Accrual(
            generation=generation,
            revision=latest.revision,
            plan=plan,
            gross=estimated_gross,
            account_ids=[],
            amounts=[],
        )
        return Standing(generation, "estimated", latest, expected, None, None)
    # A plan that leaves it free refuses nothing: it stays as it is.
    free = refusal is not None and refusal.reason == Refusal.Reason.NOT_CHARGED
    state = "refused" if refusal and not free else str(generation.state)
    if refusal is None and latest is not None and is_archived(generation.pk):
        state = "archived"
    return Standing(generation, state, latest, None, None, refusal)


def _plan_of(generation: Generation) -> RoyaltyPlan | None:
    plans = RoyaltyPlan.objects.filter(
        currency=generation.currency, state=RoyaltyPlan.State.APPROVED, effective_from__lte=generation.occurred_at
    )
    scoped = [
        plan
        for plan in plans
        if plan.covers(service_id=generation.service_id, model_version_id=generation.model_version_id)
    ]
    return max(scoped, key=lambda plan: (plan.specificity, plan.effective_from), default=None)


def _voided(
    generation: Generation, void: Void, attributions: QuerySet[Attribution], documents: dict[int, Accrual]
) -> Standing:
    """A generation that its service took back, with the last document that was reversed for it, if there was one."""
    last = max((revision for revision in documents if revision > 0), default=None)
    if last is None:
        return Standing(generation, "voided", None, None, None, None, void)
    entries = {
        entry.batch_id: entry
        for entry in Entry.objects.select_related("period", "earned_period").filter(
            batch_id__in=[documents[last].batch_id, documents[-last].batch_id]
        )
    }
    accrual, back = documents[last], entries[documents[-last].batch_id]
    counted = attributions.get(revision=last)
    return Standing(generation, "voided", counted, accrual, entries[accrual.batch_id], None, void, back)


def se_ppb(attribution: Attribution, place: int, whole: float) -> int:
    """The standard error of a holder's score on the scale of its share, where the shares are parts of `whole`; 0 under
    rule 2, which needs none."""
    if not attribution.se:
        return 0
    return min(round(attribution.se[place] / whole * PPB), PPB) if whole > 0 else 0


def part_of(attribution: Attribution, place: int | None) -> int:
    """The part of the grid of the holder in this place of the row; 0 for one that is not paid."""
    return attribution.parts[place] if attribution.parts and place is not None else 0


# --- for the service ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class HolderShare:
    holder: Holder
    ppb: int
    se_ppb: int
    # Of the grid; None under rule 1.
    part: int | None
    # None until the generation is accrued.
    amount: int | None
    works: list[tuple[Work, float]]


@dataclass(frozen=True, slots=True)
class ServiceReceipt:
    standing: Standing
    division: Division | None
    shares: list[HolderShare]


def receipt_for_service(generation_id: uuid.UUID, service_id: int) -> ServiceReceipt | None:
    """None where the service has no such generation."""
    generation = (
        Generation.objects.filter(pk=generation_id, service_id=service_id)
        .select_related("service", "model_version")
        .defer("prompt_text", "output_text", "token_ids")
        .first()
    )
    if generation is None:
        return None
    standing = _standing(generation)
    attribution, division = standing.attribution, None if standing.void else standing.division
    if attribution is None:
        return ServiceReceipt(standing, None, [])
    ppb, units = shares_by_holder(attribution), division.units_of if division else {}
    named = sorted({holder for holder, part in ppb.items() if part} | units.keys())
    holders = Holder.objects.in_bulk(named)
    evidence = {holder: ranked_works(attribution.top_works, [holder]) for holder in named}
    places = {holder: place for place, holder in enumerate(attribution.holder_ids)}
    whole = positive_sum(attribution)
    works = Work.objects.in_bulk({work_id for ranked in evidence.values() for work_id, _ in ranked})
    shares = [
        HolderShare(
            holder=holders[holder],
            ppb=ppb.get(holder, 0),
            se_ppb=se_ppb(attribution, places[holder], whole) if holder in places else 0,
            part=None if attribution.general is None else part_of(attribution, places.get(holder)),
            amount=units.get(holder, 0) if division else None,
            works=[(works[work_id], score) for work_id, score in evidence[holder]],
        )
        for holder in named
    ]
    return ServiceReceipt(standing, division, sorted(shares, key=lambda share: (-share.ppb, share.holder.pk)))


# --- for the contributor ------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class OwnShare:
    """One holder of the contributor in one generation."""

    holder: Holder
    ppb: int
    se_ppb: int
    general_ppb: int
    score: float
    se: float
    below_noise: bool
    # The group of the same beneficial owner, if any: its score decided, and its holders divided the share.
    group: Group | None
    # Rule 2: the holder's part of the grid, of which the share is made.
    part: int
    # Units of the holder, the exact quota they were rounded from, and the contributor's part by the split sheet.
    units: int
    quota: Fraction
    split_ppb: int
    credited: int

    @property
    def rounded_up(self) -> bool:
        return self.units > self.quota


@dataclass(frozen=True, slots=True)
class OwnWork:
    work: Work
    score: float
    # The part of the contributor's credit that goes with this work on statements.
    amount: int


@dataclass(frozen=True, slots=True)
class ContributorReceipt:
    standing: Standing
    division: Division
    shares: list[OwnShare]
    works: list[OwnWork]
    # The document's credit to the contributor's accounts, and the result of the division above.
    credited: int
    recomputed: int
    # Documents of the generation that were taken back, as (revision, credited, entry id).
    earlier: list[tuple[int, int, int]]

    @property
    def agrees(self) -> bool:
        return self.credited == self.recomputed

    @property
    def currency(self) -> str:
        assert self.standing.accrual is not None
        return self.standing.accrual.plan.currency


def receipt_for_contributor(
    generation_id: uuid.UUID, contributor_id: int, *, estimated_gross: int | None = None
) -> ContributorReceipt | None:
    """The receipt of a generation that was accrued and that weighed one of the contributor's holders; else None.

    It is there also where the contributor was credited nothing: that, too, has a reason. With `estimated_gross`, a
    generation that waits for its month's pool has a receipt of its estimate.
    """
    generation = (
        Generation.objects.filter(pk=generation_id)
        .select_related("service", "model_version")
        .defer("prompt_text", "output_text", "token_ids")
        .first()
    )
    if generation is None:
        return None
    standing = _standing(generation, estimated_gross)
    attribution, division = standing.attribution, standing.division
    if attribution is None or division is None or standing.accrual is None:
        return None
    own_accounts = {account.pk for account in accounts_of(contributor_id, CREDITED_KINDS)}
    shares = _own_shares(contributor_id, standing, division)
    credited = _credit_of(standing.accrual, own_accounts)
    if standing.state == "estimated":
        credited = sum(share.credited for share in shares)
    if not shares and not credited:
        return None
    return ContributorReceipt(
        standing=standing,
        division=division,
        shares=shares,
        works=_own_works(attribution, [share.holder.pk for share in shares], credited),
        credited=credited,
        recomputed=sum(share.credited for share in shares),
        earlier=_earlier(generation, own_accounts, standing.accrual.revision),
    )


def _own_shares(contributor_id: int, standing: Standing, division: Division) -> list[OwnShare]:
    attribution = standing.attribution
    assert attribution is not None
    own = set(holders_of(contributor_id)) & weighed_holders(attribution)
    sheets = split_of(own, standing.generation.occurred_at)
    holders = Holder.objects.in_bulk(own)
    ppb, general, whole = shares_by_holder(attribution), general_by_holder(attribution), positive_sum(attribution)
    places = {holder: place for place, holder in enumerate(attribution.holder_ids)}
    shares = []
    for holder_id in sorted(own):
        sheet = sheets.get(holder_id, [])
        split_ppb = dict(sheet).get(contributor_id, 0)
        if not split_ppb:
            continue
        place, units = places.get(holder_id), division.units_of.get(holder_id, 0)
        score, se, below_noise, group = _weighed(attribution, holder_id, place)
        shares.append(
            OwnShare(
                holder=holders[holder_id],
                ppb=ppb.get(holder_id, 0),
                se_ppb=0 if place is None else se_ppb(attribution, place, whole),
                general_ppb=general.get(holder_id, 0),
                score=score,
                se=se,
                below_noise=below_noise,
                group=group,
                part=part_of(attribution, place),
                units=units,
                quota=division.quota(holder_id),
                split_ppb=split_ppb,
                credited=_split_part(standing.generation, units, sheet, contributor_id),
            )
        )
    return sorted(shares, key=lambda share: (-share.ppb, share.holder.pk))


def _weighed(attribution: Attribution, holder_id: int, place: int | None) -> tuple[float, float, bool, Group | None]:
    """(score, standard error, whether both left it below the noise floor, its group); under rule 2 the score is the
    pay of its items, in nats, and nothing else decides."""
    if attribution.rule == Attribution.Rule.ITEMS:
        return attribution.pay * part_of(attribution, place) / max(sum(attribution.parts), 1), 0.0, False, None
    assert place is not None, "Rule 1 weighs every holder."
    score, se = attribution.scores[place], attribution.se[place]
    group = group_of(attribution, holder_id)
    decisive = (group.score, group.se) if group else (score, se)
    return score, se, 0 < decisive[0] < attribution.noise_z * decisive[1], group


def _split_part(generation: Generation, units: int, sheet: Sequence[tuple[int, int]], contributor_id: int) -> int:
    """The contributor's part of a holder's units, to the last unit."""
    keys = [tie_key(generation.pk.bytes, number) for number, _ in sheet]
    parts = apportion(units, [ppb for _, ppb in sheet], keys)
    return sum(parts[i] for i, (number, _) in enumerate(sheet) if number == contributor_id)


def _own_works(attribution: Attribution, holder_ids: Sequence[int], credited: int) -> list[OwnWork]:
    ranked = ranked_works(attribution.top_works, holder_ids)
    amounts = dict(divide_among_works(credited, attribution.generation_id, ranked))
    works = Work.objects.select_related("dataset").in_bulk([work_id for work_id, _ in ranked])
    return [OwnWork(works[work_id], score, amounts.get(work_id, 0)) for work_id, score in ranked]


def _credit_of(accrual: Accrual, account_ids: set[int]) -> int:
    return sum(amount for account, amount in accrual.credits.items() if account in account_ids)


def _earlier(generation: Generation, account_ids: set[int], standing: int) -> list[tuple[int, int, int]]:
    earlier = Accrual.objects.filter(generation=generation, revision__gt=0).exclude(revision=standing)
    documents = list(earlier.order_by("revision"))
    entries = dict(Entry.objects.filter(batch_id__in=[d.batch_id for d in documents]).values_list("batch_id", "id"))
    return [(d.revision, _credit_of(d, account_ids), entries[d.batch_id]) for d in documents]
