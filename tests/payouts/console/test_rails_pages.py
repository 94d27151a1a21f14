"""The pages of bank transfers, holds, funding, reversals, the inbox and policies: from the first click to the books."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import date
from typing import Any

import openpyxl
import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from contributors.models import Contributor
from payouts.exports import remittance, tables
from payouts.models import (
    BankFile,
    Hold,
    MutedNotice,
    Notice,
    Payout,
    PayoutAccount,
    PayoutPolicy,
    PayoutRun,
    PolicyProposal,
    TopUp,
    WebhookEvent,
)
from payouts.operations import approval, bank_reports, banks, building, holds, reversals, runs
from people.models import AuditEvent
from tests.people.presentation.papers import text_of as paper_text_of
from tests.worlds.browser import LogIn, member_of, words_of
from tests.worlds.pages import sure
from tests.worlds.world import ADDRESS, SEEN, World, only

IBAN = "GB33BUKB20201555555555"
TYPED = {"town": "Recife", "street": "Rua da Aurora", "address_country": "BR"}


@pytest.fixture(autouse=True)
def programme_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PROGRAMME_ACCOUNTS", {"USD": "DE89370400440532013000"})


def payee(world: World, minor: int = 7000) -> Contributor:
    contributor = world.contributor(minor, outcome=None, country="BR")
    banks.record_bank_details(
        contributor=contributor,
        holder_name=contributor.legal_name,
        iban=IBAN,
        address=ADDRESS,
        by=world.owner,
        at=world.at,
    )
    return contributor


def executing(world: World) -> PayoutRun:
    run = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )
    run = world.approve(runs.submit_run(run=run, by=world.maker, at=world.at, seen=SEEN))
    return approval.start_execution(run=run, by=world.checker, at=world.at, seen=SEEN)


def upload(client: Client, run: PayoutRun, rows: list[dict[str, str]]) -> Any:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    file = SimpleUploadedFile("report.csv", out.getvalue().encode("utf-8-sig"), content_type="text/csv")
    return client.post(reverse("payouts:record_lines", args=[run.public_id]), {"file": file})


# --- bank transfers -----------------------------------------------------------------------------------------------
def test_a_bank_transfer_goes_from_the_draft_to_the_remittance_through_the_pages(world: World, log_in: LogIn) -> None:
    contributor = payee(world)
    maker, checker = log_in(world.maker), log_in(world.checker)
    today = world.at.date().isoformat()
    maker.post(reverse("payouts:build"), {"currency": "USD", "cut_off": today, "rail": "manual_bank_file"})
    run = PayoutRun.objects.get()
    maker.post(reverse("payouts:submit", args=[run.public_id]))
    run.refresh_from_db()
    total = {"typed_total": "70.00", "content_hash": run.hash_hex}
    checker.post(reverse("payouts:approve", args=[run.public_id]), total)
    page = words_of(checker.get(reverse("payouts:execute", args=[run.public_id])))
    assert "Nothing is sent by this step" in page
    checker.post(reverse("payouts:execute", args=[run.public_id]))
    files = reverse("payouts:bank_files", args=[run.public_id])
    assert "Write a file of 1 order" in words_of(maker.get(files))
    response = maker.post(reverse("payouts:export_file", args=[run.public_id]), {"execution_on": today})
    assert response["Location"] == files
    file = BankFile.objects.get()
    first = maker.post(reverse("payouts:download_file", args=[file.public_id]))
    assert first["Content-Type"] == "application/xml"
    assert first.content == checker.post(reverse("payouts:download_file", args=[file.public_id])).content
    maker.post(reverse("payouts:mark_sent", args=[file.public_id]), {"sure": "on"})
    table = checker.get(reverse("payouts:lines_template", args=[run.public_id])).content.decode("utf-8-sig")
    [row] = csv.DictReader(io.StringIO(table, newline=""))
    row.update(outcome="executed", booked_on=today, reference="BANK-1")
    del row["payee"]
    refused = upload(maker, run, [row])
    assert "You sent this file to the bank, so somebody else confirms" in words_of(refused)
    assert upload(checker, run, [row])["Location"] == files
    assert upload(checker, run, [row])["Location"] == files
    checker.post(reverse("payouts:reconcile", args=[run.public_id]))
    run.refresh_from_db()
    assert run.state == PayoutRun.State.RECONCILED
    client = log_in(member_of(contributor))
    page = words_of(client.get(reverse("payouts:payouts")))
    assert "GB … 5555" in page
    assert IBAN not in page
    pdf = client.get(reverse("payouts:remittance", args=[only(run).public_id])).content
    text = paper_text_of(pdf)
    assert "bank account GB … 5555" in text
    assert "USD 70.00" in text
    assert IBAN not in text


def test_a_report_that_is_no_table_is_refused_with_the_line_and_what_is_wrong(world: World, log_in: LogIn) -> None:
    payee(world)
    run = executing(world)
    good = {
        "end_to_end_id": only(run).public_id.hex,
        "amount": "70.00",
        "currency": "USD",
        "outcome": "executed",
        "booked_on": "2026-11-20",
        "reference": "B1",
        "reason": "",
    }
    client = log_in(world.checker)
    for change, told in (
        ({"amount": "seventy"}, "Line 2: the amount “USD seventy”"),
        ({"booked_on": "20.11.26"}, "is no date"),
        ({"outcome": "done"}, "not “done”"),
        ({"currency": "XXX"}, "keeps no currency"),
    ):
        response = upload(client, run, [good | change])
        assert response.status_code == 422
        assert told in words_of(response)
    file = SimpleUploadedFile("x.csv", b"a,b\n1,2\n")
    page = words_of(client.post(reverse("payouts:record_lines", args=[run.public_id]), {"file": file}))
    assert "lacks these columns" in page


def test_a_contributor_names_a_bank_account_on_its_own_page(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(7000, outcome=None, country="BR")
    client = log_in(member_of(contributor))
    page = words_of(client.get(reverse("payouts:payouts")))
    assert "Name the bank account that you want to be paid to" in page
    assert client.get(reverse("payouts:set_up"))["Location"] == reverse("payouts:bank_details")
    address = reverse("payouts:bank_details")
    given = {"holder_name": "A", "iban": "gb33 bukb 2020 1555 5555 55", "contributor": str(contributor.public_id)}
    given |= TYPED
    assert f'name="contributor" value="{contributor.public_id}"' in client.get(address).content.decode()
    wrong = client.post(address, given | {"iban": "GB34BUKB20201555555555"})
    assert (wrong.status_code, "no valid IBAN" in words_of(wrong)) == (422, True)
    page = words_of(sure(client, address, given, follow=True))
    assert "Your bank account is stored, sealed." in page
    assert "5555" in page
    events = AuditEvent.objects.filter(action="record_bank_details")
    assert IBAN not in json.dumps([event.after for event in events])


def test_a_bank_account_is_stored_for_whom_the_page_was_opened_and_nobody_else(world: World, log_in: LogIn) -> None:
    one, other = (world.contributor(7000, outcome=None, country="BR") for _ in range(2))
    client, address = log_in(world.owner), reverse("payouts:bank_details")
    # In another window the same person has chosen the other contributor meanwhile.
    client.post(reverse("contributors:choose"), {"contributor": str(other.public_id)})
    given = {"holder_name": "A", "iban": IBAN, "contributor": str(one.public_id)} | TYPED
    page = client.post(address, given)
    assert page.status_code == 422
    assert f"opened for another contributor; you act for {other} now" in words_of(page)
    assert not PayoutAccount.objects.filter(bank_fingerprint__startswith="iban").exists()


def test_the_page_asks_for_the_address_where_it_is_wanted(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(7000, outcome=None, country="BR")
    client, page = log_in(member_of(contributor)), reverse("payouts:bank_details")
    given = {"holder_name": "A", "iban": "GB33BUKB20201555555555", "contributor": str(contributor.public_id)}
    refused = client.post(page, given)
    assert refused.status_code == 422
    assert refused.context["form"].errors.keys() == {"town", "address_country"}
    # The country of the page wants none, the country of the IBAN does.
    abroad = words_of(client.post(page, given | {"account_country": "DE"}))
    assert "Give your address with town and country" in abroad
    assert client.post(page, given | {"town": "Recife", "address_country": "BR"}).status_code == 302


def test_the_page_refuses_a_day_on_which_no_bank_works(world: World, log_in: LogIn) -> None:
    payee(world)
    run = executing(world)
    client, page = log_in(world.maker), reverse("payouts:export_file", args=[run.public_id])
    today = world.at.date()
    weekend = next(day for day in (date.fromordinal(today.toordinal() + n) for n in range(7)) if day.weekday() == 5)
    refused = client.post(page, {"execution_on": weekend.isoformat()})
    assert "Banks move no USD on this day" in words_of(refused)
    assert not BankFile.objects.exists()


# --- exports ------------------------------------------------------------------------------------------------------
def test_the_workbook_has_numbers_as_numbers_and_runs_no_formula(world: World, log_in: LogIn) -> None:
    evil = world.contributor(123_456)
    evil.legal_name = '=HYPERLINK("http://evil.example","click")'
    evil.display_name = "@SUM(A1)"
    evil.save()
    world.contributor(3)
    run = world.in_review()
    response = log_in(world._user("auditor", "auditor")).get(reverse("payouts:run_xlsx", args=[run.public_id]))
    book = openpyxl.load_workbook(io.BytesIO(response.content))
    assert book.sheetnames == ["Payouts", "Skipped", "Attempts"]
    header, row = [list(cells) for cells in book["Payouts"].iter_rows()]
    cells = dict(zip([cell.value for cell in header], row, strict=True))
    assert (cells["amount"].value, cells["amount"].number_format) == (1234.56, "#,##0.00")
    for name in ("legal_name", "display_name"):
        assert cells[name].data_type == "s"
    assert cells["legal_name"].value == evil.legal_name
    assert book["Skipped"].max_row == 2
    assert response.content == tables.run_workbook(run)


@pytest.mark.parametrize(("currency", "minor", "number_format"), [("JPY", 5000, "#,##0"), ("KWD", 5000, "#,##0.000")])
def test_a_workbook_shows_as_many_decimals_as_the_currency(
    world: World, currency: str, minor: int, number_format: str
) -> None:
    world.currency = currency
    world.policy(minimum_minor=1)
    world.contributor(minor)
    book = openpyxl.load_workbook(io.BytesIO(tables.run_workbook(world.in_review())))
    cell = book["Payouts"]["I2"]
    assert cell.number_format == number_format
    assert cell.value == (5000 if currency == "JPY" else 5)


def test_json_lines_hold_every_row_with_amounts_as_strings(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    world.contributor(3)
    run = world.in_review()
    content = log_in(world.checker).get(reverse("payouts:run_jsonl", args=[run.public_id])).content.decode()
    rows = [json.loads(line) for line in content.splitlines()]
    assert [row["table"] for row in rows] == ["payout", "left_out"]
    assert rows[0]["amount"] == "12.34"
    assert rows[1]["amount"] == "0.030000000"


def test_a_remittance_of_a_reversal_adds_up_to_the_ledger(paying: World) -> None:
    paying.contributor(1234)
    run = paying.pay(paying.executing())
    reversals.reverse_payout(
        payout=only(run), amount_minor=234, by=paying.checker, reason="overpaid", at=paying.at, seen=SEEN
    )
    text = paper_text_of(remittance.pdf(only(run)))
    assert "Paid to you USD 12.34" in text
    assert "USD −2.34" in text
    assert "transfer reversed" in text


# --- money back, money in -----------------------------------------------------------------------------------------
def test_a_part_of_a_transfer_is_taken_back_on_its_page(paying: World, log_in: LogIn) -> None:
    paying.contributor(1234)
    run = paying.pay(paying.executing())
    address = reverse("payouts:reverse", args=[run.public_id, only(run).public_id])
    assert "takes a finance checker" in words_of(log_in(paying.compliance).get(address))
    client = log_in(paying.checker)
    assert "Take money back" in words_of(
        client.get(reverse("payouts:payee", args=[run.public_id, only(run).public_id]))
    )
    for amount in ("0", "12.35", "x"):
        given = {"amount_minor": amount, "reason": "overpaid", "known_left": 1234}
        assert client.post(address, given).status_code == 422
    assert '<input type="hidden" name="known_left" value="1234"' in client.get(address).content.decode()
    given = {"amount_minor": "2.34", "reason": "overpaid", "known_left": 1234}
    assert "It was reversed and booked." in words_of(sure(client, address, given, follow=True))
    assert (only(run).state, only(run).reversed_minor) == ("partially_reversed", 234)
    # The form sent once more, as by a reload, takes nothing more.
    assert "Some of it came back since you opened the page" in words_of(sure(client, address, given))
    assert only(run).reversed_minor == 234


def test_the_balance_is_topped_up_on_its_page(paying: World, log_in: LogIn) -> None:
    client = log_in(paying.maker)
    assert "Available at Stripe" in words_of(client.get(reverse("payouts:funding")))
    address = reverse("payouts:top_up")
    number = re.search(r'name="number" value="([0-9a-f-]{36})"', client.get(address).content.decode())
    assert number is not None
    given = {"currency": "USD", "amount": "1,250.00", "number": number.group(1)}
    bad = sure(client, address, given | {"amount": "-5"})
    assert bad.status_code == 422
    before = TopUp.objects.count()
    for _ in range(2):
        # Sent twice, as by a reload: one top-up.
        page = words_of(sure(client, address, given, follow=True))
        assert "USD 1,250.00 is at Stripe now, and booked." in page
        assert TopUp.objects.count() == before + 1
    assert TopUp.objects.latest("pk").amount_minor == 125_000
    assert "open the page anew" in words_of(sure(client, address, given | {"amount": "1.00"}))


# --- holds, inbox, policies, roles --------------------------------------------------------------------------------
def test_a_hold_is_placed_and_released_on_pages(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1000)
    client = log_in(world.checker)
    address = reverse("payouts:place_hold", args=[contributor.public_id])
    assert "Sanctions listed" not in words_of(client.get(address))
    client.post(address, {"reason": "manual_admin", "note": "case 9"})
    hold = Hold.objects.get()
    page = words_of(client.get(reverse("payouts:holds")))
    assert "Manual admin" in page
    assert "case 9" in page
    release = reverse("payouts:release_hold", args=[hold.pk])
    assert client.post(release, {"reason": ""}).status_code == 422
    assert "The hold is released." in words_of(client.post(release, {"reason": "settled"}, follow=True))
    assert "Nothing is stopped" in words_of(client.get(reverse("payouts:holds")))


def test_a_dead_letter_is_tried_once_more(world: World, log_in: LogIn) -> None:
    event = WebhookEvent.objects.create(
        endpoint="connect", event_id="evt_1", type="account.updated", object_id="acct_x", account="acct_x",
        created=world.at, received_at=world.at, livemode=False, payload="{}", state="dead", error="unknown",
    )  # fmt: skip
    client = log_in(world.maker)
    client.post(reverse("payouts:replay", args=[event.pk]))
    event.refresh_from_db()
    assert event.state == WebhookEvent.State.RETRYING
    assert AuditEvent.objects.get(action="replay_webhook").actor == world.maker
    page = words_of(client.post(reverse("payouts:replay", args=[event.pk]), follow=True))
    assert "Only a dead letter is taken up again" in page


def test_a_policy_is_proposed_and_approved_on_pages(world: World, log_in: LogIn) -> None:
    world.contributor(1000)
    maker, checker = log_in(world.maker), log_in(world.checker)
    form = {
        "minimum_minor": "25.00",
        "maturity_days": "30",
        "second_approval_minor": "",
        "approval_limit_minor": "10,000.00",
        "daily_approval_minor": "",
        "bank_change_days": "3",
        "probation_days": "0",
        "reason": "fees",
    }
    sure(maker, reverse("payouts:propose_policy", args=["USD"]), form)
    decide = reverse("people:proposal", args=["policy", PolicyProposal.objects.get(state="proposed").pk])
    assert maker.post(decide, {"decision": "approve"}).status_code == 409
    assert "USD 5.00 → USD 25.00" in words_of(checker.get(decide))
    checker.post(decide, {"decision": "approve"})
    policy = PayoutPolicy.objects.latest("pk")
    assert (policy.minimum_minor, policy.maturity_days, policy.approval_limit_minor) == (2500, 30, 1_000_000)
    assert (policy.created_by, policy.approved_by) == (world.maker, world.checker)


def test_roles_are_changed_by_an_administrator_alone(world: World, log_in: LogIn) -> None:
    admin, other = world._user("admin", "admin"), world._user("other", "auditor")
    address = reverse("people:change_roles", args=[other.pk])
    assert "takes an administrator" in words_of(log_in(world.checker).get(address))
    page = log_in(admin).get(address)
    assert '<input type="hidden" name="known" value="auditor"' in page.content.decode()
    log_in(admin).post(address, {"roles": ["compliance"], "known": ["auditor"], "reason": "moved"})
    assert set(other.groups.values_list("name", flat=True)) == {"compliance"}
    # A page that is sent again, or that shows roles from before the change, gives nothing back.
    stale = log_in(admin).post(address, {"roles": ["auditor", "admin"], "known": ["auditor"], "reason": "moved"})
    assert "The roles changed since you opened the page: now compliance" in words_of(stale)
    assert set(other.groups.values_list("name", flat=True)) == {"compliance"}


def test_the_change_of_a_rail_sent_twice_is_not_a_change_back(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1000, country="GB")
    client, address = log_in(world.checker), reverse("payouts:choose_rail", args=[contributor.public_id])
    page = client.get(address).content.decode()
    assert '<input type="hidden" name="rail" value="manual_bank_file"' in page
    given = {"rail": "manual_bank_file", "reason": "asked for it"}
    assert client.post(address, given).status_code == 302
    again = client.post(address, given)
    assert again.status_code == 409
    assert "is paid by bank transfer already" in words_of(again)
    assert PayoutAccount.objects.get(contributor=contributor).rail == "manual_bank_file"


def test_a_report_with_odd_bytes_is_refused_in_words(world: World, log_in: LogIn) -> None:
    payee(world)
    run = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )
    client, address = log_in(world.checker), reverse("payouts:record_lines", args=[run.public_id])
    header = ",".join(bank_reports.COLUMNS)
    row = f"{'0' * 32},70.00,USD,returned,2026-11-20,R1,gone"
    for content, named in (
        (f"{header}\n{row}\x00\n", "NUL character"),
        (f'"{"x" * 140_000}",{header}\n{row}\n', "no CSV table"),
        (f'{header}\n{row}"{"y" * 140_000}"\n{"z" * 140_000}', "no CSV table"),
    ):
        file = SimpleUploadedFile("report.csv", content.encode(), content_type="text/csv")
        response = client.post(address, {"file": file})
        assert response.status_code == 422
        assert named in words_of(response)


# --- the portal ---------------------------------------------------------------------------------------------------
def test_a_contributor_pauses_and_resumes_on_the_page(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1000)
    client = log_in(member_of(contributor))
    page = words_of(client.post(reverse("payouts:pause_own"), follow=True))
    assert "You paused your payouts" in page
    assert "Resume my payouts" in page
    assert "Your payouts go on" in words_of(client.post(reverse("payouts:resume_own"), follow=True))


def test_notices_are_listed_and_mails_of_the_harmless_kinds_switched_off(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1000)
    holds.place_hold(contributor=contributor, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)
    client = log_in(member_of(contributor))
    page = words_of(client.get(reverse("payouts:notices")))
    assert "Payments to you are on hold" in page
    client.post(reverse("payouts:notices"), {"wanted": ["payout_transferred"]})
    muted = set(MutedNotice.objects.values_list("kind", flat=True))
    assert "carried_over" in muted
    assert not muted & {"payout_transferred", "hold_placed"}
    assert Notice.objects.filter(contributor=contributor).exists()


def test_the_threshold_shown_is_the_one_that_counts(world: World, log_in: LogIn) -> None:
    contributor = payee(world, 1000)
    page = words_of(log_in(member_of(contributor)).get(reverse("payouts:payouts")))
    assert "USD 10.00 of USD 50.00" in page
    assert Payout.objects.count() == 0
