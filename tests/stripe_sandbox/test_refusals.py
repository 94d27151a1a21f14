"""Every class of refusal, with the status and code that stripe-python turns into its exception."""

from __future__ import annotations

from typing import Any, cast

import pytest
import requests
import stripe

from tests.sandbox_server import StripeSandbox, code_of


def transfer(**changes: Any) -> Any:
    return {"amount": 100, "currency": "usd", "destination": "acct_unknown", **changes}


def refused(sandbox: StripeSandbox, given: Any, *, key: str | None = None, **options: Any) -> stripe.StripeError:
    with pytest.raises(stripe.StripeError) as caught:
        sandbox.client(key).v1.transfers.create(given, cast(Any, options))
    error = caught.value
    assert error.headers is not None
    assert error.headers["Request-Id"].startswith("req_")
    return error


def test_a_key_that_is_not_known_is_no_key(sandbox: StripeSandbox) -> None:
    assert refused(sandbox, transfer(), key="sk_test_of_somebody_else").http_status == 401
    assert refused(sandbox, transfer(), key="sk_live_0123456789").http_status == 401
    bare = requests.get(f"{sandbox.url}/v1/balance", timeout=10)
    assert bare.status_code == 401
    assert "did not provide an API key" in bare.json()["error"]["message"]
    assert requests.get(f"{sandbox.url}/v1/balance", auth=(sandbox.key, ""), timeout=10).status_code == 200


def test_the_key_of_the_readers_reads_and_changes_nothing(sandbox: StripeSandbox) -> None:
    error = refused(sandbox, transfer(), key=sandbox.read_key)
    assert isinstance(error, stripe.PermissionError)
    assert error.http_status == 403
    assert sandbox.client(sandbox.read_key).v1.balance.retrieve().available


def test_an_account_that_is_not_connected_is_out_of_reach(sandbox: StripeSandbox) -> None:
    client, account = sandbox.client(), sandbox.add_account()
    sandbox.happens(account, "disconnect")
    for reference in ("acct_unknown", account):
        with pytest.raises(stripe.PermissionError) as caught:
            client.v1.balance.retrieve(options={"stripe_account": reference})
        assert (caught.value.http_status, code_of(caught.value)) == (403, "account_invalid")
        with pytest.raises(stripe.PermissionError):
            client.v1.accounts.retrieve(reference)
        error = refused(sandbox, transfer(destination=reference))
        assert (error.http_status, code_of(error), cast(Any, error).param) == (400, "resource_missing", "destination")


def test_what_does_not_exist_is_not_found(sandbox: StripeSandbox) -> None:
    client = sandbox.client()
    for look_up in (
        lambda: client.v1.transfers.retrieve("tr_none"),
        lambda: client.v1.payouts.retrieve("po_none"),
        lambda: client.v1.topups.retrieve("tu_none"),
        lambda: client.v1.balance_transactions.retrieve("txn_none"),
        lambda: client.v1.events.retrieve("evt_none"),
        lambda: client.v1.webhook_endpoints.retrieve("we_none"),
        lambda: client.v1.charges.retrieve("py_none"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            look_up()
        assert (caught.value.http_status, code_of(caught.value)) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        client.v1.customers.list()


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        ({"amount": 1, "currency": "usd"}, "parameter_missing", "destination"),
        (transfer(foo="x"), "parameter_unknown", "foo"),
        (transfer(amount="12.5"), "parameter_invalid_integer", "amount"),
        (transfer(amount=0), "parameter_invalid_integer", "amount"),
        (transfer(amount=-5), "parameter_invalid_integer", "amount"),
        (transfer(amount=100_000_000), "amount_too_large", "amount"),
        (transfer(currency="xyz"), None, "currency"),
        (transfer(source_type="cash"), None, "source_type"),
        (transfer(description="x" * 5_001), None, "description"),
        (transfer(source_transaction="ch_1"), "resource_missing", "source_transaction"),
        (transfer(metadata={"k": "v" * 501}), None, "metadata"),
    ],
)
def test_a_request_that_stripe_would_not_take_is_refused(
    sandbox: StripeSandbox, given: Any, code: str | None, param: str
) -> None:
    known = sandbox.add_account()
    if given.get("destination"):
        given = {**given, "destination": known}
    error = refused(sandbox, given)
    assert isinstance(error, stripe.InvalidRequestError)
    assert (error.http_status, code_of(error), error.param) == (400, code, param)


def test_unknown_parameters_are_refused_at_every_depth(sandbox: StripeSandbox) -> None:
    client = sandbox.client()
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.accounts.create(cast(Any, {"controller": {"loss": {"payments": "application"}}}))
    assert (code_of(caught.value), caught.value.param) == ("parameter_unknown", "controller[loss]")
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter: transfergroup"):
        client.v1.transfers.list(cast(Any, {"transfergroup": "x"}))
    with pytest.raises(stripe.InvalidRequestError, match="enabled_events"):
        client.v1.webhook_endpoints.create(cast(Any, {"url": "http://127.0.0.1/", "enabled_events": ["transfer.paid"]}))


def test_the_platform_cannot_send_what_it_has_not(sandbox: StripeSandbox) -> None:
    account = sandbox.add_account()
    for currency in ("chf", "usd"):
        error = refused(sandbox, transfer(destination=account, amount=99_000_000, currency=currency))
        assert (error.http_status, code_of(error)) == (400, "balance_insufficient")
    found = sandbox.client().v1.transfers.list({"destination": account})
    assert found.data == []


@pytest.mark.parametrize("outcome", ["", "needs_info", "under_review", "reject", "listed", "pause"])
def test_money_goes_to_no_account_whose_transfers_are_inactive(sandbox: StripeSandbox, outcome: str) -> None:
    error = refused(sandbox, transfer(destination=sandbox.add_account(outcome)))
    assert (error.http_status, code_of(error)) == (400, "insufficient_capabilities_for_transfer")


def test_more_requests_than_the_limit_are_turned_away(undisturbed: StripeSandbox) -> None:
    undisturbed.settings(reads_per_second=5, writes_per_second=5)
    client = undisturbed.client()
    with pytest.raises(stripe.RateLimitError) as caught:
        [client.v1.transfers.list({"limit": 1}) for _ in range(50)]
    assert (caught.value.http_status, code_of(caught.value)) == (429, "rate_limit")


def test_a_body_that_is_no_form_is_a_refusal_and_no_crash(sandbox: StripeSandbox) -> None:
    headers = {"Authorization": f"Bearer {sandbox.key}", "Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"\xff\xfe", b"amount", b"&&&=", b"a[b]=1&a=2&a[c]=3", b"x" * 300_000, b"[[[]]]=1"):
        answered = requests.post(f"{sandbox.url}/v1/transfers", data=body, headers=headers, timeout=10)
        assert answered.status_code in {400, 413}, body[:20]
        assert answered.json()["error"]["type"] == "invalid_request_error"


def test_the_controls_need_the_key_and_explain_a_wrong_word(sandbox: StripeSandbox) -> None:
    assert requests.get(f"{sandbox.url}/_sandbox/audit", timeout=10).status_code == 401
    reader = {"Authorization": f"Bearer {sandbox.read_key}"}
    assert requests.get(f"{sandbox.url}/_sandbox/audit", headers=reader, timeout=10).status_code == 401
    writer = {"Authorization": f"Bearer {sandbox.key}"}
    for path, given in (
        ("faults", {"queue": ["explode"]}),
        ("settings", {"speed": 1}),
        ("advance", {"seconds": -1}),
        ("accounts/acct_unknown", {"outcome": "complete"}),
        ("payouts/po_unknown/fail", {}),
    ):
        answered = requests.post(f"{sandbox.url}/_sandbox/{path}", json=given, headers=writer, timeout=10)
        assert answered.status_code == 400, path
        assert answered.json()["error"]
