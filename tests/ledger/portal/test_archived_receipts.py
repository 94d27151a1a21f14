"""The list of receipts once the detail of an old month is exported, and once it is not in the database any more."""

from __future__ import annotations

import pytest

from attribution.models import Generation
from contributors.operations.people import register_contributor
from ledger import journal
from ledger.models import Period, Void
from ledger.operations import corrections, credit_exports
from ledger.queries import archived, receipts
from ledger.statements.build import build_statement
from ledger.statements.csv import statement_csv
from people.operations.users import register_user
from tests.worlds.archive import detach_documents
from tests.worlds.pages import receipt_over_api, text_of
from tests.worlds.programme import AT, OCTOBER, Programme

pytestmark = pytest.mark.django_db


def test_receipts_are_listed_as_before_once_their_month_is_exported(accrued: Programme) -> None:
    accrued.close(seal=True)
    who = accrued.contributors[0].pk
    before = receipts.receipts_of(who)
    assert before.rows
    assert credit_exports.export_closed_periods(at=AT) >= 1
    assert receipts.receipts_of(who) == before
    assert before.archived == []


def test_the_page_says_which_months_cannot_be_listed_and_where_their_credits_stand(accrued: Programme) -> None:
    accrued.close(seal=True)
    credit_exports.export_closed_periods(at=AT)
    contributor = accrued.contributors[0]
    listed = [row.generation_id for row in receipts.receipts_of(contributor.pk, limit=100).rows]
    assert len(listed) > 3
    assert "archived" not in text_of(accrued.client(0).get("/portal/receipts/").content)
    detach_documents()
    assert receipts.receipts_of(contributor.pk).archived == [OCTOBER]
    for address in ("/portal/receipts/", "/portal/receipts/?month=2026-10"):
        page = text_of(accrued.client(0).get(address).content)
        assert "Single receipts of October 2026 cannot all be listed here" in page
        assert "No earnings yet" not in page
        assert "Nothing was credited to you" not in page
    statement = build_statement(contributor=contributor, period=Period.objects.get(pk=OCTOBER))
    text = statement_csv(statement).decode()
    assert all(str(generation) in text for generation in listed)


def test_an_archived_receipt_says_so_and_how_the_month_is_proved(accrued: Programme) -> None:
    accrued.close(seal=True)
    credit_exports.export_closed_periods(at=AT)
    row = next(row for row in receipts.receipts_of(accrued.contributors[0].pk, limit=100).rows if row.amount)
    address = f"/portal/receipts/{row.generation_id}/"
    before = text_of(accrued.client(0).get(address).content)
    stranger = register_contributor(
        user=register_user(email="new@example.org", password="a long enough phrase", at=AT),
        kind="person",
        legal_name="New",
        display_name="New",
        country="DE",
        at=AT,
    )
    detach_documents()
    for answer in (accrued.client(0).get(address), accrued.client(0).post(f"{address}recompute/")):
        page = text_of(answer.content)
        assert answer.status_code == 410
        assert "It belongs to October 2026, which was closed on 3 Nov 2026" in page
        assert Period.objects.get(pk=OCTOBER).root_hex in page
        assert b"/portal/statements/2026-10/" in answer.content
    amount = f"{row.amount // 10**9}.{row.amount % 10**9:09d}"
    assert amount in before
    assert f"Credited in October 2026 USD {amount}" in page
    assert "Voided" not in page
    # Another's generation stays as unknown as one that never was.
    assert archived.archived_receipt(row.generation_id, stranger.pk) is None


def test_an_archived_receipt_says_that_its_generation_was_voided(accrued: Programme) -> None:
    accrued.close(seal=True)
    credit_exports.export_closed_periods(at=AT)
    row = next(row for row in receipts.receipts_of(accrued.contributors[0].pk, limit=100).rows if row.amount)
    generation = Generation.objects.get(pk=row.generation_id)
    corrections.void_generation(generation=generation, reason="refunded", at=AT)
    detach_documents()
    page = text_of(accrued.client(0).get(f"/portal/receipts/{generation.pk}/").content)
    assert "Its service voided this output" in page
    assert "Your earnings from it were reversed" in page
    assert "Credited in October 2026" in page
    assert "It brought you" not in page


def test_without_the_month_s_file_an_archived_receipt_tells_the_month_alone(accrued: Programme) -> None:
    accrued.close()
    row = receipts.receipts_of(accrued.contributors[0].pk).rows[0]
    assert archived.archived_receipt(row.generation_id, accrued.contributors[0].pk) is None
    detach_documents()
    found = archived.archived_receipt(row.generation_id, accrued.contributors[0].pk)
    assert found is not None
    assert (found.period.pk, found.credited) == (OCTOBER, [])
    answer = accrued.client(0).get(f"/portal/receipts/{row.generation_id}/")
    assert answer.status_code == 410
    assert "The month is not sealed yet" in text_of(answer.content)


def test_the_service_reads_a_problem_that_names_the_month_and_its_root(accrued: Programme) -> None:
    accrued.close(seal=True)
    assert receipt_over_api(accrued, accrued.generations[0]).status_code == 200
    detach_documents()
    answer = receipt_over_api(accrued, accrued.generations[0])
    assert (answer.status_code, answer["Content-Type"]) == (410, "application/problem+json")
    body, month = answer.json(), Period.objects.get(pk=OCTOBER)
    assert (body["type"], body["period"], body["root"]) == ("/problems/receipt-archived", "2026-10", month.root_hex)
    assert body["roots"] == "/roots.json"
    assert "2026-10, after the month was closed on 3 Nov 2026" in body["detail"]


def test_what_is_archived_of_an_open_month_names_no_month(accrued: Programme) -> None:
    detach_documents()
    generation = accrued.generations[0]
    answer = receipt_over_api(accrued, generation)
    assert answer.status_code == 410
    assert "period" not in answer.json()
    assert answer.json()["detail"].startswith(
        "The receipt was moved to an archive with those of its month. Its credits"
    )
    assert accrued.client(0).get(f"/portal/receipts/{generation.pk}/").status_code == 404


def test_what_is_archived_is_neither_voided_nor_restated(accrued: Programme) -> None:
    accrued.close()
    detach_documents()
    generation = accrued.generations[0]
    before = journal.sequence_at(AT)
    with pytest.raises(corrections.UnableToVoid, match="moved to an archive") as refused:
        corrections.void_generation(generation=generation, reason="refunded", at=AT)
    # The receipt itself answers 410 with another problem.
    assert (refused.value.status, refused.value.problem) == (409, "generation-archived")
    assert not Void.objects.exists()
    assert journal.sequence_at(AT) == before
    assert str(corrections.cannot_restate(generation)).startswith("Its documents were moved to an archive")
    page = text_of(accrued.staff_client("finance_maker").get(f"/console/generations/{generation.pk}/").content)
    assert "Archived" in page
