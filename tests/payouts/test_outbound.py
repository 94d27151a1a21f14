"""Stripe through a company's proxy, with certificates of the company's own authority."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from payouts.rails.stripe import calls
from payouts.rails.stripe.client import boot_clock
from payouts.rails.stripe.errors import UnableToSend, UnableToUseStripe
from tests.worlds.network import Authority, Proxy, forward_proxy, tls_front
from tests.worlds.world import World, only

HOST = "stripe.company.test"


@dataclass
class Network:
    proxy: Proxy
    authority: Authority
    port: int


@pytest.fixture
def network(paying: World, settings: Any, tmp_path: Path) -> Iterator[Network]:
    """Stripe stands behind the proxy, under a name that only the proxy knows and a certificate of the company."""
    assert paying.sandbox is not None
    authority = Authority(tmp_path)
    with forward_proxy(tmp_path) as proxy, tls_front(authority.server(HOST), paying.sandbox.url) as port:
        settings.STRIPE_API_BASE = f"https://{HOST}:{port}"
        settings.OUTBOUND_PROXY = proxy.url
        settings.OUTBOUND_CA_FILE = str(authority.file)
        yield Network(proxy, authority, port)


def test_a_run_is_paid_through_the_proxy_with_the_company_s_certificates(paying: World, network: Network) -> None:
    paying.contributor(7000)
    run = paying.pay(paying.executing())
    assert only(run).state == "transferred"
    assert network.proxy.asked
    assert set(network.proxy.asked) == {f"CONNECT {HOST}:{network.port} clerk:s3cret"}


def test_an_unknown_authority_is_refused(paying: World, network: Network, settings: Any) -> None:
    settings.OUTBOUND_CA_FILE = ""
    with pytest.raises(UnableToUseStripe, match="certificate verify failed"):
        calls.balance()


def test_a_certificate_of_the_company_for_another_host_is_refused(
    paying: World, network: Network, settings: Any
) -> None:
    settings.STRIPE_API_BASE = f"https://other.company.test:{network.port}"
    with pytest.raises(UnableToUseStripe, match=r"Hostname mismatch|not valid for"):
        calls.balance()


def test_without_the_proxy_the_name_leads_nowhere(paying: World, network: Network, settings: Any) -> None:
    settings.OUTBOUND_PROXY = ""
    with pytest.raises(UnableToUseStripe):
        calls.balance()
    assert network.proxy.asked == []


def test_the_guard_of_a_payment_stands_behind_the_tunnel(paying: World, network: Network) -> None:
    """A worker that wakes after its lease connects, and writes nothing."""
    account = paying.account(paying.contributor())
    before = {transfer.id for transfer in calls.list_transfers(since=paying.at)}
    request = calls.transfer_request(
        amount_minor=500, currency="USD", destination=account, transfer_group="late", metadata={}
    )
    late = boot_clock() - 1
    with pytest.raises(UnableToSend):
        calls.create_transfer(request, idempotency_key=f"late-{time.time()}", deadline=late)
    assert {transfer.id for transfer in calls.list_transfers(since=paying.at)} == before


def test_an_address_of_this_machine_needs_no_proxy(paying: World, network: Network, settings: Any) -> None:
    assert paying.sandbox is not None
    settings.STRIPE_API_BASE = paying.sandbox.url
    assert urlsplit(paying.sandbox.url).hostname == "127.0.0.1"
    calls.balance()
    assert network.proxy.asked == []


def test_http_behind_the_proxy_is_asked_for_by_its_whole_address(
    paying: World, network: Network, settings: Any
) -> None:
    assert paying.sandbox is not None
    base = f"http://{HOST}:{urlsplit(paying.sandbox.url).port}"
    settings.STRIPE_API_BASE = base
    calls.balance()
    assert network.proxy.asked == [f"GET {base}/v1/balance clerk:s3cret"]
