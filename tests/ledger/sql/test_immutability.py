"""Nobody changes a written row of the ledger: neither the application nor the owner of the tables, on no partition."""

from __future__ import annotations

# ruff: noqa: E501  (statements read better unbroken)
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from config.engine.roles import APP_ROLE, OWNER_ROLE
from ledger import tasks
from ledger.queries.invariants import check_all
from tests.databases import CommittedDatabase, cloned_database, on_database
from tests.worlds.story import tell_story

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
PARENTS = (
    "ledger_entry",
    "ledger_line",
    "ledger_accrual",
    "ledger_asset",
    "ledger_account",
    "ledger_account_kind",
    "ledger_leaf",
)
ATTACKS = {
    "ledger_entry": "reference = 'x'",
    "ledger_line": "amount = amount + 1",
    "ledger_accrual": "gross = gross + 1",
    "ledger_asset": "scale = 2",
    "ledger_account": "owner = 'contributor:1'",
    "ledger_account_kind": "owner_word = ''",
    "ledger_leaf": "closing = 0",
}


@pytest.fixture(scope="module")
def books(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[CommittedDatabase]:
    with django_db_blocker.unblock(), cloned_database() as clone, on_database(clone.name):
        tell_story(AT)
        yield clone


@pytest.fixture
def attack(books: CommittedDatabase) -> Iterator[Any]:
    """Runs a statement as a role in a transaction of its own; returns the refusal, or None when it went through."""
    session = psycopg2.connect(books.url)

    def run(role: str, *statements: str) -> psycopg2.Error | None:
        try:
            with session.cursor() as cursor:
                cursor.execute(f"SET LOCAL ROLE {role}")
                for statement in statements:
                    cursor.execute(statement)
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg2.Error as error:
            return error
        finally:
            session.rollback()
        return None

    yield run
    session.close()


def tables(books: CommittedDatabase) -> list[tuple[str, str]]:
    """(table, parent) of every immutable table and each of its partitions."""
    found = [(name, name) for name in PARENTS]
    with psycopg2.connect(books.url) as session, session.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits"
            " WHERE inhparent IN ('ledger_line'::regclass, 'ledger_accrual'::regclass)"
        )
        found += cursor.fetchall()
    session.close()
    assert len(found) >= len(PARENTS) + 4
    return found


def test_no_role_updates_deletes_or_truncates_any_table_or_partition(books: CommittedDatabase, attack: Any) -> None:
    for role in (APP_ROLE, OWNER_ROLE):
        for table, parent in tables(books):
            for statement in (
                f"UPDATE {table} SET {ATTACKS[parent]}",
                f"DELETE FROM {table}",
                f"TRUNCATE {table} CASCADE",
            ):
                refusal = attack(role, statement)
                assert refusal is not None, f"{role}: {statement}"
                wanted = "42501" if role == APP_ROLE else "23000"
                assert refusal.pgcode == wanted, f"{role}: {statement}: {refusal}"


def test_no_role_removes_or_truncates_balances_chain_heads_and_periods(books: Any, attack: Any) -> None:
    for table in ("ledger_balance", "ledger_chain_head", "ledger_period"):
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            assert attack(APP_ROLE, statement).pgcode == "42501"
            assert attack(OWNER_ROLE, statement).pgcode == "23000"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ledger_line VALUES (1, 257, 1, 1, 1)",
        "INSERT INTO ledger_line_m0 VALUES (1, 257, 1, 1, 1)",
        "INSERT INTO ledger_entry SELECT * FROM ledger_entry",
        "UPDATE ledger_balance SET posted = 0",
        "UPDATE ledger_chain_head SET seq = seq + 1",
        "SELECT ledger_write('capital', 'k', '', now()::date, NULL, NULL,"
        " '', '', NULL, 0, ARRAY[257, 513]::bigint[], ARRAY[1, -1]::bigint[])",
        "SELECT ledger_replay('k', '')",
        "INSERT INTO ledger_account VALUES (257, 'bank', 1, '', '', 'D', now())",
        "ALTER TABLE ledger_line DISABLE TRIGGER ALL",
        "DROP TRIGGER immutable ON ledger_line_m0",
        "SET session_replication_role = replica",
        "CREATE TABLE ledger_line_m7 PARTITION OF ledger_line FOR VALUES FROM (7000000) TO (8000000)",
        "SELECT ledger_make_partition('ledger_line', 'x', '1', '2')",
    ],
)
def test_the_application_has_no_way_around_the_functions(books: Any, attack: Any, statement: str) -> None:
    refusal = attack(APP_ROLE, statement)
    assert refusal is not None
    assert refusal.pgcode in {"42501", "42P01"}, refusal


def test_the_owner_cannot_insert_half_an_entry_into_any_partition(books: Any, attack: Any) -> None:
    account = "(SELECT min(account_id) FROM ledger_line)"
    for table in ("ledger_line", "ledger_line_m0"):
        for entry in ("1", "999"):
            refusal = attack(OWNER_ROLE, f"INSERT INTO {table} VALUES ({entry}, {account} + 256 * 5000, 5, 5, 1)")
            assert refusal.pgcode == "LG001", (table, entry)


def test_the_owner_cannot_insert_an_entry_without_lines_or_beside_the_chain(books: Any, attack: Any) -> None:
    columns = "kind, effective, period_id, earned_period_id, reference, rule_version, n_lines, n_docs, total, first_account_id"
    header = (
        "INSERT INTO ledger_entry (id, idem_key, request_hash, posted_at, prev_hash, hash, {c}) SELECT {id}, 'f', '',"
        " now(), {prev}, 'forged', {c} FROM ledger_entry WHERE id = 1"
    )
    last = "(SELECT max(id) FROM ledger_entry)"
    hash_of_last = f"(SELECT hash FROM ledger_entry WHERE id = {last})"
    lines = f"INSERT INTO ledger_line SELECT {last}, account_id, amount, 0, 99 FROM ledger_line WHERE entry_id = 1"
    advance = "UPDATE ledger_chain_head SET seq = seq + 1, hash = 'forged'"
    no_lines = attack(OWNER_ROLE, advance, header.format(c=columns, id=f"{last} + 1", prev=hash_of_last))
    assert no_lines.pgcode == "LG001"
    assert "has no lines" in str(no_lines)
    for number, prev in [(f"{last} + 1", "'elsewhere'"), (f"{last} + 2", hash_of_last)]:
        beside = attack(OWNER_ROLE, header.format(c=columns, id=number, prev=prev), lines)
        assert "does not follow the chain" in str(beside), beside
    assert "one entry at a time" in str(attack(OWNER_ROLE, "UPDATE ledger_chain_head SET seq = seq + 2, hash = 'x'"))
    assert "one entry at a time" in str(attack(OWNER_ROLE, "UPDATE ledger_chain_head SET seq = seq - 1, hash = 'x'"))


def test_a_document_for_an_entry_that_exists_is_refused_in_every_partition(books: Any, attack: Any) -> None:
    values = "SELECT gen_random_uuid(), 1, batch_id, source_id, gross, plan_id, account_ids, amounts FROM ledger_accrual WHERE revision = 1 LIMIT 1"
    late = attack(APP_ROLE, f"INSERT INTO ledger_accrual {values}")
    assert late.pgcode in {"LG007", "23514"}, late
    now = values.replace("gen_random_uuid()", "(SELECT max(generation_id::text)::uuid FROM ledger_accrual)").replace(
        "1, batch", "77, batch"
    )
    assert attack(APP_ROLE, f"INSERT INTO ledger_accrual {now}").pgcode == "LG007"
    month = f"{datetime.now(UTC):%Y%m}"
    assert attack(OWNER_ROLE, f"INSERT INTO ledger_accrual_{month} {now}").pgcode == "LG007"


def test_a_document_without_an_entry_does_not_commit(books: Any, attack: Any) -> None:
    refusal = attack(
        APP_ROLE,
        "INSERT INTO ledger_accrual SELECT (SELECT max(generation_id::text)::uuid FROM ledger_accrual),"
        " 77, 123456, source_id, gross, plan_id, account_ids, amounts FROM ledger_accrual WHERE revision = 1 LIMIT 1",
    )
    assert "a_document_stands_under_an_entry" in str(refusal)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_period SET state = 'open' WHERE state = 'sealed'",
        "UPDATE ledger_period SET state = 'closed' WHERE state = 'sealed'",
        "UPDATE ledger_period SET state = 'closed', closed_at = now() WHERE state = 'open'",
        "UPDATE ledger_period SET root = sha256('x') WHERE state = 'sealed'",
        "UPDATE ledger_period SET starts = starts + 1 WHERE state = 'open'",
        "INSERT INTO ledger_period (id, starts, ends) VALUES (209901, '2099-01-01', '2099-02-01')",
        "UPDATE ledger_royaltyplan SET price = price + 1 WHERE price IS NOT NULL",
        "UPDATE ledger_royaltyplan SET state = 'proposed'",
        "UPDATE ledger_refusal SET reason = 'no_plan'",
        "DELETE FROM ledger_refusal",
        "DELETE FROM ledger_royaltyplan",
        "UPDATE ledger_floordistribution SET pool = 0",
        "UPDATE ledger_floorcorrection SET pool = 0",
        "DELETE FROM ledger_floorcorrection",
        "DELETE FROM ledger_unaccrued",
        "INSERT INTO ledger_leaf SELECT * FROM ledger_leaf LIMIT 1",
    ],
)
def test_what_has_states_moves_only_as_they_allow(books: Any, attack: Any, statement: str) -> None:
    for role in (APP_ROLE, OWNER_ROLE):
        refusal = attack(role, statement)
        assert refusal is not None, role
        assert refusal.pgcode in {"LG004", "LG008", "23000", "23505", "23514", "42501"}, refusal


def test_a_period_closes_only_in_order_and_while_the_next_is_open(books: Any, attack: Any) -> None:
    assert "before the next one is open" in str(
        attack(APP_ROLE, "UPDATE ledger_period SET state = 'closing' WHERE id = (SELECT max(id) FROM ledger_period)")
    )
    assert "before period 202611" in str(
        attack(
            APP_ROLE,
            "INSERT INTO ledger_period (id, starts, ends) VALUES (202701, '2027-01-01', '2027-02-01')",
            "UPDATE ledger_period SET state = 'closing' WHERE id = 202612",
        )
    )


def test_partitions_made_later_are_guarded_like_the_first(
    committed_database: CommittedDatabase,
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_make_partitions(current_date + 300)")
        assert cursor.fetchone()[0] >= 7
    superuser = psycopg2.connect(committed_database.url)
    superuser.autocommit = True
    with superuser.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE ledger_chain_head SET seq = 1600000")
    superuser.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_make_partitions(current_date)")
        assert cursor.fetchone()[0] == 2
        cursor.execute("SELECT ledger_make_partitions(current_date)")
        assert cursor.fetchone()[0] == 0
    assert [result.rows for result in check_all(["I9"])] == [[]]


def test_the_story_left_books_that_hold(books: Any) -> None:
    assert not [result.name for result in check_all() if result.rows]


# The application role's rights on each table of the journal, its partitions included; nothing else.
GRANTED = {
    "ledger_accrual": {"SELECT", "INSERT"},
    "ledger_leaf": {"SELECT", "INSERT"},
    "ledger_period": {"SELECT", "INSERT", "UPDATE"},
    "ledger_creditexport": {"SELECT", "INSERT"},
}
READ_ONLY = {
    "ledger_earned",
    "ledger_earnedmark",
    "ledger_entry",
    "ledger_line",
    "ledger_balance",
    "ledger_chain_head",
    "ledger_account",
    "ledger_asset",
    "ledger_account_kind",
}
MAY_EXECUTE = {
    "ledger_post", "ledger_reverse", "ledger_begin_batch", "ledger_post_accruals", "ledger_post_documents",
    "ledger_open_accounts", "ledger_hold_still", "ledger_make_partitions", "ledger_find_accounts", "ledger_balances",
    "ledger_matured", "ledger_paid_since", "ledger_digest_lines", "ledger_digest_documents", "ledger_request_hash", "ledger_entry_hash",
    "ledger_merkle_root", "ledger_earned_by_source", "ledger_earned_by_credit", "ledger_fold_earned",
}  # fmt: skip
# (table, its parent or itself, privileges of the application role, owner, enabled triggers of each function)
CATALOGUE = """
SELECT c.relname, coalesce(p.relname, c.relname), pg_get_userbyid(c.relowner),
       ARRAY(SELECT x FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) x
              WHERE has_table_privilege('tributary_app', c.oid, x)),
       ARRAY(SELECT f.proname::text FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
              WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A'))
  FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
   AND coalesce(p.relname, c.relname) = ANY(%s)"""


def test_the_catalogue_grants_the_application_nothing_more_also_on_partitions_to_come(
    committed_database: CommittedDatabase,
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone()[0] == APP_ROLE
        # As the beat does every hour, a year ahead: the application makes partitions that it may not touch.
        cursor.execute("SELECT ledger_make_partitions(current_date + 365)")
        assert cursor.fetchone()[0] >= 9
        cursor.execute(CATALOGUE, [[*GRANTED, *READ_ONLY]])
        found = cursor.fetchall()
    assert len([name for name, parent, *_ in found if parent == "ledger_accrual"]) >= 15
    for name, parent, owner, granted, triggers in found:
        is_partition = name != parent
        wanted = set() if is_partition else GRANTED.get(parent, {"SELECT"})
        assert set(granted) == wanted, name
        assert owner == OWNER_ROLE, name
        assert "rows_refuse_change" in triggers, name
        if parent in ("ledger_line", "ledger_accrual"):
            assert {"ledger_check_lines", "ledger_check_documents"} & set(triggers), name
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.proname::text, p.prosecdef FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"
            " AND p.proname LIKE 'ledger\\_%%' AND p.prorettype <> 'trigger'::regtype"
            " AND has_function_privilege('tributary_app', p.oid, 'EXECUTE')",
            [],
        )
        assert {name for name, _ in cursor.fetchall()} == MAY_EXECUTE


def test_the_beat_keeps_partitions_ahead_of_a_busy_journal(committed_database: CommittedDatabase) -> None:
    """Entries may pass a million within a month, when no period is opened that would make room for them."""
    tasks.open_next_period()
    superuser = psycopg2.connect(committed_database.url)
    superuser.autocommit = True
    with superuser.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE ledger_chain_head SET seq = 2600000")
    superuser.close()
    assert tasks.open_next_period() == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('ledger_line_m3') IS NOT NULL")
        assert cursor.fetchone()[0]
