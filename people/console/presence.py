"""The presence of the sender of a request: address, age of the second factor, identifier of the request."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from people.actor import PRESENT, Presence
from people.address import client_address
from people.console.guard import second_factor_used_at


def presence_of(request: HttpRequest) -> Presence:
    """Read the client's address and the age of the second factor, for the audit log and the step-up."""
    used_at = second_factor_used_at(request, for_money=True) if request.user.is_authenticated else 0.0
    return Presence(
        ip=client_address(request),
        mfa_age_seconds=int(time.time() - used_at) if used_at else None,
        request_id=str(request.headers.get("X-Request-ID", ""))[:64],
    )


class RememberPresence:
    """Lets the audit log read the presence of the request in progress, at most once and only when an act is logged."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        token = PRESENT.set(functools.cache(functools.partial(presence_of, request)))
        try:
            return self.get_response(request)
        finally:
            PRESENT.reset(token)
