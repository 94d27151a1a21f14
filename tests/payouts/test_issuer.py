"""Every paper names the programme's legal entity: name, address, country and tax number."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import datetime

import pytest
from django.urls import reverse

from payouts.exports import remittance, tables
from payouts.queries import payees
from people.operations.programme import describe_programme
from tests.ledger.conftest import accrued, programme
from tests.people.presentation.papers import text_of as paper_text_of
from tests.worlds.browser import LogIn, at, log_in, member_of, words_of
from tests.worlds.programme import Programme
from tests.worlds.world import World, only

__all__ = ["accrued", "at", "log_in", "programme"]
LINES = ("Acme SE", "Main St 1", "10115 Berlin", "Germany", "Tax number DE123456789")
LINE = ", ".join(LINES)


@pytest.fixture(autouse=True)
def described(db: None, at: datetime) -> None:
    describe_programme(
        name="Acme Royalties",
        legal_name="Acme SE",
        address="Main St 1\n10115 Berlin",
        country="DE",
        tax_number="DE123456789",
        at=at,
    )


def test_papers_of_payouts_name_the_legal_entity(paying: World) -> None:
    contributor = paying.contributor(7000)
    run = paying.pay(paying.executing())
    paper = paper_text_of(remittance.pdf(only(run)))
    assert all(line in paper for line in LINES)
    assert LINE in tables.history(payees.payouts_of(contributor)).decode()
    assert LINE in tables.run_payouts(run).decode()
    assert LINE in json.loads(tables.run_json_lines(run).splitlines()[0])["payer"]
    with zipfile.ZipFile(io.BytesIO(tables.run_workbook(run))) as book:
        assert LINE in book.read("xl/sharedStrings.xml").decode()


def test_statements_in_every_form_name_the_legal_entity(accrued: Programme, log_in: LogIn) -> None:
    accrued.close()
    client = log_in(member_of(accrued.contributors[0]))
    period = "2026-10"
    assert LINE in words_of(client.get(reverse("ledger:statement", args=[period])))
    text = paper_text_of(client.get(reverse("ledger:statement_pdf", args=[period])).content)
    assert all(line in text for line in LINES)
    for name in (reverse("ledger:statement_csv", args=[period]), f"{reverse('ledger:earnings_csv')}?month={period}"):
        answer = client.get(name)
        content = b"".join(answer) if answer.streaming else answer.content
        assert LINE in content.decode(), name
