"""Rule 2 of shares in the books: sparse rows are accrued, restated, distributed and shown beside those of rule 1."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from attribution.models import Attribution, AttributionIndex, GeneralShares, Generation, ModelVersion
from attribution.operations import attributions, measurements, recomputations
from attribution.queries import generations
from contributors.models import PPB
from influence import verify
from influence.paid_items import PaidItems
from ledger.api.receipts import _as_json
from ledger.models import Accrual, Period
from ledger.operations import closing, floors, previews
from ledger.queries.invariants import check_all
from ledger.queries.receipt import receipt_for_contributor, receipt_for_service
from tests.ledger.operations.test_previews import propose
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import World, build_world

pytestmark = pytest.mark.django_db


def index_of_items(world: World) -> AttributionIndex:
    """An index of rule 2 beside the world's own one, of rule 1."""
    version = ModelVersion.objects.create(
        service=world.service,
        name="m2",
        adapter="causal_lm",
        factory="demo",
        purpose="train_generative",
        checkpoint_sha256=bytes(32),
        trained_at=world.at - timedelta(days=50),
        created_at=world.at,
    )
    return AttributionIndex.objects.create(
        model_version=version,
        config_sha256=bytes(32),
        sha256=bytes(32),
        state="audited",
        weight_ppb=PPB // 2,
        created_at=world.at,
        rule=2,
        items_paid=100,
    )


def by_items(
    world: World,
    index: AttributionIndex,
    made: Sequence[Generation],
    *,
    excess: Sequence[float],
    holders: Sequence[int],
    general: Sequence[float] = (1.0, 1.0, 2.0),
    revision: int = 1,
) -> list[Attribution]:
    """Store the results of a worker: one item of each of these excesses, for these holders by their place."""
    ids = [holder.pk for holder in world.holders]
    rows = np.arange(len(excess))
    paid = np.array([ids[place] for place in holders], dtype=int)
    items = PaidItems(0.25, 5_000, rows + 1, np.array(excess), np.ones(len(excess)), rows, paid)
    measured = measurements.Measured(
        tuple(ids), [], [], list(general), [0.0] * len(ids), [], {}, prompt_tokens=1, scored_tokens=10, items=items
    )
    shared = attributions.GeneralShares(index)
    found = [attributions.to_row(index, one, measured, shared, at=world.at, revision=revision) for one in made]
    stored = [row for row in found if isinstance(row, Attribution)]
    Attribution.objects.bulk_create(stored)
    Generation.objects.filter(pk__in=[one.pk for one in made]).update(state="attributed")
    return stored


def violations() -> list[object]:
    return [(result.name, result.rows) for result in check_all() if result.rows]


def test_both_rules_stand_beside_each_other_to_the_closed_month() -> None:
    world = build_world(OCTOBER)
    index = index_of_items(world)
    old, new, nothing = world.generate(1), world.generate(2), world.generate(1)
    world.attribute(old, shares=[PPB // 2, PPB // 2, 0], general=[0, 0, PPB])
    rows = by_items(world, index, new, excess=[3.0, 1.0, 4.0], holders=[0, 0, 1])
    # No item explains it: all of it goes to the base pool, which follows the general shares.
    (unexplained,) = by_items(world, index, nothing, excess=[], holders=[])
    ids = [holder.pk for holder in world.holders]
    assert rows[0].holder_ids == ids[:2]
    assert rows[0].shares_ppb == [PPB // 2, PPB // 2]
    assert (unexplained.holder_ids, unexplained.unattributed_ppb) == ([], PPB)
    assert GeneralShares.objects.count() == 1
    assert world.accrue_all() == 4
    assert violations() == []
    credits = {row.generation_id: len(row.amounts) for row in Accrual.objects.all()}
    assert [credits[one.pk] for one in (*new, *nothing)] == [4, 4, 2]
    october = Period.objects.get(pk=202610)
    assert world.plan is not None
    weights, counted = floors.general_weights(october, world.plan, until=october)
    assert counted == 4
    assert weights == {ids[0]: 3 * PPB // 4, ids[1]: 3 * PPB // 4, ids[2]: 3 * PPB // 2 + PPB}
    for attribution in Attribution.objects.all():
        assert recomputations.recompute(attribution=attribution).agrees
    closing.close_period(period=202609, at=NOVEMBER)
    closing.close_period(period=202610, at=NOVEMBER)
    assert violations() == []


def test_a_receipt_shows_the_paid_and_says_why_another_is_not_and_verifies_alone() -> None:
    world = build_world(OCTOBER)
    (made,) = world.generate(1)
    (row,) = by_items(world, index_of_items(world), [made], excess=[3.0, 1.0], holders=[0, 1])
    world.accrue_all()
    found = receipt_for_service(made.pk, world.service.pk)
    assert found is not None
    told = _as_json(found)
    assert told["rule"] == 2
    assert told["items"] == {"paid_at_most": 100, "counted": 5_000, "threshold": 0.25, "pay": 4.0}
    assert [share["ppb"] for share in told["shares"]] == [750_000_000, 250_000_000]
    assert verify.verify(told)
    told["shares"][0]["ppb"] += 1
    assert not verify.verify(told)
    paid, _, unpaid = (receipt_for_contributor(made.pk, one.pk) for one in world.contributors)
    assert paid is not None
    assert unpaid is not None
    assert (paid.shares[0].ppb, paid.shares[0].score, paid.agrees) == (750_000_000, 3.0, True)
    assert (unpaid.credited, unpaid.shares[0].ppb, unpaid.shares[0].general_ppb) == (0, 0, PPB // 2)
    assert generations.weighed_holders(row) == {holder.pk for holder in world.holders}
    assert [share.ppb for share in generations.shares_of(row)] == [750_000_000, 250_000_000, 0]
    row.parts[0] += 1_000
    assert not recomputations.recompute(attribution=row).specific_agrees


def test_a_plan_that_pays_general_shares_reads_them_from_their_own_row() -> None:
    world = build_world(OCTOBER, plan=False)
    world.plan = world.adopt(general_ppb=PPB // 2)
    (made,) = world.generate(1)
    by_items(world, index_of_items(world), [made], excess=[1.0], holders=[0])
    world.accrue_all()
    assert violations() == []
    found = receipt_for_service(made.pk, world.service.pk)
    assert found is not None
    assert found.division is not None
    amounts = {share.holder.pk: share.amount for share in found.shares}
    direct, ids = found.division.direct, [holder.pk for holder in world.holders]
    assert amounts == {ids[0]: direct * 5 // 8, ids[1]: direct // 8, ids[2]: direct // 4}
    for contributor in world.contributors:
        receipt = receipt_for_contributor(made.pk, contributor.pk)
        assert receipt is not None
        assert receipt.agrees


def test_a_restatement_and_a_preview_follow_sparse_rows() -> None:
    world = build_world(OCTOBER)
    index = index_of_items(world)
    (made,) = world.generate(1)
    by_items(world, index, [made], excess=[1.0], holders=[0])
    world.accrue_all()
    assert world.balance("contributor_accrued", 0) > 0
    by_items(world, index, [made], excess=[1.0], holders=[1], general=(0.0, 0.0, 1.0), revision=2)
    world.accrue_all()
    assert (world.balance("contributor_accrued", 0), world.balance("contributor_accrued", 1) > 0) == (0, True)
    assert GeneralShares.objects.count() == 2
    assert violations() == []
    asked = previews.request_preview(
        plan=propose(world), period=Period.objects.get(pk=202610), by=world.staff[0], at=NOVEMBER
    )
    shown = previews.compute_preview(preview=asked, at=NOVEMBER)
    # The base pool goes by the general shares of the revision that stands.
    assert shown.contributor_ids == [world.contributors[1].pk, world.contributors[2].pk]


def test_the_database_refuses_a_row_of_two_rules() -> None:
    world = build_world(OCTOBER)
    (made,) = world.generate(1)
    (row,) = by_items(world, index_of_items(world), [made], excess=[1.0], holders=[0])
    row.pk, row.revision, row.rule = None, 2, 1
    with pytest.raises(IntegrityError, match="of_one_rule"), transaction.atomic():
        row.save(force_insert=True)


def test_the_page_of_a_receipt_explains_rule_2_with_its_figures() -> None:
    world = build_world(OCTOBER, contributors=1)
    (made,) = world.generate(1)
    index = index_of_items(world)
    of_shares, of_scores = {"lds": 0.76, "low": 0.67, "high": 0.78}, {"lds": 0.65, "low": 0.55, "high": 0.69}
    index.audit = {
        "passed": True,
        "coalitions": 16,
        "own_generations": {"specific": of_scores},
        "paid": {"own_generations": {"rule_1": of_scores, "rule_2": of_shares}},
    }
    index.save(update_fields=["audit"])
    by_items(world, index, [made], excess=[3.0, 1.0], holders=[0, 0], general=(1.0,))
    (nothing,) = world.generate(1)
    by_items(world, index, [nothing], excess=[], holders=[], general=(1.0,))
    world.accrue_all()
    client = Client(headers={"Host": "127.0.0.1"})
    client.force_login(world.users[0], backend="allauth.account.auth_backends.AuthenticationBackend")
    page = client.get(f"/portal/receipts/{made.pk}/").content.decode()
    figures = ("5,000", "the 100 with the largest scores", "0.25 nats", "4 of 4 nats", f"{2**30:,} of {2**30:,}")
    for figure in figures:
        assert figure in " ".join(page.split())
    assert "noise floor" not in page
    # The rule has no standard error, and its agreement is that of the paid shares.
    assert "± 0.00" not in page
    assert "0.760" in page
    assert "0.650" not in page
    unpaid = " ".join(client.get(f"/portal/receipts/{nothing.pk}/").content.decode().split())
    assert "None of the 5,000 judged training items explains it better" in unpaid
    assert "Explained by no item" in unpaid
