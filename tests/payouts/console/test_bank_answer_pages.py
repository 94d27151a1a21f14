"""The page of the bank's report, from the upload to the books."""

from __future__ import annotations

from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from payouts.models import Payout, PayoutRun
from tests.payouts.test_bank_answers import camt, ntry, programme_accounts, row, state_of, table, two, tx
from tests.worlds.browser import LogIn
from tests.worlds.world import World

__all__ = ["programme_accounts", "two"]


def test_the_page_reads_a_statement_and_lists_the_rest(world: World, two: list[Payout], log_in: LogIn) -> None:
    stranger = tx(two[0]).replace(two[0].public_id.hex, "SALARY-7")
    run = PayoutRun.objects.get()
    page = reverse("payouts:record_lines", args=[run.public_id])
    given = SimpleUploadedFile("statement.xml", camt(ntry(*map(tx, two)), ntry(stranger)).encode())
    client = log_in(world.checker)
    response = client.post(page, {"file": given})
    told = response.content.decode()
    assert response.status_code == 200
    assert "Not booked: 1" in told
    assert "salary-7" in told
    assert state_of(*two) == ["settled", "settled"]
    ambiguous = table(row(two[0], booked_on="03/04/2026", reference="N"))
    refused = client.post(page, {"file": SimpleUploadedFile("t.csv", ambiguous.encode())})
    assert (refused.status_code, "has two readings" in refused.content.decode()) == (422, True)
    again = client.post(page, {"file": SimpleUploadedFile("t.csv", ambiguous.encode()), "days": "day"})
    assert "has two readings" not in again.content.decode()
