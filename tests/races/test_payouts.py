"""Two at once: one wins, and nothing is done twice. With real commits and a connection for each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.db import connections

from payouts.attempts import crew
from payouts.models import PayoutRun
from payouts.operations import approval, building, runs
from tests.databases import CommittedDatabase
from tests.faults.workers import disagreements
from tests.sandbox_server import StripeSandbox
from tests.worlds.world import SEEN, World


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Begin all acts together; returns the result or error of each."""
    barrier, results = threading.Barrier(len(acts)), [None] * len(acts)

    def work(place: int) -> None:
        barrier.wait()
        try:
            results[place] = acts[place]()  # type: ignore[call-overload]
        except Exception as error:
            results[place] = error  # type: ignore[call-overload]
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(results)


@pytest.fixture
def world(
    committed_database: CommittedDatabase, stripe_sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> World:
    monkeypatch.setattr(settings, "STRIPE_REQUESTS_PER_SECOND", 1000.0)
    stripe_sandbox.settings(reads_per_second=0, writes_per_second=0)
    made = World(datetime.now(UTC), stripe_sandbox)
    made.policy()
    return made


def test_two_builders_two_approvers_two_starters_and_two_executors_race(
    world: World, stripe_sandbox: StripeSandbox
) -> None:
    for place in range(12):
        world.contributor(1_000 + place)
    world.fund(100_000)
    assert world.maker.pk != world.second_checker_as_maker().pk
    assert world.checker.pk != world.second_checker.pk

    def build() -> PayoutRun:
        return building.build_run(currency="USD", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN)

    built = at_once(build, build)
    assert sorted(type(one).__name__ for one in built) == ["PayoutRun", "UnableToBuildRun"]
    run = runs.submit_run(run=PayoutRun.objects.get(), by=world.maker, at=world.at, seen=SEEN)

    approvals = at_once(lambda: world.approve(run), lambda: world.approve(run, by=world.second_checker))
    assert sorted(type(one).__name__ for one in approvals) == ["PayoutRun", "UnableToApprove"]
    run.refresh_from_db()

    def start() -> PayoutRun:
        return approval.start_execution(run=run, by=world.checker, at=world.at, seen=SEEN)

    starts = at_once(start, start)
    assert sorted(type(one).__name__ for one in starts) == ["PayoutRun", "UnableToStart"]

    at_once(
        lambda: crew.execute_run(run_id=run.pk, threads=3),
        lambda: crew.execute_run(run_id=run.pk, threads=3),
    )
    assert disagreements(stripe_sandbox, run) == []
    assert set(run.payouts.values_list("state", flat=True)) == {"transferred"}
    assert set(run.payouts.values_list("attempts__number", flat=True)) == {1}


def test_of_approving_and_excluding_at_once_the_approval_never_covers_what_it_did_not_see(world: World) -> None:
    people = [world.contributor(1_000 + place) for place in range(2)]
    run = world.in_review()
    seen_hash, total = bytes(run.content_hash or b""), run.total_minor
    checker, editor = world.checker, world.second_checker_as_maker()
    at_once(
        lambda: approval.approve_run(
            run=run, by=checker, typed_total=total, content_hash=seen_hash, at=world.at, seen=SEEN
        ),
        lambda: runs.exclude(run=run, contributors=[people[0].pk], by=editor, at=world.at, seen=SEEN),
    )
    run.refresh_from_db()
    if run.state == PayoutRun.State.APPROVED:
        assert bytes(run.content_hash or b"") == seen_hash
        assert run.payouts.count() == 2
    else:
        assert run.state == PayoutRun.State.DRAFT
        assert run.approved_by is None
        assert run.payouts.count() == 1
