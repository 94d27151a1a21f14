"""Every address of payouts is tried by every role: the permitted roles open it, the others do not."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from django.urls.converters import IntConverter, StringConverter, UUIDConverter
from django.urls.resolvers import URLPattern

from contributors.operations.people import add_member
from payouts import urls
from payouts.models import PayoutRun
from tests.worlds.browser import LogIn, member_of
from tests.worlds.world import World

POST_ONLY = {
    "build", "submit", "take_up", "rebuild", "reconcile", "close", "read_account", "threshold", "download_file",
    "replay", "pause_own", "resume_own",
}  # fmt: skip
WEBHOOKS = {"stripe_webhook", "stripe_connect_webhook"}
# Pages that an auditor reads. Every other page of the console is for the acting roles.
READABLE = {
    "console", "runs", "run", "progress", "stripe_balance", "run_csv", "left_out_csv", "attempts_csv", "payee",
    "payee_pdf", "approve", "reconciliation", "run_xlsx", "run_jsonl", "bank_files",
    "lines_template", "payees", "payee_account", "holds", "funding", "inbox", "event", "policies", "unclaimed",
    "unclaimed_csv", "year_totals", "year_totals_csv", "links", "attention",
}  # fmt: skip


SOMETHING: dict[type, Callable[[], object]] = {
    UUIDConverter: uuid.uuid4,
    IntConverter: lambda: 0,
    StringConverter: lambda: "USD",
}


def every_address() -> list[tuple[str, str]]:
    """(name, address) of every page, with ids that nobody has."""
    found = []
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        arguments = {name: SOMETHING[type(kind)]() for name, kind in pattern.pattern.converters.items()}
        found.append((str(pattern.name), reverse(f"payouts:{pattern.name}", kwargs=arguments)))
    return [(name, address) for name, address in found if name not in WEBHOOKS]


CONSOLE = [(name, address) for name, address in every_address() if address.startswith("/console/")]
PORTAL = [(name, address) for name, address in every_address() if address.startswith("/portal/")]


def ask(client: Client, name: str, address: str) -> int:
    return (client.post(address) if name in POST_ONLY else client.get(address)).status_code


def test_a_stranger_is_taken_to_the_log_in(db: None) -> None:
    for name, address in every_address():
        for method in ("get", "post"):
            response = getattr(Client(), method)(address)
            if response.status_code == 405:
                assert (name in POST_ONLY) == (method == "get"), address
            else:
                assert response.status_code == 302, (method, address)
                assert response["Location"].startswith("/accounts/login/"), (method, address)


def test_a_contributor_opens_no_page_of_the_console(world: World, log_in: LogIn) -> None:
    client = log_in(member_of(world.contributor()))
    for name, address in CONSOLE:
        assert ask(client, name, address) == 403, address
        assert client.post(address).status_code in {403, 405}, address


def test_staff_without_a_second_factor_are_taken_to_set_one_up(world: World, log_in: LogIn) -> None:
    client = log_in(world.checker, enrol=False)
    for name, address in CONSOLE:
        response = client.post(address) if name in POST_ONLY else client.get(address)
        assert response.status_code == 302, address
        assert response["Location"] == reverse("mfa_activate_totp"), address


def test_staff_who_did_not_use_their_second_factor_are_asked_for_it(world: World, log_in: LogIn) -> None:
    client = log_in(world.checker, factor_age=None)
    for name, address in CONSOLE:
        response = client.post(address) if name in POST_ONLY else client.get(address)
        assert "reauthenticate" in response["Location"], address


def test_an_auditor_reads_and_changes_nothing(world: World, log_in: LogIn) -> None:
    client = log_in(world._user("auditor", "auditor"))
    for name, address in CONSOLE:
        may_read = name in READABLE
        assert (ask(client, name, address) != 403) == may_read, address
        if not may_read:
            assert client.post(address).status_code == 403, address
    world.contributor(1234)
    run = world.in_review()
    page = client.get(reverse("payouts:run", args=[run.public_id])).content.decode()
    assert "<button" not in page.partition("<main")[2].partition('<form class="filters"')[0]
    assert client.post(reverse("payouts:submit", args=[run.public_id])).status_code == 403


@pytest.mark.parametrize("role", ["finance_maker", "finance_checker", "compliance", "admin"])
def test_who_acts_in_finance_opens_every_page_of_the_console(world: World, log_in: LogIn, role: str) -> None:
    """The operation decides the effect of each button for each role: tests/payouts/test_roles.py."""
    client = log_in(world._user(role, role))
    for name, address in CONSOLE:
        status = ask(client, name, address)
        assert status in {200, 404, 422, 302}, (role, address, status)
        assert status != 403, (role, address)


def test_every_address_of_the_console_is_readable_or_for_those_who_act() -> None:
    """A new page has to be put on one side, so that nobody forgets to decide its readers."""
    names = {name for name, _address in CONSOLE}
    assert names >= READABLE
    assert len(names) == len(CONSOLE)


def test_a_user_without_a_contributor_is_taken_to_the_registration(world: World, log_in: LogIn) -> None:
    client = log_in(world._user("nobody"))
    for name, address in PORTAL:
        response = client.post(address) if name in POST_ONLY else client.get(address)
        assert response["Location"] == reverse("contributors:register"), address


def test_who_may_only_look_changes_nothing(world: World, log_in: LogIn) -> None:
    contributor = world.contributor(1234)
    viewer = world._user("viewer")
    add_member(contributor=contributor, user=viewer, role="viewer", at=world.at)
    client = log_in(viewer)
    page = client.get(reverse("payouts:payouts")).content.decode()
    assert "Save the threshold" not in page
    assert client.post(reverse("payouts:threshold"), {"minimum_minor": "1000"}).status_code == 403
    for name in ("set_up", "onboarding"):
        assert client.get(reverse(f"payouts:{name}")).status_code == 403
    assert client.post(reverse("payouts:set_up")).status_code == 403


@pytest.mark.parametrize("name", ["remittance"])
def test_a_contributor_never_sees_another_ones_payout(world: World, log_in: LogIn, name: str) -> None:
    mine, other = world.contributor(1234), world.contributor(5678)
    run = world.approved()
    theirs = run.payouts.get(contributor=other)
    client = log_in(member_of(mine))
    assert client.get(reverse(f"payouts:{name}", args=[theirs.public_id])).status_code == 404
    history = client.get(reverse("payouts:history_csv")).content.decode("utf-8-sig")
    assert str(run.payouts.get(contributor=mine).public_id) in history
    assert str(theirs.public_id) not in history


def test_an_unknown_run_is_not_found(world: World, log_in: LogIn) -> None:
    client = log_in(world.checker)
    for name, address in CONSOLE:
        if "runs/" in address and name not in {"runs", "build"}:
            assert ask(client, name, address) == 404, address


def test_every_form_that_changes_something_needs_its_token(world: World, log_in: LogIn) -> None:
    world.contributor(1234)
    run = world.built()
    checked = log_in(world.maker)
    checked.handler.enforce_csrf_checks = True
    assert checked.post(reverse("payouts:submit", args=[run.public_id])).status_code == 403
    run.refresh_from_db()
    assert run.state == PayoutRun.State.DRAFT
