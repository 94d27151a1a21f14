"""Limits of one person, with two approvals at the same moment."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.db import connections, transaction

from payouts import operations
from payouts.models import PayoutRun
from tests.conftest import CommittedDatabase
from tests.payouts.world import SEEN, World


@pytest.fixture
def world(committed_database: CommittedDatabase, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(settings, "PASSWORD_HASHERS", ["django.contrib.auth.hashers.MD5PasswordHasher"])
    made = World(datetime.now(UTC))
    made.policy(daily_approval_minor=9_000)
    return made


def by_bank(world: World) -> PayoutRun:
    contributor = world.contributor(5_000, outcome=None, country="BR")
    operations.record_bank_details(
        contributor=contributor, holder_name="A", iban="GB33BUKB20201555555555", by=world.owner, at=world.at
    )
    run = operations.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )
    return operations.submit_run(run=run, by=world.maker, at=world.at, seen=SEEN)


def test_two_approvals_of_one_person_at_once_are_counted_one_after_the_other(world: World) -> None:
    other = by_bank(world)
    world.contributor(5_000)
    first = world.in_review()
    checker = world.checker
    answers: list[object] = []

    def approve_the_other() -> None:
        try:
            answers.append(world.approve(other, by=checker))
        except Exception as error:
            answers.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=approve_the_other)
    with transaction.atomic():
        world.approve(first, by=checker)
        # The other approval begins while this one is written and not yet seen by anybody.
        thread.start()
        time.sleep(1.5)
        assert not answers
    thread.join()
    assert [type(one) for one in answers] == [operations.UnableToApproveThatMuch]
