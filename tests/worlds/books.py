"""A small programme for the ledger's tests: people, a service, a plan in effect, and attributions at will.

People, plans and every entry come from operations. Generations and attributions are written as the attribution app
writes them, because their gradients are not under test here.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from attribution.models import Attribution, AttributionIndex, Generation, ModelService, ModelVersion
from contributors.models import PPB, Contributor, Holder
from contributors.operations.people import register_contributor, register_holder
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import RoyaltyPlan
from ledger.money import apportion, tie_key, whole_minor
from ledger.operations import accruals, closing, payouts, periods, plans, programme, sealing, verbs
from people.models import User
from people.operations.users import register_user
from tests.worlds.manual import finance

CENT = 10_000_000
PRICE = 5 * CENT
_numbers = itertools.count(1)

TERMS: dict[str, Any] = {
    "basis": "price",
    "price": PRICE,
    "take_ppb": PPB // 5,
    "floor_ppb": PPB // 5,
    "floor_rule": "general",
}


def evenly(n: int, subject: bytes = b"even") -> list[int]:
    """n parts of a billion, as equal as integers allow."""
    return apportion(PPB, [1] * n, [tie_key(subject, i) for i in range(n)])


@dataclass
class World:
    at: datetime
    users: list[User]
    contributors: list[Contributor]
    service: ModelService
    index: AttributionIndex
    plan: RoyaltyPlan | None = None
    generations: list[Generation] = field(default_factory=list)

    @property
    def staff(self) -> list[User]:
        """Two people: one proposes and the other decides; they act for no contributor."""
        return finance(self.at)

    @property
    def floor(self) -> AccountKey:
        """The floor pool of the first plan."""
        assert self.plan is not None
        return AccountKey("floor_pool", "USD", f"plan:{self.plan.pk}")

    @property
    def holders(self) -> list[Holder]:
        return [Holder.objects.get(created_by=c, is_default=True) for c in self.contributors]

    def key(self, kind: str, place: int = 0, currency: str = "USD") -> AccountKey:
        return AccountKey(kind, currency, f"contributor:{self.contributors[place].pk}")

    def balance(self, kind: str, place: int = 0, currency: str = "USD") -> int:
        return journal.balance(self.key(kind, place, currency))

    def adopt(self, *, currency: str = "USD", effective_from: datetime | None = None, **terms: Any) -> RoyaltyPlan:
        """A plan proposed by one and adopted by another."""
        plan = plans.propose_plan(
            by=self.staff[0],
            currency=currency,
            effective_from=effective_from or self.at - timedelta(days=30),
            at=self.at,
            terms={**TERMS, **terms},
        )
        return plans.adopt_plan(plan=plan, by=self.staff[1], at=self.at)

    def generate(
        self,
        n: int = 1,
        *,
        occurred_at: datetime | None = None,
        gross: int | None = None,
        currency: str = "USD",
    ) -> list[Generation]:
        """Report generations as the attribution app stores them."""
        occurred_at = occurred_at or self.at - timedelta(hours=1)
        made = [
            Generation(
                service=self.service,
                external_id=f"g{next(_numbers)}",
                model_version=self.index.model_version,
                output_text="text",
                output_sha256=hashlib.sha256(b"text").digest(),
                occurred_at=occurred_at,
                received_at=self.at,
                gross=gross,
                currency=currency,
                request_sha256=hashlib.sha256(b"request").digest(),
            )
            for _ in range(n)
        ]
        Generation.objects.bulk_create(made)
        self.generations += made
        return made

    def attribute(
        self,
        generations: Sequence[Generation],
        *,
        holders: Sequence[Holder] | None = None,
        shares: Sequence[int] | None = None,
        general: Sequence[int] | None = None,
        weight_ppb: int = PPB // 2,
        revision: int = 1,
    ) -> list[Attribution]:
        """Attribute generations to holders: equal shares by default; the part missing to 10^9 is unattributed."""
        holders = self.holders if holders is None else holders
        shares = evenly(len(holders)) if shares is None else shares
        general = evenly(len(holders)) if general is None else general
        rows = Attribution.objects.bulk_create(
            Attribution(
                generation=generation,
                revision=revision,
                index=self.index,
                weight_ppb=weight_ppb,
                noise_z=2.0,
                holder_ids=[h.pk for h in holders],
                scores=[float(s) for s in shares],
                se=[0.0] * len(shares),
                shares_ppb=list(shares),
                unattributed_ppb=PPB - sum(shares),
                general_scores=[float(s) for s in general],
                general_se=[0.0] * len(general),
                general_ppb=list(general),
                general_unattributed_ppb=PPB - sum(general),
                prompt_tokens=0,
                scored_tokens=10,
                created_at=self.at,
            )
            for generation in generations
        )
        Generation.objects.filter(pk__in=[g.pk for g in generations], state="received").update(state="attributed")
        return rows

    def accrue_all(self) -> int:
        return sum(iter(lambda: accruals.accrue(at=self.at), 0))


def build_world(at: datetime, *, contributors: int = 3, plan: bool = True) -> World:
    """People, one service with an audited index, open periods and, unless told otherwise, a plan at $0.05."""
    number = next(_numbers)
    users = [
        register_user(email=f"u{number}x{i}@example.org", password="correct horse", name=f"U{i}", at=at)
        for i in range(2)
    ]
    people = [
        register_contributor(
            user=users[0],
            kind="person",
            legal_name=f"Author {i}",
            display_name=f"Author {i}",
            country="US",
            at=at - timedelta(days=60),
        )
        for i in range(contributors)
    ]
    service = ModelService.objects.create(name=f"service {number}", created_at=at)
    version = ModelVersion.objects.create(
        service=service,
        name="m1",
        adapter="causal_lm",
        factory="demo",
        purpose="train_generative",
        checkpoint_sha256=bytes(32),
        trained_at=at - timedelta(days=50),
        created_at=at,
    )
    index = AttributionIndex.objects.create(
        model_version=version,
        config_sha256=bytes(32),
        sha256=bytes(32),
        state="audited",
        weight_ppb=PPB // 2,
        created_at=at,
        noise_z=2.0,
    )
    periods.open_periods(at=at)
    world = World(at, users, people, service, index)
    if plan:
        world.plan = world.adopt()
    return world


NOVEMBER = datetime(2026, 11, 20, 12, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 25, 12, tzinfo=UTC)


def tell_story(at: datetime) -> World:
    """Two months of a programme with everything in it: two plans, a split sheet, refusals, a restatement across a
    closed and sealed month, payouts that succeed, are refused and come back, and the service's money."""
    october = OCTOBER
    world = build_world(october)
    verbs.post_verb(
        verb="prefund_service", service=world.service, amount=100 * CENT, currency="USD", reference="wire 1", at=october
    )
    verbs.post_verb(verb="capital", amount=100_000 * CENT, currency="USD", reference="founding", at=october)
    programme.top_up_stripe(amount=90_000 * CENT, currency="USD", reference="tu_1", at=october)
    world.adopt(
        currency="EUR", basis="revenue_share", price=None, rate_ppb=PPB // 3, general_ppb=PPB // 4, cap_ppb=PPB // 3
    )
    band = register_holder(
        contributor=world.contributors[0],
        label="The band",
        parts={world.contributors[0]: PPB // 3, world.contributors[1]: PPB - PPB // 3},
        effective_from=october - timedelta(days=30),
        at=october,
    )
    first = world.generate(20)
    world.attribute(first[:19], shares=[500_000_001, 300_000_000, 100_000_000], general=[PPB, 0, 0])
    world.attribute(
        world.generate(7, currency="EUR", gross=7_777_777),
        holders=[*world.holders, band],
        shares=evenly(4),
        general=evenly(4),
    )
    world.attribute(world.generate(1, currency="EUR"))
    world.attribute(world.generate(1, currency="JPY"))
    world.accrue_all()
    verbs.post_verb(verb="invoice_service", service=world.service, currency="USD", reference="INV-1", at=october)
    verbs.post_verb(verb="apply_deposit", service=world.service, currency="USD", reference="INV-1", at=october)
    world.at = at
    closing.close_period(period=202609, at=at)
    closing.close_period(period=202610, at=at)
    sealing.seal_period(period=202609, at=at)
    sealing.seal_period(period=202610, at=at)
    world.attribute(first[19:])
    for place, ends in [(0, "succeeds"), (1, "is refused"), (2, "comes back")]:
        who = world.contributors[place].pk
        due = whole_minor(world.balance("contributor_payable", place), "USD")
        tax = whole_minor(due // 10, "USD")
        key = f"po_{who}_1"
        reserve = payouts.reserve_payout(
            contributor_id=who, currency="USD", gross=due, tax=tax, rail="stripe", attempt_key=key, at=at
        )
        if ends == "is refused":
            payouts.refuse_payout(reserve_entry=reserve, attempt_key=key, at=at)
            continue
        payouts.succeed_payout(reserve_entry=reserve, attempt_key=key, currency="USD", net=due - tax, at=at)
        if ends == "comes back":
            payouts.record_transfer_reversal(
                contributor_id=who, currency="USD", amount=due - tax, reversal_id=f"trr_{who}", at=at
            )
            if tax:
                payouts.reverse_withholding(
                    contributor_id=who, currency="USD", amount=tax, reversal_id=f"trr_{who}", at=at
                )
    # The first author was paid for shares that a second look gives to the others.
    world.attribute(first[:5], shares=[0, 0, PPB], revision=2)
    world.attribute(world.generate(4))
    world.accrue_all()
    return world
