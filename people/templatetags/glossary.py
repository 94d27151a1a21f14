"""Tags for the glossary: a marked word on a page, and the list that it leads to."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from people.presentation.glossary import TERMS

register = template.Library()


@register.simple_tag
def term(name: str, text: str = "") -> SafeString:
    """`{% term "hold" "holds" %}`: the word as a link to its definition, which also shows as a tooltip.

    Raises KeyError for a word that the glossary does not have.
    """
    found = TERMS[name]
    return format_html(
        '<a class="term" href="{}#{}" title="{}">{}</a>',
        reverse("how_it_works"),
        found.anchor,
        found.definition,
        text or found.name,
    )


@register.inclusion_tag("people/partials/glossary.html")
def glossary() -> dict[str, Any]:
    """`{% glossary %}`: every word with its definition, in alphabetical order."""
    return {"terms": sorted(TERMS.values(), key=lambda found: found.name.lower())}
