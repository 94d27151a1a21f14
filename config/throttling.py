"""How often a model service may call; the settings name the rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from redis import RedisError
from rest_framework.throttling import ScopedRateThrottle

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView

log = structlog.get_logger(__name__)


class ServiceRateThrottle(ScopedRateThrottle):
    """Counts the calls of a service in the cache; lets each through, uncounted, while the cache does not answer.

    A report that is refused for want of a counter would be lost to its contributors.
    """

    def allow_request(self, request: Request, view: APIView) -> bool:
        try:
            return super().allow_request(request, view)
        except RedisError as error:
            log.warning("calls are not counted: the cache does not answer", error=repr(error))
            return True
