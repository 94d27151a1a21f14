"""Paying by bank transfer: the same guards as through Stripe, one file for an attempt, two people for each step."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import pytest
from django.conf import settings
from django.core import mail
from django.db import IntegrityError, connection, transaction

from config.engine.roles import APP_ROLE, OWNER_ROLE
from contributors.models import Contributor
from ledger import journal
from ledger.journal import AccountKey
from ledger.money import from_minor
from ledger.queries import invariants
from payouts.attempts import crew
from payouts.models import BankDetails, BankFile, BankLine, Difference, Hold, Notice, Payout, PayoutAccount, PayoutRun
from payouts.operations import (
    approval,
    bank_files,
    bank_lines,
    bank_orders,
    banks,
    building,
    notice_kinds,
    notices,
    runs,
)
from payouts.operations.accounts import UnableToOpenAccount, open_payout_account, refresh_holds
from payouts.operations.holds import place_hold
from payouts.queries import balances
from payouts.queries.runs import review
from payouts.rails.bank import pain
from payouts.rails.bank.answers import Reported
from payouts.reconciliation import comparison
from payouts.reconciliation.banks import reconcile_bank_run
from people import sealing
from people.queries import audit as audit_queries
from tests.worlds.browser import LogIn, log_in
from tests.worlds.world import ADDRESS, SEEN, World, states

__all__ = ["log_in"]

IBAN_OF_A_PAYEE = "GB33BUKB20201555555555"
NEW_IBAN = "NL91ABNA0417164300"
NAMESPACE = {"p": pain.NAMESPACE}


@pytest.fixture(autouse=True)
def programme_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = {"USD": "DE89370400440532013000", "JPY": "DE89370400440532013000", "KWD": "DE89370400440532013000"}
    monkeypatch.setattr(settings, "PROGRAMME_ACCOUNTS", accounts)


def payee(world: World, minor: int, *, iban: str = IBAN_OF_A_PAYEE, country: str = "BR") -> Contributor:
    """Make a payee that Stripe does not pay, with an account that a bank file can name."""
    contributor = world.contributor(minor, outcome=None, country=country)
    banks.record_bank_details(
        contributor=contributor,
        holder_name=contributor.legal_name,
        iban=iban,
        address=ADDRESS,
        by=world.owner,
        at=world.at,
    )
    return contributor


def executing(world: World) -> PayoutRun:
    run = building.build_run(
        currency=world.currency, rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )
    run = world.approve(runs.submit_run(run=run, by=world.maker, at=world.at, seen=SEEN))
    return approval.start_execution(run=run, by=world.checker, at=world.at, seen=SEEN)


def export(world: World, run: PayoutRun) -> BankFile:
    return bank_files.export_bank_file(run=run, by=world.maker, at=world.at, seen=SEEN)


def sent(world: World) -> tuple[PayoutRun, BankFile]:
    run = executing(world)
    file = export(world, run)
    return run, bank_files.mark_bank_file_sent(file=file, by=world.maker, at=world.at, seen=SEEN)


def line(payout: Payout, kind: str = "executed", reference: str = "", **changes: Any) -> Reported:
    values: dict[str, Any] = {
        "kind": kind,
        "end_to_end_id": payout.public_id.hex,
        "reference": reference or f"{kind}-{payout.pk}",
        "amount_minor": payout.amount_minor,
        "currency": payout.currency,
        "booked_on": payout.created_at.date(),
    }
    return Reported(**values | changes)


def record(world: World, *lines: Reported, by: Any = None) -> list[str]:
    results = bank_lines.record_bank_lines(lines=lines, by=by or world.checker, at=world.at, seen=SEEN)
    return [str(result.outcome) for result in results]


def bank(world: World) -> int:
    return journal.balance(AccountKey("bank", world.currency))


def orders(content: bytes) -> list[ElementTree.Element]:
    return ElementTree.fromstring(content).findall(".//p:CdtTrfTxInf", NAMESPACE)


def text(element: ElementTree.Element, path: str) -> str:
    return element.findtext("/".join(f"p:{step}" for step in path.split("/")), "", NAMESPACE)


# --- details ------------------------------------------------------------------------------------------------------
def test_bank_details_are_sealed_and_the_payout_names_them_by_a_fingerprint(world: World) -> None:
    contributor = payee(world, 7000)
    details = BankDetails.objects.get(account__contributor=contributor)
    assert IBAN_OF_A_PAYEE.encode() not in bytes(details.sealed)
    assert (details.country, details.last4) == ("GB", "5555")
    payout = executing(world).payouts.get()
    assert payout.destination == details.fingerprint
    assert IBAN_OF_A_PAYEE not in payout.destination


@pytest.mark.parametrize("iban", ["GB33BUKB20201555555556", "GB33BUKB2020155555555", "", "US64SVBKUS6S3300958879"])
def test_a_wrong_iban_is_refused_in_words(world: World, iban: str) -> None:
    contributor = world.contributor(outcome=None, country="BR")
    with pytest.raises(banks.UnableToRecordBankDetails, match="no valid IBAN"):
        banks.record_bank_details(contributor=contributor, holder_name="A", iban=iban, by=world.owner, at=world.at)


def test_each_bank_account_is_told_by_a_mail_that_nobody_switches_off(world: World) -> None:
    contributor = payee(world, 7000)
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=world.owner, at=world.at)
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=world.owner, at=world.at)
    first, second = Notice.objects.filter(contributor=contributor, kind="bank_details_named").order_by("pk")
    assert "GB … 5555" in first.words
    assert NEW_IBAN[-4:] in second.words
    assert "bank_details_named" not in notice_kinds.OPTIONAL
    with pytest.raises(notices.UnableToChooseNotices):
        notices.choose_notices(contributor=contributor, muted=["bank_details_named"], by=world.owner)
    assert notices.send_due_notices(at=world.at) >= 2
    told = [message for message in mail.outbox if "bank details" in message.subject]
    assert [message.to for message in told] == [[world.owner.email]] * 2


def test_the_approver_sees_the_holder_of_each_bank_account(world: World) -> None:
    other, same = payee(world, 7000), payee(world, 8000)
    names = {other.legal_name, same.legal_name}
    Contributor.objects.filter(pk=other.pk).update(legal_name="Somebody Else")
    Contributor.objects.filter(pk=same.pk).update(legal_name=f"{same.legal_name.upper()} ")
    run = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )
    found = review(run)
    assert [payout.contributor for payout in found.other_holder] == [other]
    assert {getattr(payout, "bank_holder", "") for payout in found.top} == names


def test_the_approver_sees_names_that_may_be_taken_for_another(world: World, log_in: LogIn) -> None:
    honest, alike, mixed = payee(world, 7000), payee(world, 8000), payee(world, 9000)
    for contributor, name in ((honest, "Ada Lovelace"), (alike, "ADА LОVELACE"), (mixed, "Pаypal Ltd")):
        Contributor.objects.filter(pk=contributor.pk).update(legal_name=name)
    run = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )
    found = {alike.payout.contributor_id: alike.reason for alike in review(run).look_alikes}
    assert set(found) == {honest.pk, alike.pk, mixed.pk}
    assert found[honest.pk] == "it appears like “ADА LОVELACE”, another payee's name"
    assert "mixes letters of Cyrillic and Latin" in found[alike.pk]
    assert "it appears like “Ada Lovelace”" in found[alike.pk]
    page = log_in(world.checker).get(f"/console/runs/{run.public_id}/").content.decode()
    assert "Names that may be taken for another (3)" in page


def test_first_bank_details_wait_three_days_without_a_policy(world: World) -> None:
    contributor = world.contributor(outcome=None, country="BR")
    Contributor.objects.filter(pk=contributor.pk).update(currency="EUR")
    contributor.refresh_from_db()
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=world.owner, at=world.at)
    hold = Hold.objects.get(contributor=contributor, reason="first_payout_probation", released_at__isnull=True)
    assert hold.ends_at == world.at + timedelta(days=3)


def test_a_changed_bank_account_waits_for_the_cool_down(world: World) -> None:
    contributor = payee(world, 7000)
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=world.owner, at=world.at)
    hold = Hold.objects.get(contributor=contributor, released_at__isnull=True)
    assert (hold.reason, hold.ends_at) == ("bank_details_changed_recently", world.at + timedelta(days=3))
    left = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at
    ).left_out.get()
    assert left.hold_reason == "bank_details_changed_recently"


def test_an_account_named_in_the_last_hour_of_a_cool_down_waits_its_own(world: World) -> None:
    contributor = payee(world, 7000)
    began = world.at
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=world.owner, at=began)
    banks.record_bank_details(
        contributor=contributor, holder_name="B", iban=NEW_IBAN, by=world.owner, at=began + timedelta(days=3, hours=-1)
    )
    hold = Hold.objects.get(contributor=contributor, released_at__isnull=True)
    assert hold.ends_at == began + timedelta(days=6, hours=-1)
    after_the_first = began + timedelta(days=3, minutes=1)
    run = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=after_the_first, by=world.maker, at=after_the_first
    )
    assert run.left_out.get().hold_reason == "bank_details_changed_recently"
    assert not run.payouts.exists()


def test_the_slowest_cool_down_of_the_currencies_with_money_counts(world: World) -> None:
    contributor = payee(world, 7000)
    for world.currency, days in (("JPY", 10), ("KWD", 20)):
        world.policy(bank_change_days=days, probation_days=days - 1)
    world.credit(contributor, 7000, currency="JPY")
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=world.owner, at=world.at)
    holds = Hold.objects.filter(contributor=contributor, released_at__isnull=True).values_list("reason", "ends_at")
    assert dict(holds) == {
        "bank_details_changed_recently": world.at + timedelta(days=10),
        "first_payout_probation": world.at + timedelta(days=9),
    }


def test_who_comes_back_from_stripe_s_rail_names_a_bank_account_with_a_cool_down(world: World) -> None:
    contributor = world.contributor(country="US")
    refresh_holds(account=PayoutAccount.objects.get(contributor=contributor), at=world.at)
    banks.choose_rail(
        contributor=contributor, rail="manual_bank_file", by=world.checker, reason="asked", at=world.at, seen=SEEN
    )
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=world.owner, at=world.at)
    hold = Hold.objects.get(contributor=contributor, released_at__isnull=True)
    assert (hold.reason, hold.ends_at) == ("bank_details_changed_recently", world.at + timedelta(days=3))


def test_details_that_were_tampered_with_are_not_paid_to(world: World) -> None:
    payee(world, 7000)
    other = payee(world, 7000, iban=NEW_IBAN)
    run = executing(world)
    mine, theirs = BankDetails.objects.order_by("pk")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
        cursor.execute("ALTER TABLE payouts_bankdetails DISABLE TRIGGER USER")
        cursor.execute("UPDATE payouts_bankdetails SET sealed = %s WHERE id = %s", [bytes(theirs.sealed), mine.pk])
        cursor.execute("ALTER TABLE payouts_bankdetails ENABLE TRIGGER USER")
        cursor.execute(f"SET LOCAL ROLE {APP_ROLE}")
    with pytest.raises(sealing.UnableToUnseal):
        export(world, run)
    assert other.payouts.get().state == Payout.State.APPROVED
    assert not BankFile.objects.exists()


def test_a_replaced_key_still_opens_what_the_old_one_sealed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "BANK_DETAILS_KEYS", ["old key"])
    payee(world, 7000)
    monkeypatch.setattr(settings, "BANK_DETAILS_KEYS", ["new key", "old key"])
    file = export(world, executing(world))
    content = bank_files.read_bank_file(file=file, by=world.maker, at=world.at, seen=SEEN)
    assert text(orders(content)[0], "CdtrAcct/Id/IBAN") == IBAN_OF_A_PAYEE
    monkeypatch.setattr(settings, "BANK_DETAILS_KEYS", ["another key"])
    with pytest.raises(sealing.UnableToUnseal):
        bank_files.read_bank_file(file=file, by=world.maker, at=world.at, seen=SEEN)


# --- the file -----------------------------------------------------------------------------------------------------
def test_the_file_follows_the_schema_and_names_each_payout(world: World) -> None:
    for minor in (7000, 8050):
        payee(world, minor)
    run = executing(world)
    file = export(world, run)
    content = bank_files.read_bank_file(file=file, by=world.maker, at=world.at, seen=SEEN)
    assert pain.checked(content) == content
    found = orders(content)
    payouts = list(run.payouts.order_by("pk"))
    assert [text(one, "PmtId/EndToEndId") for one in found] == [payout.public_id.hex for payout in payouts]
    assert [Decimal(text(one, "Amt/InstdAmt")) for one in found] == [Decimal("70.00"), Decimal("80.50")]
    root = ElementTree.fromstring(content)
    assert root.findtext(".//p:GrpHdr/p:CtrlSum", "", NAMESPACE) == "150.50"
    assert root.findtext(".//p:GrpHdr/p:NbOfTxs", "", NAMESPACE) == "2"


@pytest.mark.parametrize(("currency", "minor", "written"), [("JPY", 7001, "7001"), ("KWD", 65430, "65.430")])
def test_a_currency_is_written_with_its_own_decimals(world: World, currency: str, minor: int, written: str) -> None:
    world.currency = currency
    world.policy()
    contributor = payee(world, minor)
    assert contributor.payouts.count() == 0
    content = bank_files.read_bank_file(file=export(world, executing(world)), by=world.maker, at=world.at, seen=SEEN)
    amount = orders(content)[0].find("p:Amt/p:InstdAmt", NAMESPACE)
    assert amount is not None
    assert (amount.text, amount.get("Ccy")) == (written, currency)


def test_names_are_written_in_letters_that_banks_take() -> None:
    assert pain.latin("Łukasz Żółć & Søn <b>") == "Lukasz Zolc Son b"
    assert pain.latin("李") == "Li"
    assert pain.latin("\x00") == ""


def test_a_file_that_breaks_the_schema_is_refused() -> None:
    good = pain.Party("A", "DE89370400440532013000")
    bad = pain.Order("1", "x" * 36, good, Decimal("1.00"), "too long an id")
    content = pain.pain_001(
        message_id="m",
        made_at=world_moment(),
        execution_on=world_moment().date(),
        currency="EUR",
        debtor=good,
        orders=[bad],
    )
    with pytest.raises(pain.UnableToOrder, match=r"pain\.001\.001\.09"):
        pain.checked(content)


def world_moment() -> Any:
    from datetime import UTC, datetime

    return datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_reading_a_file_again_gives_the_same_bytes_and_is_written_down(world: World) -> None:
    payee(world, 7000)
    file = export(world, executing(world))
    first = bank_files.read_bank_file(file=file, by=world.maker, at=world.at, seen=SEEN)
    again = bank_files.read_bank_file(file=file, by=world.checker, at=world.at + timedelta(days=9), seen=SEEN)
    assert first == again
    assert hashlib.sha256(first).digest() == bytes(file.sha256)
    assert audit_queries.audit_events(f"run:{file.run.public_id}").filter(action="read_bank_file").count() == 2


def test_an_attempt_is_exported_once(world: World) -> None:
    payee(world, 7000)
    run = executing(world)
    file = export(world, run)
    with pytest.raises(bank_orders.UnableToExport, match="No payout of the run is left"):
        export(world, run)
    attempt = run.payouts.get().attempts.get()
    assert attempt.bank_file == file
    for change in ("bank_file_id = NULL", "bank_file_id = bank_file_id + 1"):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE payouts_payoutattempt SET {change}")


def test_an_export_reserves_the_money_in_transit_on_its_own_rail(world: World) -> None:
    contributor = payee(world, 7000)
    export(world, executing(world))
    assert world.payable(contributor) == 0
    assert balances.ledger_in_transit("USD", "manual_bank_file") == from_minor(7000, "USD")
    assert balances.ledger_in_transit("USD") == 0
    assert balances.live_in_transit("USD", "manual_bank_file") == from_minor(7000, "USD")


def test_a_payout_held_since_its_approval_is_not_ordered(world: World) -> None:
    held, paid = payee(world, 7000), payee(world, 8000)
    run = executing(world)
    place_hold(contributor=held, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)
    file = export(world, run)
    assert file.n_payments == 1
    assert states(run) == ["held", "sending"]
    assert paid.payouts.get().attempts.get().bank_file == file


def test_who_has_less_than_when_the_run_was_built_is_not_ordered(world: World) -> None:
    short, paid, shorter = payee(world, 7000), payee(world, 8000), payee(world, 9000)
    run = executing(world)
    world.credit(short, -1000)
    world.credit(shorter, -5000)
    file = export(world, run)
    assert file.total_minor == 8000
    assert states(run) == ["held", "sending", "held"]
    assert paid.payouts.get().state == "sending"


def test_an_export_asks_the_database_as_often_for_many_as_for_one(
    world: World, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        payee(world, 7000 + number)
    run = executing(world)
    with django_assert_max_num_queries(29):
        assert export(world, run).n_payments == 30


@pytest.mark.parametrize("why", ["held", "short"])
def test_a_bank_run_of_which_nobody_can_be_ordered_comes_to_its_end(world: World, why: str) -> None:
    contributor = payee(world, 7000)
    run = executing(world)
    if why == "held":
        place_hold(contributor=contributor, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)
    else:
        world.credit(contributor, -1000)
    with pytest.raises(bank_orders.UnableToExport, match="No payout of the run is left"):
        export(world, run)
    assert (states(run), run.bank_files.count()) == (["held"], 0)
    assert reconcile_bank_run(run=run, at=world.at).is_clean
    run.refresh_from_db()
    assert run.state == PayoutRun.State.RECONCILED


def test_the_kill_switch_stops_the_export_and_the_sending(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    payee(world, 7000)
    run = executing(world)
    file = export(world, run)
    monkeypatch.setattr(settings, "PAYOUTS_FROZEN", True)
    with pytest.raises(bank_orders.UnableToExport, match="PAYOUTS_FROZEN"):
        export(world, run)
    with pytest.raises(bank_files.UnableToChangeBankFile, match="PAYOUTS_FROZEN"):
        bank_files.mark_bank_file_sent(file=file, by=world.maker, at=world.at, seen=SEEN)


def test_a_file_that_never_reached_the_bank_is_withdrawn_by_another_and_its_payouts_are_ordered_again(
    world: World,
) -> None:
    contributor = payee(world, 7000)
    run = executing(world)
    file = export(world, run)
    with pytest.raises(bank_files.UnableToChangeBankFile, match="somebody else"):
        bank_files.withdraw_bank_file(file=file, by=world.maker, reason="upload failed", at=world.at, seen=SEEN)
    bank_files.withdraw_bank_file(file=file, by=world.checker, reason="upload failed", at=world.at, seen=SEEN)
    assert world.payable(contributor) == from_minor(7000, "USD")
    with pytest.raises(bank_files.UnableToChangeBankFile, match="must not reach the bank"):
        bank_files.read_bank_file(file=file, by=world.maker, at=world.at, seen=SEEN)
    again = export(world, run)
    assert again.message_id != file.message_id
    assert [attempt.state for attempt in run.payouts.get().attempts.order_by("number")] == ["void", "sent"]


def test_a_file_at_the_bank_is_not_withdrawn(world: World) -> None:
    payee(world, 7000)
    _run, file = sent(world)
    with pytest.raises(bank_files.UnableToChangeBankFile, match="sent already"):
        bank_files.withdraw_bank_file(file=file, by=world.checker, reason="changed my mind", at=world.at, seen=SEEN)
    with pytest.raises(IntegrityError), transaction.atomic():
        BankFile.objects.filter(pk=file.pk).update(state="made")


# --- what the bank says -------------------------------------------------------------------------------------------
def test_a_confirmed_transfer_is_booked_from_the_bank_and_the_run_is_reconciled(world: World) -> None:
    contributor = payee(world, 7000)
    before = bank(world)
    run, _file = sent(world)
    assert record(world, line(run.payouts.get())) == ["recorded"]
    payout = run.payouts.get()
    assert (payout.state, world.payable(contributor)) == ("settled", 0)
    assert bank(world) - before == from_minor(7000, "USD")
    assert balances.ledger_in_transit("USD", "manual_bank_file") == 0
    assert Notice.objects.get(kind="payout_transferred").words.startswith("USD 70.00 left our bank for yours")
    assert reconcile_bank_run(run=run, at=world.at).is_clean
    run.refresh_from_db()
    assert run.state == PayoutRun.State.RECONCILED
    assert not [result.name for result in invariants.check_all() if result.rows]


def test_the_same_lines_twice_change_nothing(world: World) -> None:
    payee(world, 7000)
    run, _file = sent(world)
    reported = line(run.payouts.get())
    assert record(world, reported, reported) == ["recorded", "known"]
    assert record(world, reported) == ["known"]
    assert BankLine.objects.count() == 1


def test_who_sent_a_file_does_not_confirm_it(world: World) -> None:
    payee(world, 7000)
    run, file = sent(world)
    payout = run.payouts.get()
    [result] = bank_lines.record_bank_lines(lines=[line(payout)], by=world.maker, at=world.at, seen=SEEN)
    assert (result.outcome, "somebody else confirms" in result.words) == ("refused", True)
    assert file.sent_by is not None
    with pytest.raises(IntegrityError, match="confirmed by another"), transaction.atomic():
        BankLine.objects.create(
            kind="executed",
            reference="x",
            attempt=payout.attempts.get(),
            amount_minor=7000,
            currency="USD",
            booked_on=world.at.date(),
            recorded_by=file.sent_by,
            recorded_at=world.at,
        )


def test_nothing_is_confirmed_before_the_file_is_sent(world: World) -> None:
    payee(world, 7000)
    run = executing(world)
    export(world, run)
    [result] = bank_lines.record_bank_lines(lines=[line(run.payouts.get())], by=world.checker, at=world.at, seen=SEEN)
    assert (result.outcome, result.words) == ("refused", "The file of this transfer is not marked as sent.")
    assert states(run) == ["sending"]


def test_a_rejected_transfer_is_payable_again_and_waits_for_another_account(world: World) -> None:
    contributor = payee(world, 7000)
    before = bank(world)
    run, _file = sent(world)
    assert record(world, line(run.payouts.get(), "rejected", reason="AC04 account closed")) == ["recorded"]
    assert states(run) == ["held"]
    assert (world.payable(contributor), bank(world)) == (from_minor(7000, "USD"), before)
    assert Hold.objects.get(contributor=contributor, released_at__isnull=True).reason == "refused_by_bank"
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=world.owner, at=world.at)
    held = set(Hold.objects.filter(contributor=contributor, released_at__isnull=True).values_list("reason", flat=True))
    assert held == {"bank_details_changed_recently"}


@pytest.mark.parametrize("withholding_ppb", [0, 300_000_000])
def test_a_returned_transfer_comes_back_with_its_tax(world: World, withholding_ppb: int) -> None:
    contributor = payee(world, 10_000)
    world.tax_form(contributor, withholding_ppb)
    before = bank(world)
    run, _file = sent(world)
    record(world, line(run.payouts.get()))
    payout = run.payouts.get()
    back = line(payout, "returned", reason="AC01 wrong number")
    assert record(world, back) == ["recorded"]
    assert record(world, back) == ["known"]
    payout.refresh_from_db()
    assert (payout.state, payout.reversed_minor) == ("reversed", payout.amount_minor)
    assert (world.payable(contributor), bank(world)) == (from_minor(10_000, "USD"), before)
    assert Hold.objects.filter(contributor=contributor, reason="refused_by_bank", released_at__isnull=True).exists()
    assert not [result.name for result in invariants.check_all() if result.rows]


def test_a_bank_that_gives_its_reason_at_length_is_read_to_the_end(world: World) -> None:
    payee(world, 7000)
    run, _ = sent(world)
    payout = run.payouts.get()
    assert record(world, line(payout)) == ["recorded"]
    assert record(world, line(payout, "returned", reason="closed " * 500)) == ["recorded"]
    assert Notice.objects.filter(kind="payout_bank_failed", words__contains="closed closed").exists()


@pytest.mark.parametrize(("changes", "type_"), [({"amount_minor": 6999}, "amount"), ({"currency": "EUR"}, "currency")])
def test_a_line_that_does_not_fit_becomes_a_difference(world: World, changes: Any, type_: str) -> None:
    payee(world, 7000)
    run, _file = sent(world)
    reported = line(run.payouts.get(), **changes)
    assert record(world, reported) == ["differs"]
    assert record(world, reported) == ["differs"]
    assert Difference.objects.get().type == type_
    assert states(run) == ["sending"]


def test_a_withdrawn_file_that_was_paid_after_all_stops_the_run(world: World) -> None:
    payee(world, 7000)
    run = executing(world)
    file = export(world, run)
    bank_files.withdraw_bank_file(file=file, by=world.checker, reason="upload failed", at=world.at, seen=SEEN)
    assert record(world, line(run.payouts.get())) == ["differs"]
    run.refresh_from_db()
    assert run.is_frozen
    assert Difference.objects.get().type == Difference.Type.DUPLICATE_GROUP
    with pytest.raises(bank_orders.UnableToExport):
        export(world, run)


def test_a_run_whose_transfers_the_bank_has_not_reported_on_is_not_reconciled(world: World) -> None:
    payee(world, 7000)
    run, _file = sent(world)
    with pytest.raises(comparison.UnableToReconcile):
        reconcile_bank_run(run=run, at=world.at)


# --- rails side by side -------------------------------------------------------------------------------------------
def test_each_run_pays_its_own_rail_and_says_so_of_the_other(world: World) -> None:
    by_bank, by_stripe = payee(world, 7000), world.contributor(7000)
    bank_run = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at
    )
    stripe_run = world.built()
    assert bank_run.payouts.get().contributor == by_bank
    assert stripe_run.payouts.get().contributor == by_stripe
    assert {row.reason for run in (bank_run, stripe_run) for row in run.left_out.all()} == {"other_rail"}
    assert str(bank_run) != str(stripe_run)


def test_one_run_of_a_currency_and_rail_is_open_at_a_time(world: World) -> None:
    payee(world, 7000)
    executing(world)
    with pytest.raises(building.UnableToBuildRun, match="open already"):
        executing(world)


def changes_rail(world: World, contributor: Contributor, rail: str) -> None:
    banks.choose_rail(contributor=contributor, rail=rail, by=world.checker, reason="asked", at=world.at, seen=SEEN)


def built_by_bank(world: World, days: int = 0) -> PayoutRun:
    at = world.at + timedelta(days=days)
    return building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=at, seen=SEEN
    )


def test_a_run_does_not_take_up_whom_an_open_run_of_the_other_rail_would_pay(world: World) -> None:
    contributor = world.contributor(7000, country="GB")
    stripe_run = world.in_review()
    changes_rail(world, contributor, "manual_bank_file")
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=world.owner, at=world.at)
    bank_run = built_by_bank(world, days=4)
    assert (bank_run.payouts.count(), bank_run.left_out.get().reason) == (0, "live_elsewhere")
    runs.cancel_run(run=bank_run, by=world.maker, at=world.at, seen=SEEN)
    runs.cancel_run(run=stripe_run, by=world.maker, at=world.at, seen=SEEN)
    assert built_by_bank(world, days=4).payouts.get().contributor == contributor


def test_an_approver_compares_with_the_last_run_of_the_same_rail(world: World) -> None:
    payee(world, 7000)
    bank_run, _file = sent(world)
    record(world, line(bank_run.payouts.get()))
    reconcile_bank_run(run=bank_run, at=world.at)
    world.contributor(5000)
    assert review(world.in_review()).previous is None
    payee(world, 9000)
    assert review(built_by_bank(world)).previous == bank_run


@pytest.fixture
def refused_and_moved(paying: World) -> tuple[PayoutRun, PayoutRun]:
    """Make a paused run with a payee that Stripe refused, and a later run by bank transfer for that payee."""
    contributor = paying.contributor(7000, country="GB")
    paying.contributor(8000)
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("400")
    paused = paying.pay(paying.executing())
    assert (paused.state, states(paused)) == (PayoutRun.State.PAUSED, ["refused", "approved"])
    changes_rail(paying, contributor, "manual_bank_file")
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=paying.owner, at=paying.at)
    by_bank = runs.submit_run(
        run=built_by_bank(paying, days=4), by=paying.maker, at=paying.at + timedelta(days=4), seen=SEEN
    )
    return paused, by_bank


def test_who_is_under_way_in_another_run_is_named_to_the_approver(
    paying: World, refused_and_moved: tuple[PayoutRun, PayoutRun]
) -> None:
    paused, by_bank = refused_and_moved
    approval.resume_run(run=paused, by=paying.checker, at=paying.at, seen=SEEN)
    with pytest.raises(approval.UnableToApprove, match=f"Another run pays them already: {paying.contributors[0]}"):
        paying.approve(by_bank)


def test_a_resumed_run_leaves_to_another_run_whom_that_pays_by_now(
    paying: World, refused_and_moved: tuple[PayoutRun, PayoutRun]
) -> None:
    paused, by_bank = refused_and_moved
    paying.approve(by_bank)
    approval.resume_run(run=paused, by=paying.checker, at=paying.at, seen=SEEN)
    assert states(paying.pay(paused)) == ["held", "transferred"]
    assert paused.payouts.get(state="held").reason == "live_elsewhere"
    assert states(by_bank) == ["approved"]


def test_a_worker_of_stripes_rail_never_takes_a_bank_transfer(world: World) -> None:
    payee(world, 7000)
    run = executing(world)
    assert crew.execute_run(run_id=run.pk, threads=1).handled == 0
    assert states(run) == ["approved"]


def test_a_rail_is_changed_by_a_checker_with_a_reason(world: World) -> None:
    contributor = world.contributor(7000, country="GB")
    banks.choose_rail(
        contributor=contributor,
        rail="manual_bank_file",
        by=world.checker,
        reason="asked for it",
        at=world.at,
        seen=SEEN,
    )
    assert Hold.objects.get(contributor=contributor, released_at__isnull=True).reason == "bank_account_missing"
    with pytest.raises(UnableToOpenAccount, match="bank transfer"):
        open_payout_account(contributor=contributor, by=world.owner, at=world.at)


def test_who_is_held_after_the_file_was_made_stops_its_hand_over(world: World) -> None:
    """Nobody gets the file to upload any more; that it was handed over before the hold can still be said."""
    contributor = payee(world, 7000)
    payee(world, 8000)
    run = executing(world)
    file = export(world, run)
    place_hold(contributor=contributor, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)
    with pytest.raises(bank_files.UnableToChangeBankFile, match=f"Held since the file was made: {contributor}"):
        bank_files.read_bank_file(file=file, by=world.maker, at=world.at, seen=SEEN)
    withdrawn = bank_files.withdraw_bank_file(
        file=file, by=world.checker, reason="never uploaded", at=world.at, seen=SEEN
    )
    assert withdrawn.state == BankFile.State.WITHDRAWN
    second = bank_files.export_bank_file(run=run, by=world.maker, at=world.at, seen=SEEN)
    assert (second.n_payments, second.total_minor) == (1, 8000)
    held = run.payouts.get(contributor=contributor)
    assert (held.state, held.reason) == ("held", "fraud_review")
    assert world.payable(contributor) == from_minor(7000, "USD")
    bank_files.read_bank_file(file=second, by=world.maker, at=world.at, seen=SEEN)


def test_that_a_file_was_handed_over_before_a_hold_can_still_be_said(world: World) -> None:
    contributor = payee(world, 7000)
    file = export(world, executing(world))
    place_hold(contributor=contributor, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)
    marked = bank_files.mark_bank_file_sent(file=file, by=world.maker, at=world.at, seen=SEEN)
    assert marked.state == BankFile.State.SENT
    assert bank_files.read_bank_file(file=marked, by=world.maker, at=world.at, seen=SEEN)
