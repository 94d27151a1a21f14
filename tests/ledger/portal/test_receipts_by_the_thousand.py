"""The pages of a contributor with many receipts cost as many queries as those of one with few."""

from __future__ import annotations

from benchmarks.portal import QUERIES_MAX, fetched, fill, pages
from ledger.models import Accrual
from ledger.operations.earned import sum_all_earnings
from ledger.queries import earnings
from ledger.queries.invariants import check_all
from tests.worlds.programme import OCTOBER, Programme


def test_no_page_needs_more_queries_with_more_receipts(programme: Programme) -> None:
    fill(programme, 1_200)
    assert Accrual.objects.count() == 1_200
    sum_all_earnings()
    client = programme.client(0)
    rows = [row for name, address in pages(programme) if (row := fetched(client, name, address, 1))]
    assert len(rows) > 20
    # The home page is a sum of many: its money, payout, receipts, permissions and links.
    above = {row["page"]: row["queries"] for row in rows if row["queries"] > QUERIES_MAX}
    assert above.keys() <= {"portal/"}
    assert above.get("portal/", 0) <= 26
    works = earnings.earnings_by_work(programme.contributors[0].pk, OCTOBER)
    assert len(works) == 3
    assert {r.name for r in check_all(["I24", "I25"]) if r.rows} == set()
