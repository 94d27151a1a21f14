"""How often a model service may call; the settings name the rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from redis import RedisError
from rest_framework.throttling import ScopedRateThrottle

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Allowance:
    """The calls that a service may make in `window` seconds, those left, and the seconds until one is free again."""

    limit: int
    window: int
    left: int
    reset: int


class ServiceRateThrottle(ScopedRateThrottle):
    """Counts the calls of a service in the cache; lets each through, uncounted, while the cache does not answer.

    A report that is refused for want of a counter would be lost to its contributors. The allowance is left on the
    request, where a middleware reads it for the answer's headers.
    """

    def allow_request(self, request: Request, view: APIView) -> bool:
        try:
            allowed = super().allow_request(request, view)
        except RedisError as error:
            log.warning("calls are not counted: the cache does not answer", error=repr(error))
            return True
        # The base class sets these while it counts; a view without a rate is not counted.
        state = vars(self)
        if "history" in state:
            limit, window, now, history = (state[name] for name in ("num_requests", "duration", "now", "history"))
            oldest = history[-1] if history else now
            request._request.allowance = Allowance(  # type: ignore[attr-defined]
                limit=limit,
                window=window,
                left=max(0, limit - len(history)),
                reset=max(0, math.ceil(window - (now - oldest))),
            )
        return allowed
