"""How the state of a dispute is shown."""

from __future__ import annotations

from django import template

register = template.Library()
TONES = {"open": "warn", "upheld": "good", "declined": "neutral", "withdrawn": "neutral"}


@register.filter
def dispute_tone(state: str) -> str:
    """`{% badge state|dispute_tone words %}`"""
    return TONES[state]
