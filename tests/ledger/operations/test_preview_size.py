"""A preview of a month with many generations: bounded memory, and seconds, not minutes."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from contributors.models import PPB
from ledger import division
from ledger.models import PlanPreview
from tests.ledger.operations.test_previews import preview, propose
from tests.worlds.story import OCTOBER
from tests.worlds.world import PRICE, World, build_world

TEMPLATES, HOLDERS = 100, 30


def many_generations(count: int) -> World:
    """`count` generations of October, each attributed to 30 holders by shares of its own kind, of a hundred."""
    world = build_world(OCTOBER, contributors=HOLDERS)
    drawn = random.Random(3)
    for _ in range(TEMPLATES):
        cuts = sorted(drawn.sample(range(1, PPB), HOLDERS))
        shares = [b - a for a, b in zip([0, *cuts], cuts, strict=False)]
        world.attribute(world.generate(1), shares=shares, general=shares[::-1])
    _copy(count // TEMPLATES - 1)
    return world


def _copy(copies: int) -> None:
    """Each generation and its attribution so many times again, under numbers of their own."""
    with connection.cursor() as cursor:
        columns = {}
        for table in ("attribution_generation", "attribution_attribution"):
            cursor.execute(
                "SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) FROM"
                " information_schema.columns WHERE table_name = %s AND column_name NOT IN ('id', 'external_id',"
                " 'generation_id', 'occurred_at', 'state')",
                [table],
            )
            columns[table] = cursor.fetchone()[0]
        names = columns["attribution_generation"]
        cursor.execute(
            "CREATE TEMPORARY TABLE copied ON COMMIT DROP AS SELECT g.id AS original, gen_random_uuid() AS id, n"
            " FROM attribution_generation g, generate_series(1, %s) AS n",
            [copies],
        )
        cursor.execute(
            f"INSERT INTO attribution_generation (id, external_id, occurred_at, state, {names})"
            " SELECT c.id, g.external_id || '-' || c.n, g.occurred_at + c.n * interval '1 millisecond', 'received',"
            f" {', '.join(f'g.{name.strip()}' for name in names.split(','))}"
            " FROM copied c JOIN attribution_generation g ON g.id = c.original"
        )
        names = columns["attribution_attribution"]
        cursor.execute(
            f"INSERT INTO attribution_attribution (generation_id, {names}) SELECT c.id,"
            f" {', '.join(f'a.{name.strip()}' for name in names.split(','))}"
            " FROM copied c JOIN attribution_attribution a ON a.generation_id = c.original"
        )
        cursor.execute("UPDATE attribution_generation SET state = 'attributed' WHERE state = 'received'")
        cursor.execute("ANALYZE attribution_generation, attribution_attribution")


@pytest.mark.django_db
@pytest.mark.parametrize("generations", [6_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_a_preview_of_many_generations_holds_one_page_at_a_time_and_takes_seconds(generations: int) -> None:
    world = many_generations(generations)
    plan = propose(world, price=2 * PRICE, take_ppb=PPB // 10)
    started, used = time.monotonic(), time.process_time()
    with CaptureQueriesContext(connection) as queries:
        found = preview(world, plan)
    seconds, processor = time.monotonic() - started, time.process_time() - used
    print(
        f"preview of {generations:,} generations, {HOLDERS} holders each: {seconds:.1f} s, {processor:.1f} s of the"
        f" processor in Python, {len(queries)} queries"
    )
    assert found.totals["generations"] == [generations, generations]
    assert found.totals["gross"] == [generations * PRICE, generations * 2 * PRICE]
    taken, brought = found.totals["take"][1], sum(found.after) + found.totals["floor_kept"][1]
    assert taken + brought == found.totals["gross"][1]
    # A page has a fixed number of statements, and nothing is asked for one generation.
    assert len(queries) < 40 + 20 * (generations // division.PAGE + 1)
    assert processor < 1.0 + generations / 2_000
    tracemalloc.start()
    try:
        again = preview(world, plan)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()
    assert PlanPreview.objects.get(pk=again.pk).after == found.after
