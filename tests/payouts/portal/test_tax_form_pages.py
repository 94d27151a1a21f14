"""Recording a tax form and releasing holds in the console: the page of each role, and the results."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from contributors.models import Contributor
from payouts.models import PayoutAccount
from payouts.operations import accounts, holds
from payouts.queries import payees
from tests.worlds.browser import LogIn, words_of
from tests.worlds.world import SEEN, World


def address(contributor: Contributor) -> str:
    return reverse("payouts:record_tax_form", args=[contributor.public_id])


def said(world: World, **changes: Any) -> dict[str, str]:
    today = world.at.date().isoformat()
    return {
        "form": "w9",
        "country": "US",
        "number": "123-45-6789",
        "signed_on": today,
        "received_on": today,
        "valid_until": "",
        "withholding_percent": "0",
        **changes,
    }


@pytest.fixture
def held(world: World) -> Contributor:
    """Make a payee with a hold for a missing tax form."""
    world.policy(requires_tax_form=True)
    contributor = world.contributor(1_000)
    accounts.refresh_holds(account=PayoutAccount.objects.get(contributor=contributor), at=world.at)
    assert [one.hold.reason for one in payees.open_holds(contributor)] == ["tax_form_missing"]
    return contributor


def test_compliance_records_a_form_and_the_hold_ends(world: World, log_in: LogIn, held: Contributor) -> None:
    client = log_in(world.compliance)
    account = reverse("payouts:payee_account", args=[held.public_id])
    page = client.get(account)
    assert "Record a tax form" in words_of(page)
    assert "Released by nobody: it ends by itself" in words_of(page)
    assert "Only the last" not in words_of(client.get(address(held)))
    assert "only the last four characters are kept" in words_of(client.get(address(held)))
    after = client.post(address(held), said(world), follow=True)
    words = words_of(after)
    assert "W-9 recorded; it does not run out. Nothing stops payments" in words
    assert "•••• 6789" in words
    assert "45-6789" not in after.content.decode()
    assert payees.open_holds(held) == []


def test_a_wrong_form_is_refused_beside_the_fields(world: World, log_in: LogIn, held: Contributor) -> None:
    client = log_in(world.compliance)
    refused = client.post(address(held), said(world, number="12"))
    assert refused.status_code == 422
    assert "nine digits" in words_of(refused)
    for change in ({"signed_on": ""}, {"form": "w7"}, {"withholding_percent": "100"}, {"country": "Mars"}):
        assert client.post(address(held), said(world, **change)).status_code == 422
    assert payees.tax_form_of(held) is None


@pytest.mark.parametrize("role", ["finance_maker", "finance_checker", "admin"])
def test_nobody_else_records_a_form(world: World, log_in: LogIn, held: Contributor, role: str) -> None:
    client = log_in(world._user(role, role))
    assert "Tax forms are recorded by compliance." in words_of(client.get(address(held)))
    assert "Record a tax form" not in words_of(client.get(reverse("payouts:payee_account", args=[held.public_id])))
    assert client.post(address(held), said(world)).status_code == 403
    assert payees.tax_form_of(held) is None


def test_a_second_factor_is_asked_for_before_a_form_is_recorded(world: World, log_in: LogIn, held: Contributor) -> None:
    stale = log_in(world.compliance, factor_age=400)
    assert "reauthenticate" in stale.post(address(held), said(world))["Location"]
    assert payees.tax_form_of(held) is None


def test_a_contributors_own_pause_offers_its_release_to_compliance_alone(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1_000)
    hold = holds.pause_own_payouts(contributor=contributor, by=world.owner, at=world.at, seen=SEEN)
    release = reverse("payouts:release_hold", args=[hold.pk])
    checker, compliance = log_in(world.checker), log_in(world.compliance)
    for page in (reverse("payouts:holds"), reverse("payouts:payee_account", args=[contributor.public_id])):
        assert release not in checker.get(page).content.decode()
        assert release in compliance.get(page).content.decode()
    assert "Only the contributor lifts it" in words_of(checker.get(release))
    assert checker.post(release, {"reason": "please"}).status_code == 403
    compliance.post(release, {"reason": "a court's order"})
    hold.refresh_from_db()
    assert hold.released_by == world.compliance
