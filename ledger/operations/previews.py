"""The would-be effect of a proposed plan on a month: the same division run twice over the month's stored attributions.

Moves nothing and writes no entry. Memory is bounded by the number of contributors and one page of generations, so that
a month of hundreds of thousands of generations can be previewed; a large one is computed in the background.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db import IntegrityError, transaction

from attribution.models import GeneralShares
from ledger import division
from ledger.division import Case
from ledger.models import Period, PlanPreview, RoyaltyPlan
from ledger.operations.floors import equal_weights, share_out
from ledger.operations.pools import bounds, expected_part, pool_among
from people.actor import lacks_role, logged
from people.models import User
from people.queries.proposals import FINANCE

# The lines of a preview, each under the plans in effect and under the proposal.
TOTALS = (
    "generations",
    "refused",
    "gross",
    "take",
    "attributed",
    "floor_in",
    "floor_out",
    "floor_kept",
    "contributors",
)
ERROR_CHARACTERS_MAX = 300


class UnableToPreview(Exception):
    """The plan is no proposal any more, the month has not begun, or the person lacks the role."""

    status = 409
    problem = "preview-refused"


@dataclass(slots=True)
class _Side:
    """The effect of one set of plans on the month, added up generation by generation."""

    plans: Mapping[int, RoyaltyPlan]
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOTALS, 0))
    contributors: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    # plan -> the gain of its base pool; plan -> holder -> sum of general shares; plan -> model versions seen
    floors: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    general: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    # plan -> row of general shares -> number of generations
    shared: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    models: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def take(self, cases: Sequence[Case]) -> None:
        accepted = []
        for case in cases:
            self.counts["generations"] += 1
            plan = self.plans.get(case.plan_id) if case.plan_id is not None else None
            if plan is None or division.price(case, plan)[0] is not None:
                self.counts["refused"] += 1
            else:
                accepted.append(case)
        division.divide_all(accepted, self.plans)
        kept, lacking = division.split_all(accepted)
        self.counts["refused"] += len(lacking)
        for case in kept:
            self._add(case)

    def _add(self, case: Case) -> None:
        assert case.plan_id is not None
        self.counts["gross"] += case.gross
        self.counts["take"] += case.take
        self.floors[case.plan_id] += case.floor
        self.models[case.plan_id].add(case.model_version_id)
        for (contributor, _), units in case.contributors.items():
            self.contributors[contributor] += units
            self.counts["attributed"] += units
        if case.general_id is not None:
            self.shared[case.plan_id][case.general_id] += 1
            return
        general = self.general[case.plan_id]
        for holder, ppb in zip(case.holder_ids, case.general_ppb, strict=True):
            if ppb:
                general[holder] += ppb

    def distribute(self, month: Period) -> None:
        """The base pools, as a close would distribute this month's gains of them."""
        for plan_id, pool in sorted(self.floors.items()):
            plan = self.plans[plan_id]
            holders = self._general_of(plan_id)
            if plan.floor_rule == RoyaltyPlan.FloorRule.EQUAL:
                holders = equal_weights(month, self.models[plan_id])
            credited = share_out(month, plan, pool, holders).credited if pool else {}
            for contributor, units in credited.items():
                self.contributors[contributor] += units
            self.counts["floor_in"] += pool
            self.counts["floor_out"] += sum(credited.values())
        self.counts["floor_kept"] = self.counts["floor_in"] - self.counts["floor_out"]
        self.counts["contributors"] = self.counts["attributed"] + self.counts["floor_out"]

    def _general_of(self, plan_id: int) -> dict[int, int]:
        """Holder -> the sum of its general shares over the plan's generations."""
        found = self.general[plan_id]
        counts = self.shared.get(plan_id, {})
        rows = GeneralShares.objects.filter(pk__in=counts).values_list("pk", "holder_ids", "ppb")
        for pk, holder_ids, ppb in rows.iterator():
            for holder, part in zip(holder_ids, ppb, strict=True):
                found[holder] += part * counts[pk]
        return {holder: weight for holder, weight in found.items() if weight}


@logged("plan", "pk", "period", key="plan_id")
def request_preview(*, plan: RoyaltyPlan, period: Period, by: User, at: datetime) -> PlanPreview:
    """Ask for a proposal's preview over a month; one that waits already is returned. Computed by `compute_preview`."""
    if refusal := lacks_role(by=by, roles=FINANCE):
        raise UnableToPreview(refusal)
    if plan.state != RoyaltyPlan.State.PROPOSED:
        raise UnableToPreview(f"{plan} is {plan.state}; only a proposal is previewed.")
    if bounds(period)[0] > at:
        raise UnableToPreview(f"{period} has not begun.")
    try:
        with transaction.atomic():
            return PlanPreview.objects.create(plan=plan, period=period, asked_by=by, asked_at=at)
    except IntegrityError:
        return PlanPreview.objects.get(plan=plan, period=period, state=PlanPreview.State.WAITING)


def compute_preview(*, preview: PlanPreview, at: datetime) -> PlanPreview:
    """Compute a waiting preview and keep it. A fault is kept with it and raised; run again, a done one stays."""
    with transaction.atomic():
        fresh = PlanPreview.objects.select_for_update(no_key=True).get(pk=preview.pk)
        if fresh.state != PlanPreview.State.WAITING:
            return fresh
        before, after = _both_sides(fresh.plan, fresh.period)
        contributors = sorted(set(before.contributors) | set(after.contributors))
        fresh.state, fresh.computed_at = PlanPreview.State.DONE, at
        fresh.n_generations = before.counts["generations"]
        fresh.totals = {name: [before.counts[name], after.counts[name]] for name in TOTALS}
        fresh.contributor_ids = contributors
        fresh.before = [before.contributors.get(c, 0) for c in contributors]
        fresh.after = [after.contributors.get(c, 0) for c in contributors]
        fresh.save()
    return fresh


def compute_waiting_previews(*, at: datetime) -> int:
    """Compute the waiting previews, one after the other; returns their number. One that fails says why and holds up no
    other.
    """
    done = 0
    for preview in PlanPreview.objects.filter(state=PlanPreview.State.WAITING).order_by("id"):
        try:
            compute_preview(preview=preview, at=at)
        except (ArithmeticError, AssertionError, LookupError, ValueError) as error:
            words = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX]
            PlanPreview.objects.filter(pk=preview.pk).update(state=PlanPreview.State.FAILED, error=words)
        done += 1
    return done


def _both_sides(proposal: RoyaltyPlan, month: Period) -> tuple[_Side, _Side]:
    since, until = bounds(month)
    effective = RoyaltyPlan.objects.filter(currency=proposal.currency, state=RoyaltyPlan.State.APPROVED)
    before = _Side({plan.pk: plan for plan in effective})
    after = _Side({**before.plans, proposal.pk: proposal})
    # An estimate where the month is not divided yet; a divided pool has its parts.
    expected = {p.pk: expected_part(p, month) for p in before.plans.values() if p.basis == p.Basis.PERIOD_POOL}
    left = _parts_left(proposal, before.plans, month)
    parts = _parts_of_proposal(proposal, month) if proposal.basis == RoyaltyPlan.Basis.PERIOD_POOL else None
    for page in division.pages_of(currency=proposal.currency, since=since, until=until):
        for case in page:
            if case.pool_part is None and case.plan_id in expected:
                case.pool_part = expected[case.plan_id]
        proposed = [_under(proposal, case, before.plans, parts, left) for case in page]
        before.take(page)
        after.take(proposed)
    before.distribute(month)
    after.distribute(month)
    return before, after


@dataclass(slots=True)
class _Parts:
    """A pool in equal parts; the units that do not divide go to the first ones of the order."""

    whole: int
    rest: int

    def next(self) -> int:
        self.rest -= 1
        return self.whole + (1 if self.rest >= 0 else 0)


def _parts_left(proposal: RoyaltyPlan, plans: Mapping[int, RoyaltyPlan], month: Period) -> dict[int, _Parts]:
    """Plan -> the parts of its pool once the proposal has taken generations out of it: the others share all of it.

    A pool that loses none is not among them: its parts stay.
    """
    since, until = bounds(month)
    found = {}
    for plan in plans.values():
        if plan.basis == RoyaltyPlan.Basis.PERIOD_POOL:
            taken = division.count_taken_over(proposal=proposal, plan=plan, since=since, until=until)
            total, among = pool_among(plan, month) if taken else (0, 0)
            if taken and among > taken:
                found[plan.pk] = _Parts(*divmod(total, among - taken))
    return found


def _under(
    proposal: RoyaltyPlan,
    case: Case,
    plans: Mapping[int, RoyaltyPlan],
    parts: _Parts | None,
    left: Mapping[int, _Parts],
) -> Case:
    """The case as the proposal would price it; outside its scope, and under a more specific plan, as it is."""
    current = plans.get(case.plan_id) if case.plan_id is not None else None
    if not division.would_price(proposal, case, current):
        others = left.get(case.plan_id) if case.plan_id is not None else None
        if others is not None and case.pool_part is not None:
            return replace(case, pool_part=others.next(), holders={}, contributors={})
        return replace(case, holders={}, contributors={})
    part = parts.next() if parts is not None and case.reported is None else None
    return replace(case, plan_id=proposal.pk, pool_part=part, holders={}, contributors={})


def _parts_of_proposal(proposal: RoyaltyPlan, month: Period) -> _Parts:
    since, until = bounds(month)
    count = division.count_without_gross(plan=proposal, since=since, until=until)
    return _Parts(*divmod(proposal.pool or 0, count)) if count else _Parts(0, 0)
