"""Portal pages of the ledger: their reader, that they add up, and that they bear any input."""

from __future__ import annotations

import csv
import io

import pytest
from django.test import Client

from contributors.operations.people import register_contributor
from ledger.queries import earnings, receipts
from tests.people.presentation.papers import text_of as paper_text_of
from tests.worlds.pages import text_of
from tests.worlds.programme import AT, OCTOBER, Programme

pytestmark = pytest.mark.django_db

PAGES = [
    "/portal/receipts/",
    "/portal/statements/",
    "/portal/statements/2026-10/",
    "/portal/statements/2026-10/csv",
    "/portal/statements/2026-10/pdf",
    "/portal/earnings/",
    "/portal/earnings/csv",
    "/portal/receipts/{generation}/",
]


def test_a_visitor_is_taken_to_the_login(accrued: Programme) -> None:
    for address in PAGES:
        response = Client(headers={"Host": "127.0.0.1"}).get(address.format(generation=accrued.generations[0].pk))
        assert response.status_code == 302
        assert response["Location"].startswith("/accounts/login/")


def test_a_contributor_sees_nothing_of_another_s(accrued: Programme) -> None:
    """The second author asks for every page; nothing that is only the first one's stands on it."""
    accrued.close(seal=True)
    stranger = accrued.contributors[0]
    only_the_first_s = {
        stranger.display_name,
        stranger.legal_name,
        str(stranger.public_id),
        f"contributor:{stranger.pk} ",
        f"contributor:{stranger.pk},",
        *(work.title for work in accrued.works_of(0)),
        *(str(work.public_id) for work in accrued.works_of(0)),
    }
    client = accrued.client(1)
    for address in PAGES:
        response = client.get(address.format(generation=accrued.generations[0].pk))
        assert response.status_code == 200, address
        content = paper_text_of(response.content) if address.endswith("pdf") else response.getvalue().decode()
        assert not [secret for secret in only_the_first_s if secret in content], address


def test_a_stranger_has_no_receipt_no_statement_and_no_earnings(accrued: Programme) -> None:
    stranger = accrued.members[0]
    contributor = register_contributor(
        user=stranger, kind="person", legal_name="New", display_name="New", country="DE", at=AT
    )
    client = accrued.client(0)
    session = client.session
    session["contributor"] = str(contributor.public_id)
    session.save()
    assert client.get(f"/portal/receipts/{accrued.generations[0].pk}/").status_code == 404
    for form in ("", "csv", "pdf"):
        assert client.get(f"/portal/statements/2026-10/{form}").status_code == 404
    assert client.get("/portal/earnings/csv").status_code == 404
    for address in ("/portal/receipts/", "/portal/statements/", "/portal/earnings/"):
        response = client.get(address)
        assert response.status_code == 200
        assert "USD" not in text_of(response.content)


def test_another_s_work_is_no_filter(accrued: Programme) -> None:
    client = accrued.client(0)
    assert client.get(f"/portal/receipts/?work={accrued.works_of(0)[0].public_id}").status_code == 200
    assert client.get(f"/portal/receipts/?work={accrued.works_of(1)[0].public_id}").status_code == 404


def test_the_list_bears_any_input(accrued: Programme) -> None:
    client = accrued.client(0)
    for query in (
        "month=2026-10",
        "month=nonsense",
        "month=9999-99",
        "after=nonsense",
        "after=1.2.3",
        "model=",
        "service=",
        "after=1." + "0" * 32 + ".99999999999",
        "month=2026-10&after=" + "9" * 40,
    ):
        assert client.get(f"/portal/receipts/?{query}").status_code == 200, query
    for query in ("model=x", "service=' OR 1=1", "work=1"):
        assert client.get(f"/portal/receipts/?{query}").status_code == 404, query
    # Refused before any page looks at it.
    assert client.get("/portal/receipts/?model=%00").status_code == 400


def test_the_list_goes_on_where_the_last_page_ended(accrued: Programme) -> None:
    client, found, after = accrued.client(0), [], ""
    while True:
        page = client.get("/portal/receipts/", {"after": after} if after else {}).context["page"]
        found += [row.generation_id for row in page.rows]
        after = page.next_after
        if not after:
            break
    assert len(found) == len(set(found))
    whole = receipts.receipts_of(accrued.contributors[0].pk, limit=100).rows
    assert found == [row.generation_id for row in whole]


def test_each_line_of_the_list_opens_a_receipt_with_the_same_amount(accrued: Programme) -> None:
    client = accrued.client(2)
    rows = client.get("/portal/receipts/").context["page"].rows
    assert rows
    for row in rows[:5]:
        assert client.get(f"/portal/receipts/{row.generation_id}/").context["receipt"].credited == row.amount


def test_before_anything_is_earned_the_pages_say_what_has_to_happen_first(programme: Programme) -> None:
    client = programme.client(0)
    assert "in the training set of press-1" in text_of(client.get("/portal/receipts/").content)
    assert "No statement yet" in text_of(client.get("/portal/statements/").content)
    assert "No earnings yet" in text_of(client.get("/portal/earnings/").content)


def test_the_earnings_page_and_its_csv_sum_to_the_ledger(accrued: Programme) -> None:
    accrued.attribute(accrued.generate(5, version=1))
    accrued.accrue()
    accrued.close()
    for place in range(3):
        contributor = accrued.contributors[place].pk
        (month,) = earnings.earnings_by_month(contributor)
        context = accrued.client(place).get("/portal/earnings/").context
        assert context["month_rows"] == [month]
        assert {block.key: block.totals for block in context["blocks"]} == {
            key: [("USD", month.direct)] for key in ("work", "model", "service")
        }
        file = accrued.client(place).get("/portal/earnings/csv?month=2026-10").content.decode("utf-8-sig")
        sums: dict[str, int] = {}
        for row in csv.DictReader(io.StringIO(file, newline="")):
            sums[row["by"]] = sums.get(row["by"], 0) + int(row["amount"].replace(".", ""))
        assert sums["source"] == month.total
        assert sums["work"] == sums["model"] == sums["service"] == month.direct
        assert not any(line.startswith(("=", "+", "@")) for line in file.replace(",", "\n").splitlines())


def test_the_chart_of_the_months_has_its_table(accrued: Programme) -> None:
    accrued.close()
    content = accrued.client(0).get("/portal/earnings/").content.decode()
    assert "<svg" in content
    assert "Earned each month, USD" in content
    (month,) = earnings.earnings_by_month(accrued.contributors[0].pk)
    assert month.period_id == OCTOBER


def test_no_page_carries_a_style_or_a_script_of_its_own(accrued: Programme) -> None:
    """The content security policy would refuse them."""
    accrued.close(seal=True)
    for address in PAGES:
        response = accrued.client(0).get(address.format(generation=accrued.generations[0].pk))
        if response["Content-Type"].startswith("text/html"):
            content = response.content.decode()
            assert " style=" not in content
            assert "onclick" not in content
