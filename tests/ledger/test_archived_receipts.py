"""The list of receipts once the detail of an old month is exported, and once it is not in the database any more."""

from __future__ import annotations

import pytest
from django.db import connection

from config.database import APP_ROLE, OWNER_ROLE
from ledger import operations, queries
from ledger.models import Period
from ledger.statement_csv import statement_csv
from ledger.statements import build_statement
from tests.ledger.programme import AT, OCTOBER, Programme
from tests.ledger.test_receipts import text_of

pytestmark = pytest.mark.django_db


def detach_documents() -> None:
    """What whoever runs the database may do with a closed month."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SELECT DISTINCT tableoid::regclass::text FROM ledger_accrual")
        partitions = [row[0] for row in cursor.fetchall()]
        cursor.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
        for partition in partitions:
            cursor.execute(f"ALTER TABLE ledger_accrual DETACH PARTITION {partition}")
        cursor.execute(f"SET LOCAL ROLE {APP_ROLE}")


def test_receipts_are_listed_as_before_once_their_month_is_exported(accrued: Programme) -> None:
    accrued.close(seal=True)
    who = accrued.contributors[0].pk
    before = queries.receipts_of(who)
    assert before.rows
    assert operations.export_closed_periods(at=AT) >= 1
    assert queries.receipts_of(who) == before
    assert before.archived == []


def test_the_page_says_which_months_cannot_be_listed_and_where_their_credits_stand(accrued: Programme) -> None:
    accrued.close(seal=True)
    operations.export_closed_periods(at=AT)
    contributor = accrued.contributors[0]
    listed = [row.generation_id for row in queries.receipts_of(contributor.pk, limit=100).rows]
    assert len(listed) > 3
    assert "archived" not in text_of(accrued.client(0).get("/portal/receipts/").content)
    detach_documents()
    assert queries.receipts_of(contributor.pk).archived == [OCTOBER]
    for address in ("/portal/receipts/", "/portal/receipts/?month=2026-10"):
        page = text_of(accrued.client(0).get(address).content)
        assert "Single receipts of October 2026 cannot all be listed here" in page
        assert "No earnings yet" not in page
        assert "Nothing was credited to you" not in page
    statement = build_statement(contributor=contributor, period=Period.objects.get(pk=OCTOBER))
    text = statement_csv(statement).decode()
    assert all(str(generation) in text for generation in listed)
