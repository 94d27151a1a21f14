"""A whole model version attributed again by a newer index, in batches that go on where the last one ended."""

from __future__ import annotations

from datetime import timedelta

import pytest

from attribution.models import Attribution, AttributionIndex, Generation
from attribution.operations import attributions, indexes
from influence.shares import BILLION
from ledger import tasks
from ledger.models import Accrual, Entry, Restatement
from ledger.operations import accruals, corrections, periods, plans
from ledger.queries.invariants import check_all
from people.models import User
from people.operations import users
from people.operations.proposals import approve
from tests.worlds.archive import detach_documents
from tests.worlds.programme import Programme
from tests.worlds.trained import SMALL_INDEX
from tests.worlds.world import TERMS


def newer_index(programme: Programme, *, k: int = 8) -> AttributionIndex:
    index = indexes.build_index(model_version=programme.model_version, config={**SMALL_INDEX, "k": k}, at=programme.at)
    indexes.record_audit(
        index=index,
        at=programme.at,
        report={"index_sha256": bytes(index.sha256 or b"").hex(), "passed": True, "weight_ppb": BILLION},
    )
    index.refresh_from_db()
    return index


def accrued(indexed: Programme) -> tuple[User, User]:
    """Attribute and accrue five generations by the first index; returns the proposer and the approver."""
    at = indexed.at
    maker, checker = (
        users.register_user(
            email=f"{name}@finance.example",
            password="a long enough phrase",
            name=name,
            at=at,
            roles=[f"finance_{name}"],
        )
        for name in ("maker", "checker")
    )
    periods.open_periods(at=at)
    plan = plans.propose_plan(by=maker, currency="USD", effective_from=at - timedelta(days=20), at=at, terms=TERMS)
    approve(plan, by=checker, at=at)
    indexed.report(*[indexed.generation(f"g{place}") for place in range(5)])
    assert attributions.attribute_batch(at=at) == 5
    while accruals.accrue(at=at):
        pass
    return maker, checker


def test_a_model_version_is_restated_in_batches_by_a_newer_index(indexed: Programme) -> None:
    at = indexed.at
    maker, checker = accrued(indexed)
    voided = Generation.objects.get(external_id="g4")
    corrections.void_generation(generation=voided, reason="test", at=at)
    index = newer_index(indexed)
    asked = corrections.propose_restatement(
        index=index, since=at - timedelta(days=1), reason="a finer index", by=maker, at=at
    )
    approve(asked, by=checker, at=at)
    looked_at = []
    while found := corrections.continue_restatement(restatement=asked, at=at, limit=2):
        looked_at.append(found)
    assert looked_at == [2, 2]
    done = Restatement.objects.get()
    assert (done.state, done.finished_at, done.n_attributed, done.n_kept) == ("approved", at, 4, 0)
    assert corrections.continue_restatement(restatement=asked, at=at) == 0
    assert set(Attribution.objects.filter(revision=2).values_list("index_id", flat=True)) == {index.pk}
    assert not Attribution.objects.filter(generation=voided, revision=2).exists()
    while accruals.accrue(at=at, full=True):
        pass
    assert Entry.objects.filter(kind="restate").count() == 1
    # The first index had no weight: all went to the floor. The newer one pays by attribution.
    assert Accrual.objects.filter(revision=2).count() == 4
    assert not [(r.name, r.rows) for r in check_all() if r.rows]
    one = Generation.objects.get(external_id="g0")
    assert corrections.restate_generation(generation=one, at=at) == 3
    with pytest.raises(corrections.UnableToRestate, match="is void"):
        corrections.restate_generation(generation=voided, at=at)
    assert not [(r.name, r.rows) for r in check_all() if r.rows]


def test_what_is_archived_keeps_its_revision(indexed: Programme) -> None:
    at = indexed.at
    maker, checker = accrued(indexed)
    index = newer_index(indexed)
    asked = corrections.propose_restatement(index=index, since=at - timedelta(days=1), reason="finer", by=maker, at=at)
    approve(asked, by=checker, at=at)
    detach_documents()
    while corrections.continue_restatement(restatement=asked, at=at, limit=2):
        pass
    done = Restatement.objects.get()
    assert (done.state, done.finished_at, done.n_attributed, done.n_kept) == ("approved", at, 0, 5)
    one = Generation.objects.get(external_id="g0")
    with pytest.raises(corrections.UnableToRestate, match="moved to an archive"):
        corrections.restate_generation(generation=one, at=at)
    assert not Attribution.objects.filter(revision=2).exists()


def test_a_sweep_over_what_is_archived_stops_and_says_why(indexed: Programme) -> None:
    accrued(indexed)
    detach_documents()
    with pytest.raises(accruals.UnableToAccrue, match=r"moved to an archive.*Attach that month again"):
        accruals.accrue(at=indexed.at, full=True)


def test_one_generation_is_restated_alone_by_a_newer_index(indexed: Programme) -> None:
    at = indexed.at
    maker, checker = accrued(indexed)
    one = Generation.objects.get(external_id="g2")
    with pytest.raises(corrections.UnableToRestate, match="No index that passed its audit"):
        corrections.propose_generation_restatement(generation=one, reason="disputed", by=maker, at=at)
    index = newer_index(indexed)
    asked = corrections.propose_generation_restatement(generation=one, reason="disputed", by=maker, at=at)
    # The whole version may be restated beside it.
    corrections.propose_restatement(index=index, since=at - timedelta(days=1), reason="finer", by=maker, at=at)
    approve(asked, by=checker, at=at)
    assert corrections.continue_restatement(restatement=asked, at=at) == 1
    assert corrections.continue_restatement(restatement=asked, at=at) == 0
    asked.refresh_from_db()
    assert (asked.state, asked.finished_at, asked.n_attributed, asked.n_kept) == ("approved", at, 1, 0)
    assert list(Attribution.objects.filter(revision=2).values_list("generation_id", flat=True)) == [one.pk]
    while accruals.accrue(at=at):
        pass
    assert set(Accrual.objects.exclude(revision=1).values_list("generation_id", "revision")) == {
        (one.pk, -1),
        (one.pk, 2),
    }
    with pytest.raises(corrections.UnableToRestate, match="attributed it already"):
        corrections.propose_generation_restatement(generation=one, reason="again", by=maker, at=at)
    assert not [(r.name, r.rows) for r in check_all() if r.rows]


def test_a_restatement_whose_index_was_retired_holds_up_none_of_the_others(indexed: Programme) -> None:
    at = indexed.at
    maker, checker = accrued(indexed)
    newer_index(indexed)
    one = Generation.objects.get(external_id="g2")
    stuck = corrections.propose_generation_restatement(generation=one, reason="disputed", by=maker, at=at)
    approve(stuck, by=checker, at=at)
    index = newer_index(indexed, k=6)
    asked = corrections.propose_restatement(index=index, since=at - timedelta(days=1), reason="finer", by=maker, at=at)
    approve(asked, by=checker, at=at)
    assert tasks.continue_restatements() == 5
    stuck.refresh_from_db()
    asked.refresh_from_db()
    # It ends, too: the generation of the retired index keeps its revision, and the serving index can restate it.
    assert (stuck.state, stuck.n_kept, asked.state) == ("approved", 1, "approved")
    assert stuck.finished_at is not None
    assert asked.finished_at is not None
