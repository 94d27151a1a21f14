"""A contributor's details change: at once where nothing rests on them, else by two people, with history and papers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.test import Client
from django.utils import timezone

from contributors.models import Contributor, DetailsChange, FormerDetails, Membership
from contributors.queries.details import details_at, read_details
from ledger.models import Period
from ledger.statements.build import build_statement
from payouts.exports import tables
from payouts.models import Hold, Notice, PayoutAccount, Rail, TaxProfile
from payouts.operations import notices
from payouts.operations.details import UnableToChangeDetails, change_details
from payouts.queries.details import consequences
from payouts.queries.payees import tax_form_of
from people.models import AuditEvent, User
from people.operations.proposals import approve, reject
from tests.worlds import people
from tests.worlds.browser import LogIn, log_in, words_of
from tests.worlds.world import SEEN, World

__all__ = ["log_in"]
LONG_AGO = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
PAGE = "/portal/people/details/"
GIVEN = {"kind": "person", "legal_name": "Ada Ltd", "display_name": "Ada", "country": "DE", "currency": "USD"}


@pytest.fixture
def band(db: None) -> Contributor:
    return people.contributor("Ada", LONG_AGO)


@pytest.fixture
def owner(band: Contributor) -> User:
    return band.memberships.get().user


@pytest.fixture
def checker(db: None) -> User:
    return people.user("checker@example.org", LONG_AGO, ("finance_checker",))


def ask(band: Contributor, owner: User, **given: Any) -> DetailsChange:
    made = change_details(
        contributor=band, given={"legal_name": "Ada Ltd"} | given, reason="A move.", by=owner, at=timezone.now()
    )
    assert made is not None
    return made


def test_details_change_at_once_where_nothing_rests_on_them(client: Client, band: Contributor) -> None:
    people.log_in(client, "ada@example.org")
    shown = client.post(PAGE, GIVEN)
    assert "New papers carry Ada Ltd. Earlier papers keep Ada Legal." in words_of(shown)
    band.refresh_from_db()
    assert band.legal_name == "Ada Legal"
    assert client.post(PAGE, GIVEN | {"confirmed": "1"})["Location"] == "/portal/people/"
    band.refresh_from_db()
    assert (band.legal_name, band.country, band.display_name) == ("Ada Ltd", "DE", "Ada")
    line = AuditEvent.objects.get(action="change_details")
    assert (line.before, line.after) == (
        {"legal_name": "Ada Legal", "country": "GB"},
        {"legal_name": "Ada Ltd", "country": "DE"},
    )
    assert Notice.objects.get(kind="details_changed").words.startswith("Legal name: Ada Legal → Ada Ltd; Country:")
    assert client.post(PAGE, GIVEN).status_code == 422
    for wrong in ({"legal_name": ""}, {"country": "XX"}, {"kind": "robot"}, {"currency": "XXX"}):
        assert client.post(PAGE, GIVEN | wrong).status_code == 422
    hidden = client.post(PAGE, GIVEN | {"legal_name": "A\u200bda"})
    assert "U+200B" in words_of(hidden)


def test_a_change_that_payments_rest_on_takes_an_owner_and_a_checker(
    client: Client, band: Contributor, checker: User, log_in: LogIn
) -> None:
    PayoutAccount.objects.create(
        contributor=band, country="GB", provider_account_id="acct_1", bank_fingerprint="ba_1", created_at=LONG_AGO
    )
    people.log_in(client, "ada@example.org")
    assert "Say why" in words_of(client.post(PAGE, GIVEN))
    shown = words_of(client.post(PAGE, GIVEN | {"reason": "I moved."}))
    for said in ("Somebody else approves it first", "The account at Stripe ends", "No payment goes out for 3 days"):
        assert said in shown
    client.post(PAGE, GIVEN | {"reason": "I moved.", "confirmed": "1"})
    band.refresh_from_db()
    assert band.legal_name == "Ada Legal"
    row = DetailsChange.objects.get()
    assert (row.state, row.former["legal_name"]) == ("proposed", "Ada Legal")
    assert "waits for our decision" in words_of(client.get(PAGE))
    assert client.post(PAGE, GIVEN).status_code == 409
    assert Notice.objects.filter(kind="details_requested", contributor=band).count() == 1
    page = log_in(checker).get(f"/console/proposals/details/{row.pk}/")
    assert "The account at Stripe ends" in words_of(page)
    log_in(checker).post(f"/console/proposals/details/{row.pk}/", {"decision": "approve"})
    band.refresh_from_db()
    assert (band.legal_name, band.country) == ("Ada Ltd", "DE")
    account = band.payout_account
    assert account.country == "DE"
    assert account.bank_changed_at is not None
    held = set(Hold.objects.filter(contributor=band, released_at=None).values_list("reason", flat=True))
    assert {"bank_details_changed_recently", "fraud_review", "account_disconnected"} <= held
    assert AuditEvent.objects.filter(action="payout_account_ended", before={"account": "acct_1"}).exists()
    assert Notice.objects.filter(kind="details_changed", contributor=band).count() == 1
    assert "Former details" in words_of(log_in(checker).get(f"/console/payees/{band.public_id}/"))


def test_an_owner_withdraws_on_the_page(client: Client, band: Contributor, owner: User) -> None:
    PayoutAccount.objects.create(contributor=band, country="GB", created_at=LONG_AGO)
    row = ask(band, owner)
    people.log_in(client, "ada@example.org")
    client.post(PAGE, {"withdraw": "1"})
    row.refresh_from_db()
    assert row.state == "withdrawn"


def test_a_rejected_change_is_told_with_its_reason(band: Contributor, owner: User, checker: User) -> None:
    PayoutAccount.objects.create(contributor=band, country="GB", created_at=LONG_AGO)
    row = ask(band, owner)
    reject(row, by=checker, at=timezone.now(), reason="Send the certificate.", seen=SEEN)
    for _ in range(2):
        notices.notice_what_is_due(at=timezone.now())
    assert Notice.objects.get(kind="details_rejected").words == "Everything stays as it is. Send the certificate."


def test_staff_proposes_for_an_owner_and_another_decides(band: Contributor, checker: User, log_in: LogIn) -> None:
    compliance = people.user("compliance@example.org", LONG_AGO, ("compliance",))
    address = f"/console/payees/{band.public_id}/details/"
    given = GIVEN | {"reason": "By letter."}
    maker = people.user("maker@example.org", LONG_AGO, ("finance_maker",))
    assert "This takes the role" in words_of(log_in(maker).post(address, given))
    assert not DetailsChange.objects.exists()
    log_in(compliance).post(address, given)
    row = DetailsChange.objects.get()
    assert (row.proposed_by, row.state) == (compliance, "proposed")
    approve(row, by=checker, at=timezone.now(), seen=SEEN)
    band.refresh_from_db()
    assert band.legal_name == "Ada Ltd"


def test_only_an_owner_asks(band: Contributor) -> None:
    manager = people.user("vera@example.org", LONG_AGO)
    Membership.objects.create(user=manager, contributor=band, role="manager", created_at=LONG_AGO)
    with pytest.raises(UnableToChangeDetails, match="Only an owner"):
        ask(band, manager)


def test_a_tax_form_and_an_own_threshold_end(band: Contributor, owner: User, checker: User) -> None:
    PayoutAccount.objects.create(
        contributor=band, country="GB", rail=Rail.MANUAL_BANK_FILE, minimum_minor=2500, created_at=LONG_AGO
    )
    TaxProfile.objects.create(contributor=band, form="w8ben", withholding_ppb=300_000_000, recorded_at=LONG_AGO)
    row = ask(band, owner, currency="EUR", kind="organisation")
    told = consequences(band, read_details(row))
    assert "The W-8BEN ends. A new tax form is needed." in told
    assert any("own minimum payout of" in said for said in told)
    approve(row, by=checker, at=timezone.now(), seen=SEEN)
    form = tax_form_of(band)
    assert form is not None
    assert (form.form, form.withholding_ppb) == ("none", 300_000_000)
    account = PayoutAccount.objects.get(contributor=band)
    assert (account.minimum_minor, account.destination_currency) == (0, "EUR")


def test_a_change_upon_a_change_is_refused(band: Contributor, owner: User, checker: User) -> None:
    PayoutAccount.objects.create(contributor=band, country="GB", created_at=LONG_AGO)
    row = ask(band, owner)
    Contributor.objects.filter(pk=band.pk).update(display_name="Countess")
    with pytest.raises(UnableToChangeDetails, match="have changed since"):
        approve(row, by=checker, at=timezone.now(), seen=SEEN)


def test_every_road_of_a_change_leaves_the_former_details(band: Contributor) -> None:
    before = datetime(2026, 6, 1, tzinfo=UTC)
    Contributor.objects.filter(pk=band.pk).update(legal_name="Ada King", details_since=datetime(2026, 7, 1, tzinfo=UTC))
    Contributor.objects.filter(pk=band.pk).update(country="FR")
    band.refresh_from_db()
    assert (details_at(band, before).legal_name, details_at(band, before).country) == ("Ada Legal", "GB")
    july = details_at(band, datetime(2026, 7, 2, tzinfo=UTC))
    assert (july.legal_name, july.country) == ("Ada King", "GB")
    assert details_at(band, None).country == "FR"
    with pytest.raises(DatabaseError), transaction.atomic():
        FormerDetails.objects.update(legal_name="x")
    with pytest.raises(DatabaseError), transaction.atomic():
        FormerDetails.objects.all().delete()
    with pytest.raises(DatabaseError), transaction.atomic():
        Contributor.objects.filter(pk=band.pk).update(legal_name="Zoe\u0308")


def test_papers_of_the_past_keep_the_name_of_their_day(world: World) -> None:
    payee = world.contributor(5000)
    old = payee.legal_name
    run = world.approved()
    later = world.at + timedelta(days=2)
    Contributor.objects.filter(pk=payee.pk).update(legal_name="Maria Skłodowska", details_since=later)
    payee.refresh_from_db()
    header, rows = tables.payouts_table(run)
    assert dict(zip(header, next(iter(rows)), strict=True))["legal_name"] == old
    period = Period.objects.earliest("pk")
    assert build_statement(contributor=payee, period=period).legal_name == "Maria Skłodowska"
    period.closed_at = world.at
    assert build_statement(contributor=payee, period=period).legal_name == old
