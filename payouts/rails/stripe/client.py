"""The Stripe clients, and the last check before a request is written to the socket.

The SDK never retries a request of an attempt: retrying is the business of the attempt's state machine. The socket takes
its slot of the limiter immediately before it writes, for every caller and each retry of the SDK. Then it asks `Guard`.
A worker that was stopped and woken later must not pay. The written bytes must be those that were committed beforehand.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests
import stripe
from django.conf import settings
from django.utils import timezone
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from payouts.crashpoints import CrashPoint, crashpoint
from payouts.rails.stripe import limiter
from payouts.rails.stripe.errors import Action, UnableToSend, UnableToUseStripe
from people import outbound
from people.operations.programme import UnableToUseLiveKey, note_live_key
from people.queries.programme import LIVE_KEYS

CONNECT_SECONDS_MAX = 5.0
READ_SECONDS_MAX = 30.0
CONNECTIONS_MAX = 64
STRIPE = "https://api.stripe.com"
# Of the SDK, each under the same idempotency key.
RETRIES = 2

stripe.enable_telemetry = False
stripe.set_app_info("Tributary", version=settings.VERSION)


def boot_clock() -> float:
    """Seconds since boot, time asleep included: a lease runs on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Guard:
    """Until when (by `boot_clock`) the request may be written, and the digest of its body."""

    deadline: float
    body_sha256: bytes
    refused: str = ""
    differs: bool = False
    written: bool = False


_current = threading.local()


@contextlib.contextmanager
def guarded(guard: Guard) -> Iterator[None]:
    _current.guard = guard
    try:
        yield
    finally:
        _current.guard = None


class _Refused(Exception):
    """Raised on the socket's side; the guard says why."""


def bucket_of(method: str) -> str:
    """Return the bucket of a method: Stripe counts reads and writes apart."""
    return "read" if method == "GET" else "write"


class _GuardedConnection:
    """Mixed into urllib3's connections: connect first, then ask the guard, then write."""

    sock: Any

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **kwargs: Any) -> None:
        guard: Guard | None = getattr(_current, "guard", None)
        if self.sock is None:
            # Connecting takes up to five seconds, which must not pass between the slot and the write.
            self.connect()  # type: ignore[attr-defined]
        if guard is None:
            limiter.take(limiter.limit(bucket_of(method)))
        else:
            self._ask(guard, method, body)
        super().request(method, url, body=body, headers=headers, **kwargs)  # type: ignore[misc]

    def _ask(self, guard: Guard, method: str, body: Any) -> None:
        sent = body.encode() if isinstance(body, str) else bytes(body or b"")
        if hashlib.sha256(sent).digest() != guard.body_sha256:
            guard.refused = "The request differs from the one that was written down."
            guard.differs = True
            raise _Refused
        try:
            wait_seconds_max = max(guard.deadline - boot_clock(), 0.0)
            limiter.take(limiter.limit(bucket_of(method)), wait_seconds_max=wait_seconds_max)
        except limiter.UnableToTakeSlot as error:
            guard.refused = str(error)
            raise _Refused from error
        crashpoint(CrashPoint.LIMITER_PASSED)
        if boot_clock() > guard.deadline:
            guard.refused = "It is too late in the lease to write to the socket."
            raise _Refused
        guard.written = True

    def getresponse(self) -> Any:
        if getattr(_current, "guard", None) is not None:
            crashpoint(CrashPoint.REQUEST_SENT)
        return super().getresponse()  # type: ignore[misc]


class _HTTP(_GuardedConnection, HTTPConnection):
    pass


class _HTTPS(_GuardedConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=outbound.tls(), **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pools of a proxy. The guard stands before the socket of each, as without a proxy."""
        tls = outbound.tls()
        manager = super().proxy_manager_for(proxy, ssl_context=tls, proxy_ssl_context=tls, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def _session(base: str) -> requests.Session:
    session = requests.Session()
    # requests itself must not try again either.
    adapter = _Adapter(pool_connections=4, pool_maxsize=CONNECTIONS_MAX, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    # A proxy or .netrc of the environment has no business between us and Stripe.
    session.trust_env = False
    if proxy := outbound.proxy_for(base):
        session.proxies = {"http": proxy, "https": proxy}
    return session


_clients: dict[tuple[Any, ...], stripe.StripeClient] = {}
_lock = threading.Lock()


_noted = threading.Event()


def _note_live_key() -> None:
    """Before the first call of a process with a live key: refused while one person tries the programme out.

    Once it is noted, that mode can never begin, so that one look a process is enough.
    """
    if _noted.is_set():
        return
    try:
        note_live_key(at=timezone.now())
    except UnableToUseLiveKey as error:
        raise UnableToUseStripe(str(error), http_status=401) from error
    _noted.set()


def _client(key: str, retries: int) -> stripe.StripeClient:
    if not key:
        raise UnableToUseStripe("No Stripe key is set (STRIPE_SECRET_KEY).", http_status=401)
    if key.startswith(LIVE_KEYS):
        _note_live_key()
    base = settings.STRIPE_API_BASE
    # requests.Session is not made for several threads, so each thread has its own.
    name = (threading.get_ident(), key, retries, base, settings.OUTBOUND_PROXY, settings.OUTBOUND_CA_FILE)
    with _lock:
        if name not in _clients:
            _clients[name] = stripe.StripeClient(
                key,
                max_network_retries=retries,
                http_client=stripe.RequestsClient(
                    timeout=(CONNECT_SECONDS_MAX, READ_SECONDS_MAX), session=_session(base or STRIPE)
                ),
                base_addresses={"api": base} if base else {},
            )
        return _clients[name]


def is_live() -> bool:
    """Tell whether this installation moves real money: told by its key, as Stripe's own are."""
    return str(settings.STRIPE_SECRET_KEY).startswith(("sk_live_", "rk_live_"))


def sender() -> stripe.StripeClient:
    """Return the client for the payments and reversals of an attempt: the restricted key with that right, and no
    retry."""
    return _client(settings.STRIPE_SECRET_KEY, 0)


def writer() -> stripe.StripeClient:
    """Return the client for set-up calls that somebody waits for: it retries a connection that broke on the way."""
    return _client(settings.STRIPE_SECRET_KEY, RETRIES)


def reader() -> stripe.StripeClient:
    """Return the client for GETs: the key that can only read, with the SDK's retries."""
    return _client(settings.STRIPE_READ_KEY or settings.STRIPE_SECRET_KEY, RETRIES)


@contextlib.contextmanager
def our_errors(bucket: str, guard: Guard | None = None) -> Iterator[None]:
    """Translate Stripe's exceptions to ours, with the verdict of the error table; everybody slows down where it says
    so.

    Raises UnableToUseStripe or a subclass; UnableToSend where the guard refused before anything was written.
    """
    try:
        yield
    except stripe.StripeError as error:
        if guard is not None and guard.refused and not guard.written:
            raise UnableToSend(guard.refused, differs=guard.differs) from error
        headers = {str(name).lower(): value for name, value in (error.headers or {}).items()}
        body: dict[str, Any] = error.json_body if isinstance(error.json_body, dict) else {}
        described: dict[str, Any] = body.get("error") or {}
        ours = UnableToUseStripe(
            str(error.user_message or error),
            http_status=error.http_status,
            code=error.code or described.get("code"),
            kind=described.get("type"),
            replayed=headers.get("idempotent-replayed") == "true",
        )
        if ours.verdict.action == Action.SLOW_DOWN:
            with contextlib.suppress(limiter.UnableToTakeSlot):
                limiter.slow_down(limiter.limit(bucket))
        raise ours from error
