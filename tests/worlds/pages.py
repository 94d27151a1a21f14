"""The text of pages and answers, as a reader or a service sees them."""

from __future__ import annotations

import html
import re
from typing import Any

from django.test import Client

from attribution.models import Generation
from people.console.confirmation import SHOWN
from tests.worlds.programme import Programme


def text_of(content: bytes) -> str:
    """Return the page's text as a reader sees it."""
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", content.decode()).split()))


def sure(client: Client, address: str, given: dict[str, Any], **how: Any) -> Any:
    """Send a form, look at the figures that the product read, and send it on."""
    asked = client.post(address, given, **how)
    if "people/second_look.html" not in [template.name for template in asked.templates]:
        return asked
    return client.post(address, given | {SHOWN: asked.context["shown"]}, **how)


def receipt_page(programme: Programme, place: int = 0, generation: int = 0) -> str:
    response = programme.client(place).get(f"/portal/receipts/{programme.generations[generation].pk}/")
    assert response.status_code == 200
    return text_of(response.content)


def receipt_over_api(programme: Programme, generation: Generation | str, *, key: str = "", place: int = 0) -> Any:
    number = generation if isinstance(generation, str) else generation.pk
    return Client(headers={"Host": "127.0.0.1"}).get(
        f"/api/v1/generations/{number}", headers={"Authorization": f"Bearer {key or programme.keys[place]}"}
    )
