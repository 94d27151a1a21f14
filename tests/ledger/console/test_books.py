"""The books in the console: access to them, that they balance, and how a month is closed and sealed."""

from __future__ import annotations

import csv
import io
import time

import pytest
from django.test import Client
from django.utils.timezone import now

from ledger.models import Entry, Period
from ledger.operations import periods
from ledger.queries import books
from people.models import AuditEvent
from people.presentation.amounts import grouped
from tests.worlds.pages import text_of
from tests.worlds.programme import OCTOBER, Programme

pytestmark = pytest.mark.django_db

PAGES = [
    "/console/trial-balance/",
    "/console/trial-balance/?as_of=1",
    "/console/trial-balance/csv",
    "/console/accounts/USD/contributor_accrued/",
    "/console/journal/",
    "/console/journal/?kind=accrue&period=2026-10",
    "/console/journal/1/",
    "/console/periods/",
    "/console/periods/2026-10/",
    "/console/plans/",
]


def test_only_staff_with_a_second_factor_read_the_books(accrued: Programme) -> None:
    expected = {
        Client(headers={"Host": "127.0.0.1"}): 302,
        accrued.client(0): 403,
        accrued.staff_client("compliance"): 403,
        accrued.staff_client("auditor"): 200,
        accrued.staff_client("finance_maker"): 200,
        accrued.staff_client("finance_checker"): 200,
    }
    for address in PAGES:
        found = [client.get(address).status_code for client in expected]
        assert found == list(expected.values()), address


def test_a_member_of_staff_who_has_not_used_the_second_factor_is_asked_for_it(accrued: Programme) -> None:
    client = Client(headers={"Host": "127.0.0.1"})
    client.force_login(accrued.staff["auditor"], backend="allauth.account.auth_backends.AuthenticationBackend")
    for address in PAGES:
        response = client.get(address)
        assert response.status_code == 302
        assert response["Location"].startswith("/accounts/2fa/reauthenticate/")


def test_the_trial_balance_on_the_page_is_the_ledger_s_and_sums_to_zero(accrued: Programme) -> None:
    accrued.close()
    page = text_of(accrued.staff_client("auditor").get("/console/trial-balance/").content)
    (total,) = books.trial_balance().totals
    currency, rows, debits, credits, difference = total
    assert (currency, difference) == ("USD", 0)
    assert debits == credits
    assert "Sums to zero" in page
    for row in rows:
        assert row.title in page
        assert grouped(max(row.debit, row.credit), 9) in page
    assert grouped(debits, 9) in page


def test_the_trial_balance_as_of_an_entry_is_as_it_was_then(accrued: Programme) -> None:
    client = accrued.staff_client("auditor")
    then = text_of(client.get("/console/trial-balance/?as_of=1").content)
    accrued.close()
    assert text_of(client.get("/console/trial-balance/?as_of=1").content) == then
    assert "Contributor payable" in text_of(client.get("/console/trial-balance/").content)
    assert "Contributor payable" not in then


def test_the_trial_balance_s_csv_sums_to_zero(accrued: Programme) -> None:
    file = accrued.staff_client("auditor").get("/console/trial-balance/csv").content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(file, newline="")))
    (total,) = [row for row in rows if row["kind"] == "sum"]
    assert total["debit"] == total["credit"]
    assert {row["hash"] for row in rows} == {bytes(Entry.objects.latest("id").hash).hex()}


def test_the_journal_lists_the_amount_of_each_entry(accrued: Programme) -> None:
    page = text_of(accrued.staff_client("auditor").get("/console/journal/").content)
    for entry in Entry.objects.all():
        debits = -sum(line.amount for line in entry.lines.all() if line.amount < 0)
        assert debits
        assert f"USD {grouped(debits, 9).rstrip('0')}" in page


def test_a_balance_is_positive_on_the_normal_side_of_its_account(accrued: Programme) -> None:
    page = accrued.staff_client("auditor").get("/console/journal/1/")
    shown = {line.account.kind: line.balance_after for line in page.context["lines"]}
    assert shown["service_unbilled"] > 0
    assert shown["contributor_accrued"] > 0


def test_a_refused_page_names_the_teams_in_words(accrued: Programme) -> None:
    refused = text_of(accrued.client(0).get("/console/journal/").content)
    assert "This page is for the finance team, auditors and administrators." in refused
    assert "finance_maker" not in refused


def test_accounts_of_a_kind_are_named_by_their_owner(accrued: Programme) -> None:
    page = text_of(accrued.staff_client("auditor").get("/console/accounts/USD/contributor_accrued/").content)
    for contributor in accrued.contributors:
        assert contributor.display_name in page


def test_what_is_not_in_the_books_is_not_found(accrued: Programme) -> None:
    client = accrued.staff_client("auditor")
    for address in (
        "/console/accounts/USD/wallet/",
        "/console/accounts/XXX/bank/",
        "/console/journal/99/",
        "/console/journal/99999999999999999999/",
        "/console/journal/?account=1",
        "/console/periods/2026-13/",
        "/console/periods/1999-01/",
    ):
        assert client.get(address).status_code == 404, address


def test_the_books_bear_any_input(accrued: Programme) -> None:
    client = accrued.staff_client("auditor")
    for query in (
        "kind=nonsense", "period=x", "before=x", "entry=x", "as_of=x", "before=" + "9" * 30, "account=x",
        "as_of=" + "9" * 18, "after=x", "after=" + "0" * 32, "after=' OR 1=1",
    ):  # fmt: skip
        for address in ("/console/journal/", "/console/trial-balance/", "/console/journal/1/"):
            assert client.get(f"{address}?{query}").status_code == 200, query


def test_an_entry_shows_its_lines_its_documents_and_its_place_in_the_chain(accrued: Programme) -> None:
    accrued.close()
    client = accrued.staff_client("auditor")
    first, second = (text_of(client.get(f"/console/journal/{n}/").content) for n in (1, 2))
    entry = Entry.objects.get(pk=1)
    assert bytes(entry.hash).hex() in first
    assert bytes(entry.hash).hex() in second
    assert "First entry" in first
    assert "Continues the entry before" in second
    assert "30 in this entry" in first
    for contributor in accrued.contributors:
        assert contributor.display_name in first


def test_an_entry_is_found_by_its_number(accrued: Programme) -> None:
    response = accrued.staff_client("auditor").get("/console/journal/?entry=1")
    assert response["Location"] == "/console/journal/1/"


# --- periods ------------------------------------------------------------------------------------------------------
def test_a_checker_closes_and_seals_a_month_that_is_over(accrued: Programme) -> None:
    client = accrued.staff_client("finance_checker")
    accrued.close(202609, seal=True)
    page = text_of(client.get("/console/periods/2026-10/").content)
    assert "Close 2026-10" in page
    response = client.post("/console/periods/2026-10/close/", follow=True)
    assert "Period 2026-10 is closed." in text_of(response.content)
    assert "Seal 2026-10" in text_of(response.content)
    response = client.post("/console/periods/2026-10/seal/", follow=True)
    period = Period.objects.get(pk=OCTOBER)
    assert period.state == "sealed"
    assert bytes(period.root or b"").hex() in text_of(response.content)
    lines = AuditEvent.objects.filter(subject="period:2026-10").order_by("sequence")
    assert [(line.action, line.after["state"]) for line in lines] == [
        ("close_period", "closed"),
        ("seal_period", "sealed"),
    ]
    # The presence comes from the request in progress.
    assert [(line.ip, line.mfa_age_seconds is not None) for line in lines] == [("127.0.0.1", True)] * 2
    assert period.closed_by == period.sealed_by == lines[0].actor
    assert text_of(response.content).count(f", by {period.closed_by}") == 2
    log = accrued.staff_client("auditor").get("/console/audit/").content.decode()
    assert '<a href="/console/periods/2026-10/">Period 2026-10</a>' in log


def test_the_reason_is_shown_when_a_month_cannot_be_closed_or_sealed(accrued: Programme) -> None:
    client = accrued.staff_client("finance_checker")
    periods.open_periods(at=now())
    early = text_of(client.post(f"/console/periods/{now():%Y-%m}/close/", follow=True).content)
    assert "is not over" in early
    unsealed = text_of(client.post("/console/periods/2026-10/seal/", follow=True).content)
    assert "only a closed one is sealed" in unsealed
    assert Period.objects.get(pk=OCTOBER).state == "open"


def test_nobody_but_a_checker_closes_or_seals(accrued: Programme) -> None:
    for role in ("finance_maker", "auditor", "compliance"):
        client = accrued.staff_client(role)
        for verb in ("close", "seal"):
            assert client.post(f"/console/periods/2026-10/{verb}/").status_code == 403
    assert Period.objects.get(pk=OCTOBER).state == "open"


@pytest.mark.parametrize("verb", ["close", "seal"])
def test_closing_needs_a_fresh_proof_of_who_it_is_and_a_post(accrued: Programme, verb: str) -> None:
    client = accrued.staff_client("finance_checker")
    address = f"/console/periods/2026-10/{verb}/"
    assert client.get(address).status_code == 405
    session = client.session
    session["account_authentication_methods"][0]["at"] = time.time() - 3600
    session.save()
    response = client.post(address)
    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/2fa/reauthenticate/")
    assert Period.objects.get(pk=OCTOBER).state == "open"


def test_what_a_month_lacks_is_counted_before_and_listed_after_its_close(accrued: Programme) -> None:
    client = accrued.staff_client("auditor")
    accrued.generate(2)
    waiting = client.get("/console/periods/2026-10/").context["waiting"]
    assert (waiting.received, waiting.total) == (2, 2)
    accrued.close()
    page = text_of(client.get("/console/periods/2026-10/").content)
    assert "2 in all" in page
    assert "not attributed yet" in page


def test_the_plans_show_their_terms(accrued: Programme) -> None:
    page = text_of(accrued.staff_client("auditor").get("/console/plans/").content)
    for words in ("USD plan 1", "Effective", "20.00 % of the gross", "finance_maker", "finance_checker"):
        assert words in page


def test_the_admin_is_for_reading(accrued: Programme) -> None:
    from django.contrib import admin

    from ledger import models

    for model in (models.Account, models.Entry, models.Period, models.RoyaltyPlan):
        site = admin.site.get_model_admin(model)
        assert not site.has_add_permission(None)  # type: ignore[arg-type]
        assert not site.has_change_permission(None)  # type: ignore[arg-type]
        assert not site.has_delete_permission(None)  # type: ignore[arg-type]
