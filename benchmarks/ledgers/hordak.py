"""django-hordak on the benchmark's generations, in a process and a database of its own.

    python -m benchmarks.ledgers.hordak ADDRESS WORKLOAD ACCOUNTS BATCH:GENERATIONS ...

Headers and legs are written by bulk_create, the quickest that its models offer; a generation is one transaction of all
its legs. (One transaction for each credit with a debit of its own, which spares its trigger the long sums, was tried
and took twice as long.) Balances are not kept by hordak: it sums legs when asked.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.ledgers.peer import prepare
from benchmarks.ledgers.workload import GROSS, Meter, Workload

SETTINGS = {
    "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth", "mptt", "hordak"],
    "HORDAK_DECIMAL_PLACES": 2,
    "HORDAK_MAX_DIGITS": 20,
    "HORDAK_INTERNAL_CURRENCY": "USD",
    "DEFAULT_CURRENCY": "USD",
    "HORDAK_CURRENCIES": ["USD"],
    "CURRENCIES": ["USD"],
}
BULK = 5000


def open_accounts(n: int) -> None:
    """Root accounts 1 to n, and n + 1 for the source. The tree's columns are filled in as mptt would."""
    account = import_module("hordak.models").Account
    rows = [
        account(id=i, name=f"a{i}", code=None, type="LI", currencies=["USD"], lft=1, rght=2, tree_id=i, level=0)
        for i in range(1, n + 2)
    ]
    account.objects.bulk_create(rows, batch_size=BULK)


def post(work: Workload, accounts: int, batch: int) -> Meter:
    from django.db import connection, transaction

    models, money = import_module("hordak.models"), import_module("moneyed").Money
    source = accounts + 1
    connection.ensure_connection()
    meter = Meter(connection.connection.info.backend_pid)
    for start in range(0, len(work), batch):
        part = work.part(start, start + batch)
        with meter.transaction(), transaction.atomic(durable=True):
            headers = models.Transaction.objects.bulk_create([models.Transaction() for _ in range(len(part))], BULK)
            legs: list[Any] = []
            for header, places, amounts in zip(headers, part.places, part.amounts, strict=True):
                for place, amount in zip(places.tolist(), amounts.tolist(), strict=True):
                    value = money(Decimal(amount), "USD")
                    legs.append(models.Leg(transaction=header, account_id=place + 1, credit=value))
                legs.append(models.Leg(transaction=header, account_id=source, debit=money(Decimal(GROSS), "USD")))
            models.Leg.objects.bulk_create(legs, batch_size=BULK)
    return meter


def main(address: str, workload: str, accounts: int, sizes: list[tuple[int, int]]) -> None:
    prepare(address, **SETTINGS)
    open_accounts(accounts)
    work, rows, start = Workload.load(Path(workload)), [], 0
    post(work.part(0, 10), accounts, 10)
    for batch, generations in sizes:
        part = work.part(start, start + generations)
        start += generations
        meter = post(part, accounts, batch)
        name = f"django-hordak, {batch:,} generation{'s' if batch > 1 else ''} a commit"
        rows.append(meter.row(name, part.lines, peer="hordak", batch=batch))
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main(
        sys.argv[1], sys.argv[2], int(sys.argv[3]), [(int(b), int(n)) for b, n in (a.split(":") for a in sys.argv[4:])]
    )
