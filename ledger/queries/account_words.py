"""Accounts in words: the title of a kind, and the names of owners."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet
from django.urls import reverse
from django.utils.html import format_html

from attribution.models import ModelService
from contributors.models import Contributor


def kind_title(kind: str) -> str:
    return kind.replace("_", " ").capitalize()


def owners_in_words(owners: Iterable[str]) -> dict[str, str]:
    """Owners in words: a contributor or model service by name, anything else as the account has it."""
    known = set(owners)
    words = {owner: owner.replace(":", " ") for owner in known}
    named: list[tuple[str, QuerySet[Any], str]] = [
        ("contributor", Contributor.objects.all(), "display_name"),
        ("service", ModelService.objects.all(), "name"),
    ]
    for word, rows, name in named:
        numbers = {int(owner.partition(":")[2]): owner for owner in known if owner.startswith(f"{word}:")}
        found: Iterable[Any] = rows.filter(pk__in=numbers).values_list("pk", name)
        words |= {numbers[number]: text for number, text in found}
    return words


def entry_link(entry_id: int | None) -> str:
    """Link to the page of an entry; "" for none."""
    if entry_id is None:
        return ""
    return format_html('<a href="{}">{}</a>', reverse("ledger:entry", args=[entry_id]), entry_id)
