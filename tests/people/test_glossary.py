"""The glossary: twelve words, each with one definition, each marked on a page and reached by a key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.template import Context, Template
from django.test import Client

from people.presentation.glossary import TERMS

# Every page asks whether the programme is on trial.
pytestmark = pytest.mark.django_db
TEMPLATES = Path(__file__).resolve().parent.parent.parent / "templates"
WORDS = {
    "attribution",
    "base pool",
    "share",
    "matured",
    "sealed",
    "root",
    "LDS",
    "noise floor",
    "plan",
    "run",
    "hold",
    "reserve",
}


def test_the_glossary_has_these_words() -> None:
    assert set(TERMS) == WORDS


@pytest.mark.parametrize("word", sorted(WORDS))
def test_each_word_is_marked_on_a_page_and_leads_to_its_definition(word: str, client: Client) -> None:
    marked = [path for path in TEMPLATES.rglob("*.html") if f'{{% term "{word}"' in path.read_text()]
    assert marked, f"no template marks {word}"
    link = Template(f'{{% load glossary %}}{{% term "{word}" %}}').render(Context())
    # A link with an address is a stop of the keyboard; its title is the tooltip.
    found = re.fullmatch(r'<a class="term" href="/how-it-works/#(term-[a-z-]+)" title="([^"]+)">(.+)</a>', link, re.I)
    assert found, link
    page = client.get("/how-it-works/").content.decode()
    assert page.count(f'id="{found[1]}"') == 1
    assert found[2] in page


def test_a_word_that_the_glossary_lacks_is_an_error_of_the_template() -> None:
    with pytest.raises(KeyError):
        Template('{% load glossary %}{% term "flour pool" %}').render(Context())
