"""Two months of a programme with everything in it, for the tests that need a whole set of books."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from contributors.models import PPB
from contributors.operations.people import register_holder
from ledger.money import whole_minor
from ledger.operations import closing, payouts, programme, sealing, verbs
from tests.worlds.world import CENT, World, build_world, evenly

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
