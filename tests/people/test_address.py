"""The client's address behind a configured number of proxies."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory

from people.address import client_address
from people.portal.accounts import AccountAdapter

DIRECT, CLIENT = "10.0.0.1", "203.0.113.7"


def address(settings: Any, proxies: int, header: str | None, direct: str = DIRECT) -> str | None:
    settings.TRUSTED_PROXIES = proxies
    sent: dict[str, Any] = {} if header is None else {"HTTP_X_FORWARDED_FOR": header}
    return client_address(RequestFactory().get("/", REMOTE_ADDR=direct, **sent))


@pytest.mark.parametrize(
    ("proxies", "header", "found"),
    [
        (0, None, DIRECT),
        (0, CLIENT, DIRECT),
        (1, CLIENT, CLIENT),
        # The client itself sent 8.8.8.8; the proxy appended the address that it saw.
        (1, f"8.8.8.8, {CLIENT}", CLIENT),
        (2, f"8.8.8.8, {CLIENT}, 10.0.0.2", CLIENT),
        (2, CLIENT, DIRECT),
        (1, None, DIRECT),
        (1, "", DIRECT),
        (1, "nonsense", DIRECT),
        (1, f"{CLIENT}, <script>", DIRECT),
        (1, f"{CLIENT},", DIRECT),
        (1, "2001:db8::7", "2001:db8::7"),
    ],
)
def test_the_address_is_that_of_the_outermost_trusted_proxy(
    settings: Any, proxies: int, header: str | None, found: str
) -> None:
    assert address(settings, proxies, header) == found


def test_an_unknown_address_is_none_and_logs_nobody_in(settings: Any) -> None:
    assert address(settings, 0, CLIENT, direct="") is None
    with pytest.raises(PermissionDenied):
        AccountAdapter().get_client_ip(RequestFactory().get("/", REMOTE_ADDR=""))


def test_log_ins_are_counted_by_the_same_address(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    request = RequestFactory().get("/", REMOTE_ADDR=DIRECT, HTTP_X_FORWARDED_FOR=f"8.8.8.8, {CLIENT}")
    assert AccountAdapter().get_client_ip(request) == CLIENT
