"""The facts that a request carries about its sender."""

from __future__ import annotations

import time

from django.http import HttpRequest

from people.actor import Presence
from people.console.guard import second_factor_used_at


def presence_of(request: HttpRequest) -> Presence:
    """Where the person sits and how long ago the second factor was used: for the audit log and the step-up."""
    used_at = second_factor_used_at(request)
    return Presence(
        ip=request.META.get("REMOTE_ADDR") or None,
        mfa_age_seconds=int(time.time() - used_at) if used_at else None,
        request_id=str(request.headers.get("X-Request-ID", ""))[:64],
    )
