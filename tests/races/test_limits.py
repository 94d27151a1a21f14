"""Limits of one person and of one approver, with two runs at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import connections, transaction

from payouts.models import PayoutRun
from payouts.operations import banks, building, limits, runs
from tests.databases import CommittedDatabase
from tests.worlds.world import ADDRESS, SEEN, World


@pytest.fixture
def world(committed_database: CommittedDatabase, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(datetime.now(UTC))
    made.policy(daily_approval_minor=9_000)
    return made


def built_by_bank(world: World) -> PayoutRun:
    contributor = world.contributor(5_000, outcome=None, country="BR")
    banks.record_bank_details(
        contributor=contributor,
        holder_name="A",
        iban="GB33BUKB20201555555555",
        address=ADDRESS,
        by=world.owner,
        at=world.at,
    )
    return building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )


def submitted(world: World, run: PayoutRun) -> PayoutRun:
    return runs.submit_run(run=run, by=world.maker, at=world.at, seen=SEEN)


def during(first: Callable[[], object], second: Callable[[], object]) -> object:
    """Return the result or error of `second`, begun on another connection before `first` commits."""
    answers: list[object] = []

    def work() -> None:
        try:
            answers.append(second())
        except Exception as error:
            answers.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    with transaction.atomic():
        first()
        thread.start()
        time.sleep(1.5)
        assert not answers, "the second did not wait for the first"
    thread.join()
    [answer] = answers
    return answer


def test_two_approvals_of_one_person_at_once_are_counted_one_after_the_other(world: World) -> None:
    other = submitted(world, built_by_bank(world))
    world.contributor(5_000)
    first, checker = world.in_review(), world.checker
    answer = during(lambda: world.approve(first, by=checker), lambda: world.approve(other, by=checker))
    assert isinstance(answer, limits.UnableToApproveThatMuch)


def test_two_rails_submitted_at_once_count_towards_one_limit_of_a_second_approver(world: World) -> None:
    """Each is below the limit and both together are not: one of them needs a second approver."""
    world.policy(second_approval_minor=9_000)
    by_bank = built_by_bank(world)
    world.contributor(5_000)
    by_stripe = world.built()
    answer = during(lambda: submitted(world, by_stripe), lambda: submitted(world, by_bank))
    assert isinstance(answer, PayoutRun)
    by_stripe.refresh_from_db()
    assert [by_stripe.needs_second_approval, answer.needs_second_approval] == [False, True]
