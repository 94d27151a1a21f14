"""The worked example of *How it works*: computed by hand here, by the rule there."""

from __future__ import annotations

import pytest
from django.test import Client

from attribution.queries.examples import shares_by_items


def test_the_example_is_what_the_formula_gives() -> None:
    shown = shares_by_items()
    assert shown.threshold == 4
    assert [(row.holder, row.score, row.excess, row.pay) for row in shown.rows] == [
        ("Ada", 9, 5, 5),
        ("Bo", 7, 3, 1.5),
        ("Ada", 4, 0, 0),
        ("Cy", 3, 0, 0),
    ]
    assert [row.share for row in shown.rows] == [
        pytest.approx(5e9 / 6.5, abs=2),
        pytest.approx(1.5e9 / 6.5, abs=2),
        0,
        0,
    ]
    assert sum(row.share for row in shown.rows) == 10**9


@pytest.mark.django_db
def test_how_it_works_shows_the_example(client: Client) -> None:
    page = client.get("/how-it-works/").content.decode()
    assert "the 2 best of 4 items are paid, for what exceeds 4" in page
    assert "76.9" in page
