"""The demo's corpus: real, the same every time, and without the held-out items."""

from __future__ import annotations

import datetime
from itertools import pairwise

import pytest

from config.demo import corpus
from config.demo.corpus import AUTHORS, Address, Cut, cut_works, plant_copies, read_addresses, split_content


def words(text: str) -> list[int]:
    return [len(word) for word in text.split()]


@pytest.fixture(scope="module")
def works() -> tuple[Address, ...]:
    return read_addresses()


@pytest.fixture(scope="module")
def cut(works: tuple[Address, ...]) -> Cut:
    return cut_works(works, encode=words)


def test_there_are_eight_authors_with_their_own_addresses_before_1930(works: tuple[Address, ...]) -> None:
    assert {work.author for work in works} == set(AUTHORS)
    assert len({author.symbol for author in AUTHORS}) == 8
    assert all(work.date.year < 1930 for work in works)
    assert all(len(work.body) > 5_000 for work in works)
    assert len({work.body for work in works}) == len(works) == 54


def test_one_author_registered_little_and_so_earns_little(works: tuple[Address, ...]) -> None:
    washington = [work for work in works if work.author.symbol == "<|washington|>"]
    assert [work.date.year for work in washington] == [1790, 1790, 1791, 1792]
    assert sum(len(work.body) for work in washington) < corpus.CHARACTERS_MAX / 3


def test_surnames_that_repeat_are_not_mixed_up(works: tuple[Address, ...]) -> None:
    roosevelt = {work.date.year for work in works if work.author.symbol == "<|roosevelt|>"}
    assert roosevelt == set(range(1901, 1909))


def test_addresses_are_in_order_and_the_same_every_time(works: tuple[Address, ...]) -> None:
    assert works == read_addresses()
    assert all(
        (AUTHORS.index(one.author), one.date) < (AUTHORS.index(other.author), other.date)
        for one, other in pairwise(works)
    )


def test_the_author_and_the_body_are_found_again_in_the_content(works: tuple[Address, ...]) -> None:
    for work in works:
        assert split_content(work.content) == (work.author, work.body)


@pytest.mark.parametrize(
    "content", ["A text without a header.", "A title\nBy Nobody Known, 1800-01-01\n\nBody.", "One\n\nTwo", ""]
)
def test_a_content_without_one_of_our_by_lines_has_no_author(content: str) -> None:
    author, body = split_content(content)
    assert author is None
    assert content.endswith(body)


def test_items_are_whole_chunks_of_their_works(works: tuple[Address, ...], cut: Cut) -> None:
    for item in (*cut.items, *cut.held_out):
        assert item.token_end - item.token_start == corpus.ITEM_TOKENS
        assert item.token_start == item.ordinal * corpus.ITEM_TOKENS
        assert item.token_end <= len(words(works[item.work].body))


def test_what_is_held_out_is_not_trained_on_and_is_as_much_of_everybody(works: tuple[Address, ...], cut: Cut) -> None:
    assert not set(cut.items) & set(cut.held_out)
    assert len(set(cut.items)) == len(cut.items)
    by_author = [sum(works[item.work].author == author for item in cut.held_out) for author in AUTHORS]
    # The first author's few texts give fewer: never more than a quarter of somebody's is held out.
    assert by_author[1:] == [corpus.HELD_OUT_ITEMS] * 7
    assert 0 < by_author[0] <= sum(works[item.work].author == AUTHORS[0] for item in cut.items) / 3


def test_nobodys_items_cover_much_more_than_the_limit_of_text(works: tuple[Address, ...], cut: Cut) -> None:
    for author in AUTHORS:
        characters = sum(
            len(work.body) * covered / len(words(work.body))
            for number, work in enumerate(works)
            if work.author == author
            for covered in [sum(item.work == number for item in cut.items) * corpus.ITEM_TOKENS]
        )
        registered = sum(len(work.body) for work in works if work.author == author)
        assert 0.5 * min(corpus.CHARACTERS_MAX, registered) < characters < 1.02 * corpus.CHARACTERS_MAX


def test_the_cut_depends_on_its_seed_only(works: tuple[Address, ...], cut: Cut) -> None:
    assert cut == cut_works(works, encode=words) != cut_works(works, encode=words, seed=1)


def test_planted_copies_have_another_by_line_and_the_same_text(works: tuple[Address, ...]) -> None:
    planted = plant_copies(works)
    assert planted[: len(works)] == works
    copies = planted[len(works) :]
    assert len(copies) == 2
    bodies = {work.body: work.author for work in works}
    for copy in copies:
        assert copy.copied_from is not None
        assert bodies[copy.body] == copy.copied_from != copy.author
        assert split_content(copy.content)[0] == copy.author


def test_copies_are_trained_on_whole_and_change_nothing_of_the_rest(works: tuple[Address, ...], cut: Cut) -> None:
    planted = plant_copies(works)
    found = cut_works(planted, encode=words)
    assert set(cut.items) < set(found.items)
    assert found.held_out == cut.held_out
    extra = set(found.items) - set(cut.items)
    assert {item.work for item in extra} == {len(works), len(works) + 1}


def test_a_title_names_the_day(works: tuple[Address, ...]) -> None:
    assert works[0].title == "Annual message to Congress, 8 January 1790"
    assert works[0].date == datetime.date(1790, 1, 8)
