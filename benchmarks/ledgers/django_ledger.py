"""django-ledger on the benchmark's generations, in a process and a database of its own.

    python -m benchmarks.ledgers.django_ledger ADDRESS WORKLOAD ACCOUNTS BATCH:GENERATIONS ...

A generation is one journal entry, committed and posted by `LedgerModel.commit_txs`, its documented interface, which
writes the lines by bulk_create. `batch` of them share a database transaction. Balances are not kept: it sums lines.
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
    "INSTALLED_APPS": [
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
        "django_ledger",
    ],
    "LOGIN_URL": "/",
    "ROOT_URLCONF": "django_ledger.urls",
}


def open_accounts(n: int) -> tuple[Any, list[Any], Any]:
    """(ledger, accounts by place, the source): the children of two roots of its chart, written by bulk_create."""
    models, users = import_module("django_ledger.models"), import_module("django.contrib.auth.models")
    admin = users.User.objects.create(username="bench")
    entity = models.EntityModel.create_entity(name="Bench", use_accrual_method=True, admin=admin, fy_start_month=1)
    chart = entity.create_chart_of_accounts(assign_as_default=True, commit=True, coa_name="Bench")
    account = models.AccountModel
    cash = entity.create_account(code="1010", role="asset_ca_cash", name="cash", balance_type="debit", active=True)
    first = entity.create_account(
        code="2000000", role="lia_cl_other", name="a0", balance_type="credit", active=True, coa_model=chart
    )
    parent = first.get_parent()
    rows = [
        account(
            code=str(2000000 + i),
            name=f"a{i}",
            role="lia_cl_other",
            balance_type="credit",
            active=True,
            coa_model=chart,
            depth=first.depth,
            numchild=0,
            path=account._get_path(parent.path, first.depth, i + 1),
        )
        for i in range(1, n)
    ]
    account.objects.bulk_create(rows, batch_size=5000)
    account.objects.filter(pk=parent.pk).update(numchild=n)
    ledger = entity.create_ledger(name="bench", posted=True)
    return ledger, [first, *rows], cash


def post(work: Workload, ledger: Any, accounts: list[Any], source: Any, batch: int) -> Meter:
    from django.db import connection, transaction
    from django.utils import timezone

    connection.ensure_connection()
    meter = Meter(connection.connection.info.backend_pid)
    for start in range(0, len(work), batch):
        part = work.part(start, start + batch)
        with meter.transaction(), transaction.atomic(durable=True):
            for places, amounts in zip(part.places, part.amounts, strict=True):
                lines = [
                    {"account": accounts[place], "amount": Decimal(amount), "tx_type": "credit", "description": ""}
                    for place, amount in zip(places.tolist(), amounts.tolist(), strict=True)
                ]
                lines.append({"account": source, "amount": Decimal(GROSS), "tx_type": "debit", "description": ""})
                ledger.commit_txs(je_timestamp=timezone.now(), je_txs=lines, je_posted=True)
    return meter


def main(address: str, workload: str, accounts: int, sizes: list[tuple[int, int]]) -> None:
    prepare(address, **SETTINGS)
    ledger, opened, source = open_accounts(accounts)
    work, rows, start = Workload.load(Path(workload)), [], 0
    post(work.part(0, 3), ledger, opened, source, 1)
    for batch, generations in sizes:
        part = work.part(start, start + generations)
        start += generations
        meter = post(part, ledger, opened, source, batch)
        name = f"django-ledger, {batch} generation{'s' if batch > 1 else ''} a commit"
        rows.append(meter.row(name, part.lines, peer="django_ledger", batch=batch))
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main(
        sys.argv[1], sys.argv[2], int(sys.argv[3]), [(int(b), int(n)) for b, n in (a.split(":") for a in sys.argv[4:])]
    )
