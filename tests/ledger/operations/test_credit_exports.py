"""A closed month's credits in a file sorted by account: those of the documents, made again with the same digest."""

from __future__ import annotations

import tracemalloc
import uuid
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import numpy as np
import psycopg2
import pytest
from django.db import connection

from ledger import proof, tasks
from ledger.models import Account, CreditExport, Leaf, Period
from ledger.operations import credit_exports
from ledger.operations.credit_exports import UnableToExportCredits
from ledger.queries.credit_file import BLOCK_CREDITS, CreditFile, Documents, UnableToReadCredits, Writer, Written
from ledger.queries.credits import AccountCredits, credits_ever, exported
from tests.worlds.story import NOVEMBER, tell_story
from tests.worlds.world import World

Rows = dict[int, list[tuple[uuid.UUID, int, int, int]]]


def write_some(
    path: Path, documents: int, accounts: int, credits: int = 5, *, expected: int = 0
) -> tuple[Written, Rows]:
    """Write a file of made-up documents in batches out of order; returns the rows that each account must read back."""
    made = np.random.default_rng(documents)
    rows: Rows = defaultdict(list)
    with Writer(path, documents_expected=expected) as writer:
        for start in range(0, documents, 1000):
            n = min(1000, documents - start)
            ids = [uuid.UUID(int=int(made.integers(1 << 62)) << 64 | start + i) for i in range(n)]
            revisions = made.choice([1, 2, -1], n).tolist()
            owners = np.concatenate([made.choice(accounts, credits, replace=False) for _ in range(n)]) * 256 + 257
            amounts = made.integers(-(2**62), 2**62, n * credits)
            writer.add(Documents([i.bytes for i in ids], revisions, [start] * n, [credits] * n, owners, amounts))
            for place, (account, amount) in enumerate(zip(owners.tolist(), amounts.tolist(), strict=True)):
                of = place // credits
                rows[account].append((ids[of], revisions[of], start, amount))
        written = writer.finish()
    return written, {account: sorted(found, key=lambda r: (r[0].int, r[1])) for account, found in rows.items()}


@pytest.mark.parametrize("expected", [0, 500_000], ids=["one bucket", "eight buckets"])
def test_every_account_reads_back_its_credits_in_order(tmp_path: Path, expected: int) -> None:
    written, rows = write_some(tmp_path / "credits.bin", 3500, 40, expected=expected)
    with CreditFile(tmp_path / "credits.bin", written.digest) as file:
        assert file.accounts.tolist() == sorted(rows)
        for account, found in rows.items():
            assert list(file.credits(account)) == found
            assert file.count(account) == len(found)
            assert file.total(account) == sum(row[3] for row in found)
        assert list(file.credits(99)) == []
        assert file.count(2**60) == 0
    assert (written.credits, written.documents, written.accounts) == (17_500, 3500, 40)


def test_an_account_may_fill_many_blocks_and_a_month_may_be_empty(tmp_path: Path) -> None:
    written, rows = write_some(tmp_path / "one.bin", BLOCK_CREDITS + 5, 1, credits=1)
    with CreditFile(tmp_path / "one.bin", written.digest) as file:
        assert list(file.credits(257)) == rows[257]
    written, _ = write_some(tmp_path / "none.bin", 0, 1)
    with CreditFile(tmp_path / "none.bin", written.digest) as file:
        assert file.accounts.tolist() == []


def test_no_part_of_a_file_can_be_changed_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "credits.bin"
    written, rows = write_some(path, 300, 7)
    whole = path.read_bytes()
    for at in {*range(0, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with pytest.raises(UnableToReadCredits):
            read_all(path, written.digest)
        path.write_bytes(whole[:at])
        with pytest.raises(UnableToReadCredits):
            read_all(path, written.digest)
    path.write_bytes(whole)
    assert read_all(path, written.digest) == rows
    with pytest.raises(UnableToReadCredits, match="not those that were written"):
        read_all(path, bytes(32))


def read_all(path: Path, digest: bytes) -> Rows:
    with CreditFile(path, digest) as file:
        return {int(account): list(file.credits(int(account))) for account in file.accounts}


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with Writer(tmp_path / "credits.bin", documents_expected=0) as writer:
        writer.add(Documents([uuid.uuid4().bytes], [1], [1], [1], np.array([257]), np.array([5])))
    assert list(tmp_path.glob("*credits*")) == []


@pytest.mark.parametrize("credits", [150_000, pytest.param(1_000_000, marks=pytest.mark.full)])
def test_the_credits_of_one_account_are_read_in_bounded_memory(tmp_path: Path, credits: int) -> None:
    path = tmp_path / "credits.bin"
    with Writer(path, documents_expected=0) as writer:
        for start in range(0, credits, 10_000):
            ids = [uuid.UUID(int=start + i).bytes for i in range(10_000)]
            ones = np.full(10_000, 257)
            writer.add(Documents(ids, [1] * 10_000, [1] * 10_000, [1] * 10_000, ones, np.arange(10_000)))
        written = writer.finish()
    tracemalloc.start()
    try:
        with CreditFile(path, written.digest) as file:
            assert sum(1 for _ in file.credits(257)) == credits
        assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    finally:
        tracemalloc.stop()


# --- of the books -------------------------------------------------------------------------------------------------
@pytest.fixture
def world(db: None) -> World:
    return tell_story(NOVEMBER)


def all_credits() -> dict[tuple[int, int], list[object]]:
    """(period, account) -> credits, wherever they are read from."""
    return {
        (period.pk, account.pk): list(AccountCredits(account.pk, period.pk, last_entry=2**62))
        for period in Period.objects.filter(state__in=("closed", "sealed"))
        for account in Account.objects.filter(kind="contributor_accrued")
    }


def test_a_closed_month_reads_the_same_from_its_file_as_from_its_documents(world: World) -> None:
    before = all_credits()
    ever = [list(credits_ever(c.pk)) for c in world.contributors]
    assert credit_exports.export_closed_periods(at=world.at) == 2
    with exported(202610) as file:
        assert file is not None
    assert all_credits() == before
    assert [list(credits_ever(c.pk)) for c in world.contributors] == ever
    assert all(ever)
    assert credit_exports.export_closed_periods(at=world.at) == 0


def test_a_file_agrees_with_the_sealed_leaves(world: World) -> None:
    export = credit_exports.export_credits(period=202610, at=world.at)
    with CreditFile(export.path, bytes(export.digest)) as file:
        leaves = Leaf.objects.filter(period_id=202610, account__kind="contributor_accrued")
        assert leaves.count() >= 3
        for leaf in leaves:
            assert proof.rows_sha256(file.credits(leaf.account_id)) == bytes(leaf.credits_digest).hex()


def test_a_lost_file_is_made_again_with_the_same_digest(world: World) -> None:
    first = credit_exports.export_credits(period=202610, at=world.at)
    first.path.unlink()
    again = credit_exports.export_credits(period=202610, at=world.at)
    assert again.path.exists()
    assert bytes(again.digest) == bytes(first.digest)
    assert tasks.export_closed() == 1
    assert CreditExport.objects.count() == 2


def test_a_damaged_file_is_not_believed(world: World) -> None:
    before = all_credits()
    export = credit_exports.export_credits(period=202610, at=world.at)
    raw = bytearray(export.path.read_bytes())
    raw[-30] ^= 1
    export.path.write_bytes(raw)
    with exported(202610) as file:
        assert file is None
    assert all_credits() == before


def test_an_open_month_has_no_file(world: World, at: datetime) -> None:
    with pytest.raises(UnableToExportCredits, match="is open"):
        credit_exports.export_credits(period=202611, at=at)
    with pytest.raises(UnableToExportCredits, match="unknown"):
        credit_exports.export_credits(period=199901, at=at)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE ledger_creditexport SET n_credits = 0", "DELETE FROM ledger_creditexport", "TRUNCATE ledger_creditexport"],
)
def test_the_record_of_a_file_stays_as_it_was_written(world: World, statement: str) -> None:
    credit_exports.export_credits(period=202610, at=world.at)
    with pytest.raises(Exception, match=r"permission denied|never changed"), connection.cursor() as cursor:
        cursor.execute(statement)


def test_the_database_records_no_file_of_an_open_month(world: World) -> None:
    with pytest.raises(Exception, match="is not closed yet") as refused:
        CreditExport.objects.create(
            period_id=202611, digest=bytes(32), n_credits=0, n_documents=0, n_accounts=0, n_bytes=0, written_at=world.at
        )
    assert isinstance(refused.value.__cause__, psycopg2.Error)
