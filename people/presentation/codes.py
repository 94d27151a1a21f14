"""Codes, such as names of states, in readable words."""

from __future__ import annotations

import re


def spaced(name: str) -> str:
    """A code such as `past_due.tax-form` in readable words, for a name that no table knows."""
    return re.sub(r"[._\-]+", " ", name).strip().lower()
