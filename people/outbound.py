"""The way out of this machine: a proxy and the company's certificate authority, for every client alike.

`OUTBOUND_PROXY` and `OUTBOUND_CA_FILE` are the only settings. Variables such as HTTPS_PROXY are not read, so that
nothing else in the environment comes between the product and Stripe. Hosts of this machine are always reached directly.
"""

from __future__ import annotations

import ipaddress
import ssl
from functools import lru_cache
from urllib.parse import unquote, urlsplit

import certifi
import urllib3
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


def proxy_for(url: str) -> str:
    """Return the proxy of a URL; empty where it is reached directly. Raises ImproperlyConfigured for a bad setting."""
    proxy = str(settings.OUTBOUND_PROXY)
    if not proxy:
        return ""
    parts = urlsplit(proxy)
    try:
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        raise ImproperlyConfigured("OUTBOUND_PROXY is no address such as http://proxy.internal:3128.")
    return "" if _is_here(urlsplit(url).hostname or "") else proxy


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def proxy_in_words() -> str:
    """The proxy without its password; empty for none."""
    proxy = proxy_for("https://api.stripe.com")
    parts = urlsplit(proxy)
    user = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{user}{parts.netloc.rpartition('@')[2]}" if proxy else ""


def proxy_manager(proxy: str, **options: object) -> urllib3.ProxyManager:
    """A pool of connections through the proxy, with the name and the password of its address."""
    parts = urlsplit(proxy)
    headers = {}
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=login)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(address, proxy_headers=headers, proxy_ssl_context=tls(), **options)  # type: ignore[arg-type]


def tls() -> ssl.SSLContext:
    """Check certificates by the public authorities (certifi) and by those of OUTBOUND_CA_FILE.

    Raises ImproperlyConfigured where the file has no certificate.
    """
    return _tls(certifi.where(), str(settings.OUTBOUND_CA_FILE))


def tls_of_system() -> ssl.SSLContext:
    """Check certificates by the authorities of the operating system and by those of OUTBOUND_CA_FILE, for mail."""
    return _tls("", str(settings.OUTBOUND_CA_FILE))


@lru_cache(maxsize=8)
def _tls(public: str, company: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=public or None)
    if company:
        try:
            context.load_verify_locations(cafile=company)
        except (OSError, ssl.SSLError) as error:
            raise ImproperlyConfigured(f"OUTBOUND_CA_FILE {company} has no certificate in PEM: {error}") from error
    return context
