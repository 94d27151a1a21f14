"""Webhooks and mail in a company's network, and the settings of the way out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, get_connection
from django.utils import timezone

from config.setup.machine import outbound_traffic
from people import outbound
from people.models import WebhookDelivery
from people.operations import webhook_deliveries
from tests.people.test_webhooks import Listener, listener, registered, states, tell
from tests.worlds.network import Authority, Proxy, forward_proxy, mail_server, tls_front

__all__ = ["listener"]
HOST = socket.gethostname()
ADDRESS = socket.gethostbyname(HOST)


@pytest.fixture
def proxy(settings: Any, tmp_path: Path) -> Iterator[Proxy]:
    with forward_proxy(tmp_path) as made:
        settings.OUTBOUND_PROXY = made.url
        settings.WEBHOOKS_TO_PRIVATE = True
        yield made


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.django_db
def test_a_webhook_goes_through_the_proxy_to_the_checked_address(
    proxy: Proxy, authority: Authority, listener: Listener, settings: Any
) -> None:
    with tls_front(authority.server(HOST), listener.url, ADDRESS) as port:
        registered(f"https://{HOST}:{port}/hook?for=us")
        tell(index="i1")
        webhook_deliveries.deliver_due(at=datetime.now(UTC))
        assert states() == ["pending"], "the authority is not trusted yet"
        assert "certificate verify failed" in WebhookDelivery.objects.get().attempts.get().answer
        settings.OUTBOUND_CA_FILE = str(authority.file)
        tell(index="i2")
        webhook_deliveries.deliver_due(at=datetime.now(UTC))
    assert states() == ["pending", "delivered"]
    assert proxy.asked == [f"CONNECT {ADDRESS}:{port} clerk:s3cret"] * 2
    ((headers, _),) = listener.got
    assert headers["host"] == f"{HOST}:{port}"


@pytest.mark.django_db
def test_the_company_s_authority_counts_without_a_proxy_as_well(
    authority: Authority, listener: Listener, settings: Any
) -> None:
    settings.WEBHOOKS_TO_PRIVATE = True
    settings.OUTBOUND_CA_FILE = str(authority.file)
    with tls_front(authority.server(HOST), listener.url, ADDRESS) as port:
        registered(f"https://{HOST}:{port}/hook")
        tell(index="i1")
        webhook_deliveries.deliver_due(at=datetime.now(UTC))
    assert states() == ["delivered"]


@pytest.mark.django_db
def test_a_private_address_is_refused_behind_a_proxy_too(proxy: Proxy, settings: Any) -> None:
    registered(f"http://{HOST}:9/hook")
    settings.WEBHOOKS_TO_PRIVATE = False
    tell(index="i1")
    webhook_deliveries.deliver_due(at=datetime.now(UTC))
    assert "private network" in WebhookDelivery.objects.get().attempts.get().answer
    assert proxy.asked == []


def test_mail_trusts_the_company_s_authority(authority: Authority, settings: Any) -> None:
    with mail_server(authority.server("localhost")) as server:
        connection: dict[str, Any] = {
            "backend": "people.smtp.EmailBackend",
            "host": "localhost",
            "port": server.port,
            "use_ssl": True,
        }
        mail = EmailMessage("Hello", "Royalties", "a@example.org", ["b@example.org"])
        with pytest.raises(OSError, match="certificate verify failed"):
            get_connection(**connection).send_messages([mail])
        settings.OUTBOUND_CA_FILE = str(authority.file)
        assert get_connection(**connection).send_messages([mail]) == 1
    (got,) = server.got
    assert "Royalties" in got


def test_a_mail_server_gets_this_backend() -> None:
    text = Path("config/settings.py").read_text()
    assert 'EMAIL_BACKEND = "people.smtp.EmailBackend"' in text


@pytest.mark.parametrize("wrong", ["proxy.internal:3128", "socks5://proxy", "http://", "http://proxy:x", "proxy"])
def test_a_proxy_that_is_no_address_is_refused(settings: Any, wrong: str) -> None:
    settings.OUTBOUND_PROXY = wrong
    with pytest.raises(ImproperlyConfigured, match="OUTBOUND_PROXY is no address such as"):
        outbound.proxy_for("https://api.stripe.com")
    assert outbound_traffic(timezone.now()).state == "broken"


def test_the_doctor_names_the_way_out_without_a_password(
    proxy: Proxy, authority: Authority, settings: Any, tmp_path: Path
) -> None:
    settings.OUTBOUND_CA_FILE = str(authority.file)
    found = outbound_traffic(timezone.now())
    assert found.state == "done"
    assert proxy.url.replace(":s3cret", "") in found.words
    assert "s3cret" not in found.words
    assert str(authority.file) in found.words
    settings.OUTBOUND_PROXY = "http://127.0.0.1:9"
    assert "does not answer" in outbound_traffic(timezone.now()).words
    for wrong in (tmp_path / "none.pem", Path("README.md")):
        settings.OUTBOUND_CA_FILE = str(wrong)
        found = outbound_traffic(timezone.now())
        assert (found.state, "has no certificate in PEM" in found.words) == ("broken", True)
    settings.OUTBOUND_PROXY = settings.OUTBOUND_CA_FILE = ""
    assert "reached directly" in outbound_traffic(timezone.now()).words
