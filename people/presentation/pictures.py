"""Answers that carry the bytes of pictures and recordings: a browser shows them, and runs nothing in them."""

from __future__ import annotations

from django.http import HttpResponse

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Opened as a page of its own, a file made to be two things at once has no script, no form and no origin.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "Cache-Control": "private, max-age=300",
}


def answer(data: bytes, media_type: str) -> HttpResponse:
    """Send bytes as this type, to the logged-in reader alone."""
    return HttpResponse(data, content_type=media_type, headers=HEADERS)
