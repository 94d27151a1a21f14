"""A tax form: its stored part, the forms that cannot be right, and the holds that it ends and begins."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from contributors.models import Contributor
from payouts.models import HoldReason, PayoutAccount, TaxProfile
from payouts.operations import accounts, tax_forms
from payouts.queries import payees
from people.queries import audit as audit_queries
from tests.worlds.world import World, only


def reasons(contributor: Contributor) -> set[str]:
    return {one.hold.reason for one in payees.open_holds(contributor)}


def test_recording_the_form_ends_the_hold_and_the_next_run_pays(world: World) -> None:
    world.policy(requires_tax_form=True)
    contributor = world.contributor(1_001)
    accounts.refresh_holds(account=PayoutAccount.objects.get(contributor=contributor), at=world.at)
    assert reasons(contributor) == {HoldReason.TAX_FORM_MISSING}
    world.tax_form(contributor, 300_000_000)
    assert reasons(contributor) == set()
    assert contributor.notices.filter(kind="hold_released").exists()
    payout = only(world.built())
    assert (payout.gross_minor, payout.tax_minor, payout.tax_jurisdiction) == (1_001, 300, "US")


def test_of_the_number_only_the_end_is_kept_anywhere(world: World) -> None:
    contributor = world.contributor(1_000)
    profile = world.tax_form(contributor, form="w9", country="US", number="123-45-6789")
    assert (profile.number_last4, profile.number_masked) == ("6789", "•••• 6789")
    line = audit_queries.audit_events(f"contributor:{contributor.pk}").get(action="record_tax_form")
    assert line.after["number"] == "•••• 6789"
    with connection.cursor() as cursor:
        for table in ("payouts_taxprofile", "people_auditevent", "payouts_notice"):
            cursor.execute(f"SELECT count(*) FROM {table} t WHERE t::text ~ '12345|123-45'")
            assert cursor.fetchone() == (0,), table
    with pytest.raises(IntegrityError, match="of_a_tax_number_only_the_end_is_kept"), transaction.atomic():
        TaxProfile.objects.create(contributor=contributor, form="w9", number_last4="6-89", recorded_at=world.at)


def test_a_form_counts_as_long_as_the_law_says_or_shorter(world: World) -> None:
    contributor = world.contributor()
    signed = world.at.date() - timedelta(days=3)
    assert world.tax_form(contributor, signed_on=signed).valid_until == date(signed.year + 3, 12, 31)
    assert world.tax_form(contributor, form="w9", country="US", number="123456789").valid_until is None
    early = world.at.date() + timedelta(days=30)
    assert world.tax_form(contributor, valid_until=early).valid_until == early
    assert world.tax_form(contributor, valid_until=date(2099, 1, 1)).valid_until == date(world.at.year + 3, 12, 31)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"form": "none"}, "There is no form"),
        ({"form": "1099"}, "There is no form"),
        ({"country": "XX"}, "country of tax residence"),
        ({"country": "US"}, "A W-9 is for residents of the United States"),
        ({"form": "w9", "number": "123456789"}, "A W-9 is for residents of the United States"),
        ({"form": "w8bene"}, "W-8BEN-E for organisations"),
        ({"form": "w9", "country": "US", "number": "12345678"}, "nine digits"),
        ({"form": "w9", "country": "US", "number": ""}, "nine digits"),
        ({"number": "12"}, "5 to 20 letters and digits"),
        ({"number": "=HYPERLINK(1)"}, "5 to 20 letters and digits"),
        ({"signed_on": date(2030, 1, 1)}, "signed before it is received"),
        ({"received_on": date(2030, 1, 1)}, "neither lies in the future"),
        ({"signed_on": date(2020, 5, 5)}, "ran out on 31 Dec 2023"),
        ({"valid_until": date(2026, 1, 1)}, "ran out on 1 Jan 2026"),
        ({"withholding_ppb": 1_000_000_000}, "less than everything"),
        ({"withholding_ppb": -1}, "at least nothing"),
    ],
    ids=str,
)
def test_a_form_that_cannot_be_right_is_refused_in_words(world: World, said: dict[str, Any], words: str) -> None:
    contributor = world.contributor()
    with pytest.raises(tax_forms.UnableToRecordTaxForm, match=words):
        world.tax_form(contributor, **said)
    assert payees.tax_form_of(contributor) is None


def test_a_form_on_record_never_changes(world: World) -> None:
    world.tax_form(world.contributor())
    for sql in ("UPDATE payouts_taxprofile SET withholding_ppb = 0", "DELETE FROM payouts_taxprofile"):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)
