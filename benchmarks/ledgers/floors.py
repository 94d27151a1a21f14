"""PostgreSQL's speed without any guarantee: COPY into a row-per-line table. And Django's ORM at its best."""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import Any

import numpy as np
import psycopg2

from benchmarks.ledgers.workload import GROSS, Meter, Workload, new_generation_id

COPY_BATCH = 1000
_ROW = np.dtype(
    [("fields", ">i2"), ("l1", ">i4"), ("g1", ">u8"), ("g2", ">u8"), ("l2", ">i4"), ("account", ">i8"), ("l3", ">i4"),
     ("amount", ">i8"), ("l4", ">i4"), ("balance", ">i8"), ("l5", ">i4"), ("version", ">i8")]
)  # fmt: skip


def row_stream(work: Workload, account_ids: np.ndarray, source: int) -> bytes:
    """The lines of `work` as rows of a row-per-line table, a binary COPY stream made beforehand."""
    parts = [b"PGCOPY\n\xff\r\n\x00", struct.pack(">ii", 0, 0)]
    for places, amounts in zip(work.places, work.amounts, strict=True):
        rows = np.zeros(len(places) + 1, dtype=_ROW)
        rows["fields"], rows["l1"], rows["l2"], rows["l3"], rows["l4"], rows["l5"] = 5, 16, 8, 8, 8, 8
        rows["g1"], rows["g2"] = divmod(new_generation_id().int, 2**64)
        rows["account"][:-1], rows["amount"][:-1] = account_ids[places], amounts
        rows["account"][-1], rows["amount"][-1] = source, -GROSS
        parts.append(rows.tobytes())
    return b"".join([*parts, struct.pack(">h", -1)])


def copy_rows(address: str, work: Workload, account_ids: np.ndarray, source: int, *, indexed: bool) -> Meter:
    """COPY of COPY_BATCH generations a transaction; the bytes are given ready made."""
    session = psycopg2.connect(address)
    table = f"bench_rows_{'indexed' if indexed else 'heap'}"
    with session, session.cursor() as cursor:
        cursor.execute(
            f"DROP TABLE IF EXISTS {table};"
            f"CREATE TABLE {table} (generation_id uuid NOT NULL, account_id bigint NOT NULL, amount bigint NOT NULL,"
            f" balance_after bigint NOT NULL, version bigint NOT NULL"
            f"{', PRIMARY KEY (account_id, generation_id)' if indexed else ''})"
        )
    meter = Meter(session.info.backend_pid)
    for start in range(0, len(work), COPY_BATCH):
        stream = io.BytesIO(row_stream(work.part(start, start + COPY_BATCH), account_ids, source))
        with meter.transaction(), session, session.cursor() as cursor:
            cursor.copy_expert(f"COPY {table} FROM STDIN WITH (FORMAT binary)", stream)
    session.close()
    return meter


def table_bytes(address: str, table: str) -> int:
    session = psycopg2.connect(address)
    with session, session.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s::regclass)", [table])
        (size,) = next(iter(cursor.fetchall()))
    session.close()
    return int(size)


@cache
def _models() -> tuple[Any, Any]:
    """Tables as one would declare them: made when Django is set up."""
    from django.db import models

    class OrmBalance(models.Model):
        id = models.BigIntegerField(primary_key=True)
        posted = models.BigIntegerField()

        class Meta:
            app_label, managed, db_table = "config", False, "bench_orm_balance"

    class OrmLine(models.Model):
        generation_id = models.UUIDField()
        account_id = models.BigIntegerField()
        amount = models.BigIntegerField()

        class Meta:
            app_label, managed, db_table = "config", False, "bench_orm_line"

    return OrmBalance, OrmLine


def bulk_create(address: str, work: Workload, accounts: int, batch: int) -> Meter:
    """Lines by bulk_create, locked balances by bulk_update, `batch` generations a transaction."""
    from django.db import connection, transaction

    balance_model, line_model = _models()
    source = accounts
    session = psycopg2.connect(address)
    with session, session.cursor() as cursor:
        cursor.execute(
            "DROP TABLE IF EXISTS bench_orm_line, bench_orm_balance;"
            "CREATE TABLE bench_orm_balance (id bigint PRIMARY KEY, posted bigint NOT NULL);"
            f"INSERT INTO bench_orm_balance SELECT n, 0 FROM generate_series(0, {accounts}) n;"
            "CREATE TABLE bench_orm_line (id bigserial PRIMARY KEY, generation_id uuid NOT NULL,"
            " account_id bigint NOT NULL REFERENCES bench_orm_balance, amount bigint NOT NULL,"
            " UNIQUE (account_id, generation_id));"
            "GRANT ALL ON bench_orm_balance, bench_orm_line, bench_orm_line_id_seq TO tributary_app"
        )
    session.close()
    connection.close()
    connection.ensure_connection()
    meter = Meter(connection.connection.info.backend_pid)
    for start in range(0, len(work), batch):
        part = work.part(start, start + batch)
        with meter.transaction(), transaction.atomic(durable=True):
            lines, sums = [], {source: 0}
            for places, amounts in zip(part.places, part.amounts, strict=True):
                generation = new_generation_id()
                for account, amount in [*zip(places.tolist(), amounts.tolist(), strict=True), (source, -GROSS)]:
                    lines.append(line_model(generation_id=generation, account_id=account, amount=amount))
                    sums[account] = sums.get(account, 0) + amount
            balances = list(balance_model._default_manager.filter(pk__in=sums).select_for_update().order_by("pk"))
            for balance in balances:
                balance.posted += sums[balance.pk]
            line_model._default_manager.bulk_create(lines, batch_size=5000)
            balance_model._default_manager.bulk_update(balances, ["posted"], batch_size=2000)
    return meter
