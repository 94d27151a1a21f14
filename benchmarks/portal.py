"""Every page of the portal for one contributor with a million receipts: server time, queries and bytes.

    python -m benchmarks.portal [--quick] [--json FILE]

Two months of generations are copied in the database from one that was reported and attributed through the product.
Each credits the same contributor for three of its 200 works. Documents are posted by the journal's own function, in
batches of a hundred. Then the sums of earnings are made, and every page under /portal/ is fetched. Times are those of
the view, its queries and its template, without the network. Below the table stand the goals, met or not.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ledgers.databases import migrated_database

if TYPE_CHECKING:
    from tests.worlds.programme import Programme

WORKS, BATCH, TIMES = 200, 100, 5
MS_MAX, QUERIES_MAX = 200, 20
# A file that is as long as the receipts are many, or a step of a dialogue with Stripe.
APART = {"verify_statement.py", "csv", "history.csv", "onboarding", "returned", "read-account", "statement.pdf"}

_COPY_GENERATIONS = """
INSERT INTO attribution_generation
SELECT r.* FROM generate_series(%(first)s, %(last)s) AS n
  CROSS JOIN LATERAL (SELECT %(start)s::timestamptz + n * %(every)s::interval AS at) m
  JOIN attribution_generation t ON t.id = %(template)s
  CROSS JOIN LATERAL jsonb_populate_record(t, jsonb_build_object(
    'id', (lpad(to_hex((extract(epoch FROM m.at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n %% 4096), 3, '0')
           || '8' || lpad(to_hex(n), 15, '0'))::uuid,
    'external_id', 'b' || n, 'occurred_at', m.at, 'received_at', m.at, 'state', 'received')) r"""
_COPY_ATTRIBUTIONS = """
INSERT INTO attribution_attribution
SELECT r.* FROM attribution_generation g
  JOIN attribution_attribution t ON t.generation_id = %(template)s
  CROSS JOIN LATERAL (
    SELECT CASE WHEN g.external_id LIKE 'b%%' THEN substr(g.external_id, 2)::bigint END AS n) k
  CROSS JOIN LATERAL jsonb_populate_record(t, jsonb_build_object(
    'id', nextval(pg_get_serial_sequence('attribution_attribution', 'id')), 'generation_id', g.id,
    'top_works', jsonb_build_object(%(holder)s::text, jsonb_build_array(
      jsonb_build_array((%(works)s::bigint[])[1 + k.n %% %(many)s], 0.75),
      jsonb_build_array((%(works)s::bigint[])[1 + k.n * 7 %% %(many)s], 0.5),
      jsonb_build_array((%(works)s::bigint[])[1 + k.n * 31 %% %(many)s], 0.125))))) r
 WHERE k.n BETWEEN %(first)s AND %(last)s"""
# One batch: its documents, and the entry above them.
_POST = """
WITH added AS (
  INSERT INTO ledger_accrual (generation_id, revision, batch_id, source_id, gross, plan_id, account_ids, amounts)
  SELECT id, 1, %(batch)s, %(source)s, 50000000, %(plan)s, %(accounts)s::bigint[],
         ARRAY[10000000, 20000000 + n %% 1000, 20000000 - n %% 1000]
    FROM (SELECT id, CASE WHEN external_id LIKE 'b%%' THEN substr(external_id, 2)::bigint END AS n
            FROM attribution_generation
           WHERE occurred_at >= %(start)s::timestamptz + (%(first)s - 1) * %(every)s::interval
             AND occurred_at <= %(start)s::timestamptz + (%(last)s + 1) * %(every)s::interval) x
   WHERE n BETWEEN %(first)s AND %(last)s
  RETURNING 1)
SELECT count(*) FROM added"""
_ENTRY = """
SELECT ledger_post_accruals('accrue', %(key)s, ledger_request_hash('accrue', %(month)s, NULL, '', '',
  ledger_digest_documents(%(batch)s)), %(day)s, %(batch)s, %(month)s, '', '')"""


def fill(programme: Programme, receipts: int) -> dict[str, float]:
    """Add the generations, their attributions and their documents; returns the seconds of each step."""
    from django.db import connection, transaction

    from ledger import journal
    from ledger.journal import AccountKey

    (template,) = programme.generate(1)
    programme.attribute([template])
    contributor, holder = programme.contributors[0], programme.holders[0]
    assert programme.plan is not None
    keys = [
        AccountKey("platform_fee", "USD"),
        AccountKey("contributor_accrued", "USD", f"contributor:{contributor.pk}"),
        AccountKey("floor_pool", "USD", f"plan:{programme.plan.pk}"),
        AccountKey("service_unbilled", "USD", f"service:{programme.services[0].pk}"),
    ]
    *accounts, source = journal.open_accounts(keys)
    start = datetime(2026, 10, 1, tzinfo=UTC)
    every = timedelta(days=33) / receipts
    works = [work.pk for work in programme.works_of(0)]
    values: dict[str, Any] = {
        "template": template.pk, "holder": holder.pk, "works": works, "many": len(works), "source": source,
        "plan": programme.plan.pk, "accounts": accounts, "start": start, "every": every,
    }  # fmt: skip
    seconds = {}
    for name, statement in (("generations", _COPY_GENERATIONS), ("attributions", _COPY_ATTRIBUTIONS)):
        began = time.perf_counter()
        for first in range(0, receipts, 50_000):
            with connection.cursor() as cursor:
                cursor.execute(statement, {**values, "first": first, "last": min(first + 50_000, receipts) - 1})
        seconds[name] = time.perf_counter() - began
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    began = time.perf_counter()
    for first in range(0, receipts, BATCH):
        day = (start + first * every).date()
        batch = 1_000_000_000 + first
        given = {
            **values,
            "first": first,
            "last": first + BATCH - 1,
            "batch": batch,
            "day": day,
            "key": f"bench:{first}",
        }
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_POST, given)
            cursor.execute(_ENTRY, {**given, "month": day.year * 100 + day.month})
    seconds["documents"] = time.perf_counter() - began
    return seconds


def pages(programme: Programme) -> list[tuple[str, str]]:
    """(name, address) of every page, the list of receipts also by filter and deep behind the newest."""
    from django.urls import get_resolver, reverse

    from attribution.models import Generation
    from ledger.queries.receipts import Cursor

    found = []
    for app in get_resolver().url_patterns:
        for pattern in getattr(app, "url_patterns", [app]):
            path = str(app.pattern) + str(pattern.pattern) if pattern is not app else str(pattern.pattern)
            if (
                path.startswith("portal/")
                and not set("<(^") & set(path)
                and path.rstrip("/").split("/")[-1] not in APART
            ):
                found.append((path, f"/{path}"))
    receipts = reverse("ledger:receipts")
    middle = Generation.objects.filter(external_id__startswith="b").order_by("occurred_at")[1000]
    deep = Cursor(middle.occurred_at, middle.pk, 1)
    work = programme.works_of(0)[-1].public_id
    model, other = programme.versions
    return [
        *sorted(found),
        ("receipts, the oldest", f"{receipts}?after={deep}"),
        ("receipts of a month", f"{receipts}?month=2026-10"),
        ("receipts of a work", f"{receipts}?work={work}"),
        ("receipts of a model", f"{receipts}?model={model.public_id}"),
        ("receipts of a model without any", f"{receipts}?model={other.public_id}"),
        ("a receipt", f"{receipts}{middle.pk}/"),
        ("earnings of a month", f"{reverse('ledger:earnings')}?month=2026-10"),
        ("a statement", reverse("ledger:statement", args=["2026-10"])),
    ]


def fetched(client: Any, name: str, address: str, times: int) -> dict[str, Any] | None:
    """Fetch a page; None where the address answers no page to GET."""
    from django.db import connection

    queries: list[str] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        queries.append(sql)
        return execute(sql, params, many, context)

    took = []
    for _ in range(times + 1):
        queries.clear()
        with connection.execute_wrapper(count):
            began = time.perf_counter()
            response = client.get(address)
            body = b"".join(response) if response.streaming else response.content
            took.append(1e3 * (time.perf_counter() - began))
        if response.status_code != 200:
            return None
    # The first one warms the caches of the process.
    ms = statistics.median(took[1:])
    return {"page": name, "ms": ms, "first_ms": took[0], "queries": len(queries), "bytes": len(body)}


def measure(*, quick: bool) -> dict[str, Any]:
    from django.db import connection
    from django.test import override_settings

    from contributors.operations.works import NewWork, register_works
    from ledger.operations import earned
    from tests.worlds.programme import REGISTERED, build_programme

    receipts = 100_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as directory, override_settings(TRIBUTARY_DATA=directory):
        programme = build_programme(Path(directory))
        added = [NewWork(f"Letter {n}", "text", f"Letter number {n}.".encode(), None) for n in range(WORKS - 3)]
        dataset = programme.works_of(0)[0].dataset
        programme.works += register_works(dataset=dataset, works=added, at=REGISTERED)
        seconds = fill(programme, receipts)
        print(f"filled: {seconds}", file=sys.stderr, flush=True)
        client = programme.client(0)
        began = time.perf_counter()
        earned.sum_all_earnings()
        seconds["sums"] = time.perf_counter() - began
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        rows = [row for name, address in pages(programme) if (row := fetched(client, name, address, TIMES))]
        connection.close()
    return {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "quick": quick,
        "receipts": receipts,
        "seconds": seconds,
        "pages": rows,
    }


def goals(figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    slowest = max(figures["pages"], key=lambda row: row["ms"])
    most = max(figures["pages"], key=lambda row: row["queries"])
    for goal, unit, row, target in (("ms", "ms", slowest, MS_MAX), ("queries", "queries", most, QUERIES_MAX)):
        what = f"{unit} of the page with the most, {row['page']}, {figures['receipts']:,} receipts"
        yield {"goal": f"portal_{goal}", "what": what, "target": target, "measured": round(row[goal], 1),
               "met": row[goal] <= target}  # fmt: skip


def show(figures: dict[str, Any]) -> None:
    print(
        f"{figures['machine']}, {figures['cores']} cores, load {figures['load']:.1f}; {figures['receipts']:,} receipts"
    )
    print(f"sums of all receipts made in {figures['seconds']['sums']:.1f} s\n")
    for row in figures["pages"]:
        print(f"{row['page']:<34} {row['ms']:>9.1f} ms {row['queries']:>4} queries {row['bytes']:>10,} bytes")
    print("\nGoals")
    for each in figures["goals"]:
        met = "met    " if each["met"] else "not met"
        print(f"  {met}  {each['measured']:>8}  {each['target']:>6}  {each['what']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the receipts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args()
    with migrated_database():
        import django

        django.setup()
        logging.disable(logging.CRITICAL)
        figures = measure(quick=args.quick)
    figures["goals"] = list(goals(figures))
    show(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
