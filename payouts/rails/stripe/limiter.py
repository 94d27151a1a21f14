"""One limit on requests to Stripe for all workers together, kept in Valkey.

Requests are given slots, `1 / rate` apart with a small burst, and the caller sleeps until its slot. After a 429 the
rate halves and climbs back slowly. A slot is good for a moment only. A late caller (the worker was stopped, or the
machine was busy) takes another slot, so that slots missed together are not used together. That moment is so short that
no second, wherever it begins, sees more than PER_SECOND_MAX requests: rate x (1 + moment) + burst + 1.

Stripe's limit is 100 reads and 100 writes a second in live mode. Where Valkey does not answer, nothing is sent. The
attempt is written down already, and goes out under its key once there is a limiter again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass

import redis
from django.conf import settings
from django.db import connection

# The numbered database of the cache's server that holds the limits.
DATABASE = 2
BURST = 2
PER_SECOND_MAX = 100
# A slot is good for this long at most, and no shorter than a thread needs that waits for its turn among others.
LATE_SECONDS_MAX = 0.2
LATE_SECONDS_MIN = 0.02
RATE_MIN = 2.0
# How fast the rate climbs back after a 429, in requests a second for each second.
RECOVERY_PER_SECOND = 2.0

# KEYS: the bucket. ARGV: rate, burst, longest wait in microseconds, recovery. Returns microseconds to wait, or -1.
_TAKE = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local rate, wait_max = tonumber(ARGV[1]), tonumber(ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 'next', 'rate', 'since')
if kept[2] then
  rate = math.min(rate, tonumber(kept[2]) + tonumber(ARGV[4]) * (now - tonumber(kept[3])) / 1000000)
end
local interval = 1000000 / rate
-- Of an unknown past the worst is assumed: a second full of requests, or slots promised by a server that forgot them.
local next = math.max(tonumber(kept[1]) or now + 1000000, now - tonumber(ARGV[2]) * interval)
local wait = math.max(next - now, 0)
if wait > wait_max then return -1 end
redis.call('HSET', KEYS[1], 'next', string.format('%.0f', next + interval))
redis.call('PEXPIRE', KEYS[1], 3600000)
return string.format('%.0f', wait)
"""
# KEYS: the bucket. ARGV: rate, lowest rate, recovery. Halves the present rate.
_SLOW_DOWN = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local rate = tonumber(ARGV[1])
local kept = redis.call('HMGET', KEYS[1], 'rate', 'since')
if kept[1] then
  -- One burst of refusals is one reason to slow down, not twenty.
  if now - tonumber(kept[2]) < 500000 then return 0 end
  rate = math.min(rate, tonumber(kept[1]) + tonumber(ARGV[3]) * (now - tonumber(kept[2])) / 1000000)
end
redis.call('HSET', KEYS[1], 'rate', math.max(rate / 2, tonumber(ARGV[2])), 'since', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], 3600000)
return 1
"""


class UnableToTakeSlot(Exception):
    """No slot within the time allowed, or no answer from Valkey. Nothing may be sent."""

    status = 503
    problem = "limiter-has-no-slot"


@dataclass(frozen=True)
class Limit:
    """The limit of one kind of request."""

    name: str
    per_second: float

    @property
    def late_seconds_max(self) -> float:
        """Return the seconds for which a slot is good. Of rates above 95 no moment would keep PER_SECOND_MAX; they are
        for servers that have no such limit."""
        if self.per_second > PER_SECOND_MAX:
            return LATE_SECONDS_MAX
        spare = (PER_SECOND_MAX - BURST - 1) / self.per_second - 1
        return min(max(spare, LATE_SECONDS_MIN), LATE_SECONDS_MAX)


def limit(name: str) -> Limit:
    return Limit(name, settings.STRIPE_REQUESTS_PER_SECOND)


_clients: dict[str, redis.Redis] = {}
_lock = threading.Lock()


def _client() -> redis.Redis:
    url = settings.CACHE_URL
    with _lock:
        if url not in _clients:
            pool = redis.ConnectionPool.from_url(url, socket_timeout=5, socket_connect_timeout=5)
            # Beside the cache, not in it: emptying the cache must not forget the promised slots.
            pool.connection_kwargs["db"] = DATABASE
            _clients[url] = redis.Redis(connection_pool=pool)
        return _clients[url]


def _key(bucket: str) -> str:
    account = hashlib.sha256(settings.STRIPE_SECRET_KEY.encode()).hexdigest()[:16]
    return f"tributary:limit:{connection.settings_dict['NAME']}:{account}:{bucket}"


def take(bucket: Limit, *, wait_seconds_max: float = 20.0) -> None:
    """Wait for a slot, at most `wait_seconds_max` seconds. Raises UnableToTakeSlot when there is none in time: then
    nothing may be sent."""
    give_up = time.monotonic() + wait_seconds_max
    while True:
        asked = time.monotonic()
        left = max(give_up - asked, 0.0)
        try:
            wait = (
                float(
                    _client().eval(
                        _TAKE,
                        1,
                        _key(bucket.name),
                        str(bucket.per_second),
                        str(BURST),
                        str(int(left * 1e6)),
                        str(RECOVERY_PER_SECOND),
                    )
                )
                / 1e6
            )
        except redis.RedisError as error:
            raise UnableToTakeSlot(f"The limiter did not answer: {error}") from error
        if wait < 0:
            raise UnableToTakeSlot(f"No slot for a request to Stripe within {wait_seconds_max:.0f} s.")
        # The wait was counted from a moment between asking and now. From now it is never too short; measured from the
        # asking it is never called punctual when it was late.
        time.sleep(wait)
        if time.monotonic() - (asked + wait) <= bucket.late_seconds_max:
            return


def slow_down(bucket: Limit) -> None:
    """Halve the rate for everybody, after Stripe answered 429. Raises UnableToTakeSlot where Valkey does not answer."""
    try:
        _client().eval(
            _SLOW_DOWN, 1, _key(bucket.name), str(bucket.per_second), str(RATE_MIN), str(RECOVERY_PER_SECOND)
        )
    except redis.RedisError as error:
        raise UnableToTakeSlot(f"The limiter did not answer: {error}") from error
