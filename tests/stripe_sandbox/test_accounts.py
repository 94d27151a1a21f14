"""Connected accounts: onboarding through the hosted page, requirements, capabilities, and how an account is lost."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import stripe

from tests.sandbox_server import StripeSandbox, code_of

RETURN, REFRESH = "http://127.0.0.1:1/portal/back/", "http://127.0.0.1:1/portal/again/"


def link(sandbox: StripeSandbox, account: str) -> stripe.AccountLink:
    return sandbox.client().v1.account_links.create(
        {"account": account, "type": "account_onboarding", "return_url": RETURN, "refresh_url": REFRESH}
    )


def visit(url: str) -> requests.Response:
    return requests.get(url, timeout=10, allow_redirects=False)


def choose(page: requests.Response, outcome: str) -> requests.Response:
    action = page.text.split('action="')[1].split('"')[0]
    base = page.url.split("/onboarding/")[0]
    return requests.post(base + action, data={"outcome": outcome}, timeout=10, allow_redirects=False)


def test_a_new_account_can_be_paid_nothing_and_says_what_it_lacks(sandbox: StripeSandbox) -> None:
    account = sandbox.client().v1.accounts.retrieve(
        sandbox.add_account("", email="a@example.org", metadata={"id": "7"})
    )
    assert account.capabilities is not None
    assert account.requirements is not None
    assert account.controller is not None
    assert account.controller.stripe_dashboard is not None
    assert account.capabilities.transfers == "inactive"
    assert not account.payouts_enabled
    assert not account.details_submitted
    assert account.requirements.disabled_reason == "requirements.past_due"
    assert "external_account" in (account.requirements.currently_due or [])
    assert (account.email, account.metadata.to_dict() if account.metadata else {}) == ("a@example.org", {"id": "7"})
    assert account.controller.stripe_dashboard.type == "express"


def test_the_onboarding_page_completes_the_account_and_leads_back(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account("")
    page = visit(link(sandbox, account).url)
    assert page.status_code == 200
    assert "SANDBOX: no money moves" in page.text
    assert account in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert requests.get(f"{sandbox.url}/sandbox.css", timeout=10).headers["Content-Type"].startswith("text/css")
    done = choose(page, "complete")
    assert (done.status_code, done.headers["Location"]) == (302, RETURN)
    shown = sandbox.client().v1.accounts.retrieve(account)
    assert shown.payouts_enabled
    assert shown.capabilities is not None
    assert shown.requirements is not None
    assert shown.capabilities.transfers == "active"
    assert shown.requirements.currently_due == []
    assert shown.external_accounts is not None
    assert len(shown.external_accounts.data) == 1
    assert choose(page, "reject").headers["Location"] == RETURN
    assert sandbox.client().v1.accounts.retrieve(account).payouts_enabled


def test_a_link_opens_once_and_not_for_long(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account("")
    used = link(sandbox, account)
    assert visit(used.url).status_code == 200
    again = visit(used.url)
    assert (again.status_code, again.headers["Location"]) == (302, REFRESH)
    late = link(sandbox, account)
    assert late.expires_at - late.created == 300
    sandbox.advance(seconds=300)
    assert visit(late.url).headers["Location"] == REFRESH
    assert visit(f"{sandbox.url}/onboarding/never-made").status_code == 404


@pytest.mark.parametrize(
    ("outcome", "reason", "transfers"),
    [
        ("needs_info", "requirements.past_due", "inactive"),
        ("under_review", "under_review", "pending"),
        ("reject", "rejected.other", "inactive"),
        ("listed", "rejected.listed", "inactive"),
    ],
)
def test_the_page_has_every_outcome(sandbox: StripeSandbox, outcome: str, reason: str, transfers: str) -> None:
    account = sandbox.add_account("")
    assert choose(visit(link(sandbox, account).url), outcome).headers["Location"] == RETURN
    shown = sandbox.client().v1.accounts.retrieve(account)
    assert shown.requirements is not None
    assert shown.capabilities is not None
    assert (shown.requirements.disabled_reason, shown.capabilities.transfers) == (reason, transfers)
    assert shown.details_submitted
    assert not shown.payouts_enabled


def test_a_link_leads_only_to_addresses_of_the_web(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account("")
    for wrong in ("javascript:alert(1)", "not an address", ""):
        given: Any = {"account": account, "type": "account_onboarding", "return_url": wrong, "refresh_url": REFRESH}
        with pytest.raises(stripe.InvalidRequestError) as caught:
            sandbox.client().v1.account_links.create(given)
        assert caught.value.param == "return_url"


def test_capabilities_are_requested_and_given_up(sandbox: StripeSandbox) -> None:
    capabilities, account = sandbox.client().v1.accounts.capabilities, sandbox.add_account()
    assert [(one.id, one.status) for one in capabilities.list(account).data] == [("transfers", "active")]
    assert capabilities.update(account, "transfers", {"requested": False}).status == "unrequested"
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.client().v1.transfers.create({"amount": 1, "currency": "usd", "destination": account})
    assert capabilities.update(account, "transfers", {"requested": True}).status == "active"
    assert capabilities.retrieve(account, "transfers").requested


def test_an_account_is_updated_listed_rejected_and_deleted(sandbox: StripeSandbox) -> None:
    accounts = sandbox.client().v1.accounts
    account = sandbox.add_account()
    assert (
        accounts.update(account, {"metadata": {"contributor": "9"}, "email": "b@example.org"}).email == "b@example.org"
    )
    assert account in [one.id for one in accounts.list({"limit": 100}).auto_paging_iter()]
    rejected = accounts.update(account, {"business_type": "individual"}) and accounts.reject(
        account, {"reason": "fraud"}
    )
    assert rejected.requirements is not None
    assert rejected.requirements.disabled_reason == "rejected.platform_fraud"
    assert accounts.delete(account).deleted
    with pytest.raises(stripe.PermissionError):
        accounts.retrieve(account)


def test_the_service_agreement_is_fixed_once_it_was_accepted(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account("", tos_acceptance={"service_agreement": "recipient"})
    accounts = sandbox.client().v1.accounts
    assert accounts.update(account, {"tos_acceptance": {"service_agreement": "full"}}).id == account
    sandbox.happens(account, "complete")
    with pytest.raises(stripe.InvalidRequestError, match="cannot be changed"):
        accounts.update(account, {"tos_acceptance": {"service_agreement": "recipient"}})


def test_countries_that_the_sandbox_does_not_know_are_refused(sandbox: StripeSandbox) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.client().v1.accounts.create({"country": "AQ"})
    assert code_of(caught.value) == "country_unsupported"


def test_a_session_for_embedded_components_names_every_component(sandbox: StripeSandbox) -> None:
    session = sandbox.client().v1.account_sessions.create(
        {
            "account": sandbox.add_account(),
            "components": {"account_onboarding": {"enabled": True}, "payouts": {"enabled": True}},
        }
    )
    assert session.components.account_onboarding.enabled
    assert not session.components.balances.enabled
    assert session.client_secret
