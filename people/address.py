"""The address of the client behind a configured number of proxies."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str | None:
    """Read the client's IP address; None where the server knows none, as behind a Unix socket.

    Each proxy appends the address of its own client to X-Forwarded-For. With TRUSTED_PROXIES = N, the N-th entry from
    the right is the one that the outermost of our proxies wrote; a client can forge only entries left of it. A header
    that is too short or malformed did not come through our proxies: then the address of the connection counts.
    """
    direct = _address(request.META.get("REMOTE_ADDR", ""))
    proxies: int = settings.TRUSTED_PROXIES
    entries = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if proxies < 1 or len(entries) < proxies:
        return direct
    return _address(entries[-proxies]) or direct


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return None
