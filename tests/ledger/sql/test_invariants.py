"""Every invariant holds over a programme with everything in it, and each is seen to catch its planted violation.

The violations are planted by the superuser with every trigger off, inside a transaction that is rolled back.
"""

from __future__ import annotations

# ruff: noqa: E501  (a table of statements reads better unbroken)
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django import DjangoDbBlocker

from ledger.operations.earned import sum_all_earnings
from ledger.queries.invariants import check_all, invariants
from tests.databases import CommittedDatabase, cloned_database, on_database
from tests.worlds.story import tell_story
from tests.worlds.world import World

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def books(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[tuple[CommittedDatabase, World]]:
    """A committed database with the whole story in it, shared by the tests of this module, which leave it as it is."""
    with django_db_blocker.unblock(), cloned_database() as clone, on_database(clone.name):
        world = tell_story(AT)
        assert sum_all_earnings() > 0
        yield clone, world


def test_every_invariant_holds_over_the_whole_story(books: Any) -> None:
    results = check_all()
    assert [result.code for result in results] == [f"I{n}" for n in range(1, 26)]
    assert {result.name: result.rows for result in results if result.rows} == {}


def test_the_command_prints_every_invariant_and_writes_them_down(books: Any, tmp_path: Path, capsys: Any) -> None:
    call_command("check_books", json=tmp_path / "books.json")
    assert "25 invariants checked, 0 violated." in capsys.readouterr().out
    assert all(row["holds"] for row in json.loads((tmp_path / "books.json").read_text()))


def test_checks_run_side_by_side_find_the_same_in_the_same_order(
    books: Any, planted_for_good: Callable[[str], None], capsys: Any
) -> None:
    planted_for_good(
        "UPDATE ledger_balance SET posted = posted + 1 WHERE account_id = (SELECT min(account_id) FROM ledger_balance)"
    )
    alone = [(result.code, result.rows) for result in check_all()]
    assert [(result.code, result.rows) for result in check_all(connections=4)] == alone
    assert [code for code, rows in alone if rows]
    with pytest.raises(SystemExit):
        call_command("check_books", connections=2)
    assert "25 invariants checked" in capsys.readouterr().out
    # The test's own and the planter's: every other was closed with its thread.
    deadline = time.monotonic() + 10
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            if cursor.fetchone() == (2,):
                return
            time.sleep(0.05)
    pytest.fail("a connection of a check was left open")


LAST = "(SELECT max(id) FROM ledger_entry)"
A_LINE = "(SELECT account_id, entry_id FROM ledger_line ORDER BY entry_id, account_id LIMIT 1)"
A_DOCUMENT = "(SELECT generation_id, revision FROM ledger_accrual WHERE revision = 1 ORDER BY 1 LIMIT 1)"
# A contributor's credit in a document that still stands.
RAISED = """UPDATE ledger_accrual d SET amounts[{place}] = amounts[{place}] + {by}
             WHERE (generation_id, revision) = (SELECT generation_id, revision FROM ledger_accrual a WHERE revision = 1
               AND NOT EXISTS (SELECT FROM ledger_accrual r WHERE r.generation_id = a.generation_id AND r.revision < 0)
               AND cardinality(amounts) > 3 ORDER BY 1 LIMIT 1)"""

PLANTED: list[tuple[str, str, str]] = [
    ("I1", "a line that is one unit larger", f"UPDATE ledger_line SET amount = amount + 1 WHERE (account_id, entry_id) = {A_LINE}"),
    ("I1", "two assets that net", f"""INSERT INTO ledger_line SELECT {LAST}, min(a.id), 5, 0, 99 FROM ledger_account a GROUP BY a.asset_id"""),
    ("I1", "a header without lines", f"DELETE FROM ledger_line WHERE entry_id = {LAST}"),
    ("I2", "a balance set by hand", "UPDATE ledger_balance SET posted = posted + 1 WHERE account_id = (SELECT min(account_id) FROM ledger_balance)"),
    ("I2", "a version that skips", "UPDATE ledger_balance SET version = version + 1 WHERE account_id = (SELECT min(account_id) FROM ledger_balance)"),
    ("I2", "a lost balance", "DELETE FROM ledger_balance WHERE account_id = (SELECT min(account_id) FROM ledger_line)"),
    ("I3", "a running balance that breaks", f"UPDATE ledger_line SET balance_after = 7 WHERE (account_id, entry_id) = {A_LINE}"),
    ("I4", "a credit that was raised", RAISED.format(place=1, by=1)),
    ("I4", "a unit moved from one to another", RAISED.format(place="cardinality(amounts)", by=-3) + ";" + RAISED.format(place="cardinality(amounts) - 1", by=3)),
    ("I5", "a document that its line does not know", RAISED.format(place=1, by=1)),
    ("I6", "a second accrual", f"INSERT INTO ledger_accrual SELECT generation_id, 9, batch_id, source_id, gross, plan_id, account_ids, amounts FROM ledger_accrual WHERE (generation_id, revision) = {A_DOCUMENT}"),
    ("I6", "a reversal of nothing", "UPDATE ledger_accrual SET revision = -8 WHERE revision = -1"),
    ("I7", "an entry that says something else", f"UPDATE ledger_entry SET reference = 'forged' WHERE id = {LAST}"),
    ("I7", "an entry with documents that says something else", "UPDATE ledger_entry SET reference = 'forged' WHERE id = (SELECT max(id) FROM ledger_entry WHERE n_docs > 0)"),
    ("I7", "an entry without documents that says something else", "UPDATE ledger_entry SET reference = 'forged' WHERE id = (SELECT max(id) FROM ledger_entry WHERE n_docs = 0)"),
    ("I7", "a document that was not requested", RAISED.format(place=1, by=1)),
    ("I7", "a line that was not requested", "UPDATE ledger_line SET amount = amount * 2 WHERE entry_id = (SELECT max(id) FROM ledger_entry WHERE n_docs = 0)"),
    ("I7", "a key used twice", f"ALTER TABLE ledger_entry DROP CONSTRAINT ledger_entry_idem_key_key; UPDATE ledger_entry SET idem_key = (SELECT idem_key FROM ledger_entry WHERE id = 1) WHERE id = {LAST}"),
    ("I8", "an entry that was dated back", f"UPDATE ledger_entry SET posted_at = posted_at + interval '1 second' WHERE id = {LAST}"),
    ("I8", "an entry that was cut out", "DELETE FROM ledger_entry WHERE id = 2"),
    ("I8", "an entry cut off at the end", f"DELETE FROM ledger_entry WHERE id = {LAST}"),
    ("I8", "a line that was changed and balanced again", f"UPDATE ledger_line SET amount = amount * 2 WHERE entry_id = {LAST}"),
    ("I9", "a privilege", "GRANT UPDATE ON ledger_line TO tributary_app"),
    ("I9", "a privilege on a partition", "GRANT DELETE ON ledger_line_m0 TO tributary_app"),
    ("I9", "a way to insert lines", "GRANT INSERT ON ledger_line TO tributary_app"),
    ("I9", "a trigger that was dropped on a partition", "DROP TRIGGER immutable ON ledger_line_m0"),
    ("I9", "a trigger that was switched off", "ALTER TABLE ledger_accrual_before DISABLE TRIGGER immutable"),
    ("I9", "a check that was dropped", "DROP TRIGGER checked ON ledger_line_m0"),
    ("I9", "a partition made by hand", "CREATE TABLE ledger_line_m9 PARTITION OF ledger_line FOR VALUES FROM (9000000) TO (10000000)"),
    ("I9", "a way to write sums of earnings", "GRANT UPDATE ON ledger_earned TO tributary_app"),
    ("I9", "a way to move the mark of the sums", "GRANT UPDATE ON ledger_earnedmark TO tributary_app"),
    ("I9", "an unsafe search path", "ALTER FUNCTION ledger_hold_still() RESET search_path"),
    ("I10", "a line added to a sealed month", "UPDATE ledger_entry SET period_id = 202610, effective = '2026-10-31' WHERE id = (SELECT max(id) FROM ledger_entry WHERE period_id = 202611)"),
    ("I10", "a leaf that was changed", "UPDATE ledger_leaf SET opening = opening + 1, closing = closing + 1 WHERE period_id = 202610 AND position = 0"),
    ("I10", "a leaf that was taken out", "DELETE FROM ledger_leaf WHERE period_id = 202610 AND position = 1"),
    ("I11", "a reversal that is not the opposite", "UPDATE ledger_line SET amount = amount + 1 WHERE entry_id = (SELECT max(id) FROM ledger_entry WHERE reverses IS NOT NULL)"),
    ("I12", "a balance that was once negative", "UPDATE ledger_line SET balance_after = -1 WHERE (account_id, entry_id) = (SELECT l.account_id, l.entry_id FROM ledger_line l JOIN ledger_account a ON a.id = l.account_id WHERE a.kind = 'contributor_payable' LIMIT 1)"),
    ("I12", "a limit that was lifted", "UPDATE ledger_balance SET min_balance = NULL"),
    ("I13", "money that went to a contributor another way", "UPDATE ledger_entry SET kind = 'capital' WHERE kind = 'payout_succeed'"),
    ("I14", "a document more", RAISED.format(place=1, by=1)),
    ("I15", "a document that was lost", f"DELETE FROM ledger_accrual WHERE (generation_id, revision) = {A_DOCUMENT}"),
    ("I15", "a document without an entry", f"UPDATE ledger_accrual SET batch_id = 1 WHERE (generation_id, revision) = {A_DOCUMENT}"),
    ("I16", "an opening that is not the last closing", "UPDATE ledger_leaf SET opening = opening + 1, closing = closing + 1 WHERE period_id = 202610 AND position = 0"),
    ("I17", "a reversal that left something", "UPDATE ledger_accrual SET amounts[1] = amounts[1] - 1, gross = gross - 1 WHERE revision = -1"),
    ("I18", "money made in one currency", "UPDATE ledger_balance SET posted = posted + 1 WHERE account_id = (SELECT min(account_id) FROM ledger_balance)"),
    ("I19", "an accrual that vanished", "DELETE FROM ledger_unaccrued; DELETE FROM ledger_refusal"),
    ("I19", "an accrual of nothing", f"UPDATE ledger_accrual SET plan_id = 0 WHERE (generation_id, revision) = {A_DOCUMENT}"),
    ("I20", "an advance that was booked as capital", "UPDATE ledger_entry SET kind = 'capital' WHERE id = (SELECT max(id) FROM ledger_entry WHERE kind = 'top_up_stripe')"),
    ("I20", "a debit on the credit side", "UPDATE ledger_line SET amount = -amount WHERE entry_id = (SELECT max(id) FROM ledger_entry WHERE kind = 'payout_succeed')"),
    ("I20", "an entry of a kind that nobody knows", f"UPDATE ledger_entry SET kind = 'gift' WHERE id = {LAST}"),
    ("I21", "an entry by hand that nobody proposed", f"UPDATE ledger_entry SET kind = 'manual' WHERE id = {LAST}"),
    ("I21", "a proposal posted by its proposer", f"""ALTER TABLE ledger_manualentry DROP CONSTRAINT a_manualentry_is_approved_by_somebody_else; UPDATE ledger_entry SET kind = 'manual' WHERE id = {LAST};
      INSERT INTO ledger_manualentry (reason, reference, lines, state, proposed_by_id, proposed_at, decided_by_id, decided_at, entry_id)
      SELECT 'r', 'r', (SELECT jsonb_agg(jsonb_build_array(a.kind, s.code, a.owner, a.contract, l.amount)) FROM ledger_line l JOIN ledger_account a ON a.id = l.account_id
                         JOIN ledger_asset s ON s.id = a.asset_id WHERE l.entry_id = {LAST}), 'approved', 1, now(), 1, now(), {LAST}"""),
    ("I21", "a proposal that names no entry", "INSERT INTO ledger_manualentry (reason, reference, lines, state, proposed_by_id, proposed_at, decided_by_id, decided_at, entry_id) VALUES ('r', 'r', '[]', 'approved', 1, now(), 2, now(), 0)"),
    ("I22", "a reserve that no instalment releases", "UPDATE ledger_account SET kind = 'reserve_held' WHERE id = (SELECT account_id FROM ledger_balance b JOIN ledger_account a ON a.id = b.account_id WHERE a.kind = 'contributor_payable' AND posted > 0 LIMIT 1)"),
    ("I22", "an instalment that no close held", "INSERT INTO ledger_contract VALUES (1, 'c', 'c', now(), 1, 1); INSERT INTO ledger_reserveinstalment (contract_id, terms_id, asset_id, amount, period_id, held_entry_id, due_on) VALUES (1, 1, 1, 5, 202610, 1, '2027-01-01')"),
    ("I23", "a payment that no payee has", "UPDATE ledger_entry SET idem_key = 'payout_succeed:forged' WHERE id = (SELECT max(id) FROM ledger_entry WHERE kind = 'payout_succeed')"),
    ("I23", "a payment in another year than its cash", "UPDATE ledger_line SET amount = amount + 1 WHERE (account_id, entry_id) = (SELECT l.account_id, l.entry_id FROM ledger_line l JOIN ledger_account a ON a.id = l.account_id JOIN ledger_entry e ON e.id = l.entry_id WHERE a.kind = 'stripe_balance' AND e.kind = 'payout_succeed' LIMIT 1)"),
    ("I23", "withheld tax that is called something else", "UPDATE ledger_entry SET kind = 'capital' WHERE id = (SELECT max(e.id) FROM ledger_entry e JOIN ledger_line l ON l.entry_id = e.id JOIN ledger_account a ON a.id = l.account_id WHERE e.kind <> 'remit_tax' AND a.kind = 'tax_payable' AND a.owner LIKE '%/withholding')"),
    ("I23", "money that went to a payee another way", "UPDATE ledger_line SET account_id = (SELECT min(id) FROM ledger_account WHERE kind = 'contributor_payable' AND asset_id = 1) WHERE (account_id, entry_id) = (SELECT l.account_id, l.entry_id FROM ledger_line l JOIN ledger_account a ON a.id = l.account_id JOIN ledger_entry e ON e.id = l.entry_id WHERE e.kind = 'capital' AND a.kind = 'programme_equity' LIMIT 1)"),
    ("I24", "a sum by direct that is one unit larger", "UPDATE ledger_earned SET amount = amount + 1 WHERE (contributor_id, by, period_id, asset_id, subject_id) = (SELECT contributor_id, by, period_id, asset_id, subject_id FROM ledger_earned WHERE by = 'direct' LIMIT 1)"),
    ("I24", "a sum by floor that is one unit larger", "UPDATE ledger_earned SET amount = amount + 1 WHERE (contributor_id, by, period_id, asset_id, subject_id) = (SELECT contributor_id, by, period_id, asset_id, subject_id FROM ledger_earned WHERE by = 'floor' LIMIT 1)"),
    ("I24", "a sum by model that is one unit larger", "UPDATE ledger_earned SET amount = amount + 1 WHERE (contributor_id, by, period_id, asset_id, subject_id) = (SELECT contributor_id, by, period_id, asset_id, subject_id FROM ledger_earned WHERE by = 'model' LIMIT 1)"),
    ("I24", "a generation too many", "UPDATE ledger_earned SET generations = generations + 1 WHERE (contributor_id, by, period_id, asset_id, subject_id) = (SELECT contributor_id, by, period_id, asset_id, subject_id FROM ledger_earned WHERE by = 'model' LIMIT 1)"),
    ("I24", "a sum that was lost", "DELETE FROM ledger_earned WHERE (contributor_id, by, period_id, asset_id, subject_id) = (SELECT contributor_id, by, period_id, asset_id, subject_id FROM ledger_earned WHERE by = 'model' LIMIT 1)"),
    ("I24", "a sum of nothing", "INSERT INTO ledger_earned (contributor_id, by, period_id, asset_id, subject_id, generations, amount) VALUES (999, 'direct', 202610, 1, 0, 0, 5)"),
    ("I24", "a credit that the sums do not know", RAISED.format(place=1, by=1)),
    ("I24", "a mark that skipped the last entries", "UPDATE ledger_earnedmark SET upto = upto - 3"),
    ("I24", "a mark ahead of the books", "UPDATE ledger_earnedmark SET upto = upto + 1"),
    ("I25", "a sum by work that is one unit larger", "UPDATE ledger_earned SET amount = amount + 1 WHERE (contributor_id, by, period_id, asset_id, subject_id) = (SELECT contributor_id, by, period_id, asset_id, subject_id FROM ledger_earned WHERE by = 'work' LIMIT 1)"),
    ("I25", "a unit moved from one work to another", "UPDATE ledger_earned SET amount = amount + CASE subject_id WHEN 0 THEN 1 ELSE -1 END WHERE contributor_id = (SELECT min(contributor_id) FROM ledger_earned) AND by = 'work' AND (asset_id, period_id) = (1, 202610)"),
    ("I25", "a work's generation too many", "UPDATE ledger_earned SET generations = generations + 1 WHERE (contributor_id, by, period_id, asset_id, subject_id) = (SELECT contributor_id, by, period_id, asset_id, subject_id FROM ledger_earned WHERE by = 'work' LIMIT 1)"),
    ("I25", "a source that its works do not reach", "UPDATE ledger_earned SET amount = amount + 1 WHERE (contributor_id, by, period_id, asset_id, subject_id) = (SELECT contributor_id, by, period_id, asset_id, subject_id FROM ledger_earned WHERE by = 'direct' LIMIT 1)"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "what", "planted"), PLANTED, ids=[f"{code}: {what}" for code, what, _ in PLANTED])
def test_a_planted_violation_is_caught(books: Any, code: str, what: str, planted: str) -> None:
    clone, _ = books
    sql = next(i.sql for i in invariants() if i.code == code)
    superuser = psycopg2.connect(clone.url)
    try:
        with superuser.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(sql)
            assert cursor.fetchall() == [], "it was violated before"
            cursor.execute(planted)
            cursor.execute(sql)
            assert cursor.fetchall(), f"{code} did not see {what}"
    finally:
        superuser.rollback()
        superuser.close()


def test_every_invariant_has_a_planted_violation() -> None:
    assert {code for code, _, _ in PLANTED} == {i.code for i in invariants()}


def test_the_command_exits_with_1_on_a_violation(books: Any, planted_for_good: Callable[[str], None]) -> None:
    planted_for_good(
        "UPDATE ledger_balance SET posted = posted + 1 WHERE account_id = (SELECT min(account_id) FROM ledger_balance)"
    )
    with pytest.raises(SystemExit) as stopped:
        call_command("check_books", only=["I2", "I18"])
    assert stopped.value.code == 1


@pytest.fixture
def planted_for_good(books: Any) -> Iterator[Callable[[str], None]]:
    """Commits a violation, and takes it back after the test."""
    superuser = psycopg2.connect(books[0].url)
    superuser.autocommit = True
    with superuser.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("CREATE TABLE balances_before AS TABLE ledger_balance")
        yield cursor.execute
        cursor.execute(
            "UPDATE ledger_balance b SET posted = p.posted FROM balances_before p WHERE p.account_id = b.account_id"
        )
        cursor.execute("DROP TABLE balances_before")
    superuser.close()
