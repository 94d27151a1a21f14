"""Contributors of one name stay apart on split sheets and on the forms of staff."""

from __future__ import annotations

import unicodedata
from datetime import datetime

import pytest
from django import forms
from django.utils import timezone

from contributors.forms.splits import SplitPartForm
from contributors.models import Contributor
from contributors.operations.people import register_contributor, register_holder
from contributors.queries.splits import named_split
from ledger.forms.fields import _named
from payouts.forms.payees import LinkForm
from tests.worlds import people

pytestmark = pytest.mark.django_db
LONG_AGO = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
DECOMPOSED = unicodedata.normalize("NFD", "Zoë")


def register(name: str, number: int) -> Contributor:
    user = people.user(f"zoe{number}@example.org", LONG_AGO)
    return register_contributor(
        user=user, kind="person", legal_name=f"{name} {number}", display_name=name, country="DE", at=LONG_AGO
    )


def test_an_accent_in_two_code_points_is_the_same_name() -> None:
    zoe = register(DECOMPOSED, 1)
    assert zoe.display_name == "Zoë"
    for typed in ("Zoë", DECOMPOSED, "zoë "):
        part = SplitPartForm({"contributor": typed, "share": "50"})
        assert part.is_valid(), part.errors
        assert part.cleaned_data["contributor"] == zoe


def test_the_number_tells_two_of_one_name_apart_in_every_form() -> None:
    first, second = register("Zoë", 1), register("zoë", 2)
    part = SplitPartForm({"contributor": "Zoë", "share": "50"})
    assert "number on their page People" in str(part.errors)
    holder = register_holder(
        contributor=first, label="Duo", parts={first: 600_000_000, second: 400_000_000}, effective_from=LONG_AGO,
        at=LONG_AGO,
    )  # fmt: skip
    shown = [name for name, _ in named_split(holder, timezone.now())]
    assert shown == [f"Zoë, {first.public_id}", f"zoë, {second.public_id}"]
    for name, expected in zip(shown, (first, second), strict=True):
        part = SplitPartForm({"contributor": name, "share": "50"})
        assert part.is_valid(), part.errors
        assert part.cleaned_data["contributor"] == expected
        assert _named(Contributor.objects.all(), "display_name", name, "contributor") == expected
    with pytest.raises(forms.ValidationError, match=str(second.public_id)):
        _named(Contributor.objects.all(), "display_name", "zOë", "contributor")
    links = LinkForm({"accounts": "\n".join(shown), "reason": "Twins"})
    assert links.is_valid(), links.errors
    assert links.cleaned_data["accounts"] == [first, second]
