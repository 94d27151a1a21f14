"""Two sessions post under one key at once: one row is stored, and both are told its content."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from ledger import journal
from ledger.documents import Document
from ledger.journal import AccountKey, UnableToPost, post
from ledger.models import Entry
from ledger.operations import payouts
from ledger.operations.periods import open_periods
from ledger.queries.invariants import OF_THE_JOURNAL, check_all
from tests.databases import CommittedDatabase

TODAY = date(2026, 11, 20)
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
THREADS, ROUNDS = 6, 12
BANK, EQUITY = AccountKey("bank", "USD"), AccountKey("programme_equity", "USD")


@pytest.fixture(autouse=True)
def periods(committed_database: CommittedDatabase) -> None:
    open_periods(at=AT)


def at_once(step: Any) -> list[Any]:
    """Let THREADS sessions take the same step at the same moment; returns the result or refusal of each."""
    ready = threading.Barrier(THREADS)

    def run(n: int) -> Any:
        connection.ensure_connection()
        ready.wait()
        try:
            return step(n)
        except UnableToPost as refused:
            return refused
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def documents(round_: int, *, amount: int = 7) -> list[Document]:
    # The accounts of each round are new ones, so that every session tries to open them.
    keys = [AccountKey("contributor_accrued", "USD", f"contributor:{round_ * 10 + n}") for n in range(3)]
    source, *people = journal.open_accounts([AccountKey("service_unbilled", "USD", "service:1"), *keys])
    generation = UUID(int=(0x01A0 << 112) | 7 << 76 | 2 << 62 | round_)
    return [Document(generation, 1, 1, source, 3 * amount, people, [amount] * 3)]


def stored_once(answers: list[Any], key: str) -> None:
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    assert {answer.entry_id for answer in answers} == {journal.find(key)}
    assert [answer.replayed for answer in answers].count(False) == 1


def test_an_entry_posted_by_many_at_once_is_stored_once() -> None:
    for n in range(ROUNDS):
        people = [AccountKey("contributor_payable", "USD", f"contributor:{n}{i}") for i in range(3)]
        lines = [(BANK, -3), *((key, 1) for key in people)]
        key = f"same-{n}"
        answers = at_once(lambda _, k=key, x=lines: post(kind="capital", idem_key=k, effective=TODAY, lines=x))
        stored_once(answers, key)


@pytest.mark.parametrize("copies", [1, 400], ids=["in one call", "by COPY"])
def test_a_batch_delivered_by_many_at_once_is_stored_once(copies: int) -> None:
    for n in range(ROUNDS):
        made = documents(n)
        made = [
            Document(
                UUID(int=made[0].generation_id.int | i << 20),
                1,
                1,
                made[0].source_id,
                21,
                made[0].account_ids,
                made[0].amounts,
            )
            for i in range(copies)
        ]
        key = f"batch-{n}"
        deliver = lambda _, k=key, d=made: journal.post_accruals(  # noqa: E731
            idem_key=k, effective=TODAY, earned_period=202611, documents=d
        )
        stored_once(at_once(deliver), key)


def test_one_generation_under_many_keys_is_accrued_once_and_the_others_are_told_why() -> None:
    for n in range(ROUNDS):
        made = documents(100 + n)
        answers = at_once(
            lambda i, n=n, d=made: journal.post_accruals(
                idem_key=f"other-{n}-{i}", effective=TODAY, earned_period=202611, documents=d
            )
        )
        refused = [answer for answer in answers if isinstance(answer, UnableToPost)]
        assert {answer.problem for answer in refused} == {"document-exists"}
        assert len(refused) == THREADS - 1


def test_bodies_that_differ_under_one_key_leave_one_entry_and_named_refusals() -> None:
    for n in range(ROUNDS):
        key = f"differs-{n}"
        answers = at_once(
            lambda i, k=key: post(kind="capital", idem_key=k, effective=TODAY, lines=[(BANK, -1 - i), (EQUITY, 1 + i)])
        )
        refused = [answer for answer in answers if isinstance(answer, UnableToPost)]
        assert {answer.problem for answer in refused} == {"key-reused"}
        assert len(refused) == THREADS - 1


def test_an_entry_is_reversed_once_however_many_try() -> None:
    for n in range(ROUNDS):
        entry = post(kind="capital", idem_key=f"r{n}", effective=TODAY, lines=[(BANK, -5), (EQUITY, 5)]).entry_id
        same = at_once(
            lambda _, e=entry, n=n: journal.reverse(entry_id=e, idem_key=f"undo-{n}", effective=TODAY, reference="x")
        )
        stored_once(same, f"undo-{n}")
        others = at_once(
            lambda i, e=entry, n=n: journal.reverse(
                entry_id=e, idem_key=f"again-{n}-{i}", effective=TODAY, reference="x"
            )
        )
        assert {answer.problem for answer in others} == {"already-reversed"}


def test_a_payout_reserved_and_settled_by_many_at_once_moves_once() -> None:
    payable = AccountKey("contributor_payable", "USD", "contributor:1")
    cent = 10_000_000
    post(kind="capital", idem_key="fund", effective=TODAY, lines=[(BANK, -ROUNDS * cent), (payable, ROUNDS * cent)])
    for n in range(ROUNDS):
        arguments: dict[str, Any] = {
            "contributor_id": 1,
            "currency": "USD",
            "gross": cent,
            "tax": 0,
            "rail": "stripe",
            "attempt_key": f"po-{n}",
            "at": AT,
        }
        reserved = at_once(lambda _, a=arguments: payouts.reserve_payout(**a))
        assert len(set(reserved)) == 1
        settled = at_once(
            lambda _, n=n, e=reserved[0]: payouts.succeed_payout(
                reserve_entry=e, attempt_key=f"po-{n}", currency="USD", net=cent, at=AT
            )
        )
        assert not [answer for answer in settled if isinstance(answer, Exception)]
    assert journal.balance(payable) == 0
    assert Entry.objects.count() == 1 + 2 * ROUNDS
    assert not [result.name for result in check_all(OF_THE_JOURNAL) if result.rows]
