"""The passage shown beside a score."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from influence.evidence import shared_passage

FILLER = "one two three four five six seven eight nine ten " * 20


def test_the_passage_is_where_the_wording_is_shared() -> None:
    content = f"{FILLER}The quick brown fox jumps over the lazy dog. {FILLER}"
    passage = shared_passage(content, "They said that the QUICK brown fox, jumps!", window_words=12)
    assert "quick brown fox jumps" in passage.text
    shared = [part for part, is_shared in passage.parts if is_shared]
    assert shared == ["The quick brown fox jumps"]
    assert passage.cut_before
    assert passage.cut_after


def test_rare_wording_weighs_more_than_usual_wording() -> None:
    content = "of the people " * 50 + FILLER + "a rare gem of the deep " + FILLER
    passage = shared_passage(content, "of the people and a rare gem of the deep", window_words=10)
    assert "rare gem" in passage.text


def test_without_shared_wording_the_beginning_is_shown_and_nothing_marked() -> None:
    passage = shared_passage("Alpha beta gamma delta", "epsilon zeta", window_words=2)
    assert passage.text == "Alpha beta"
    assert not passage.has_shared_wording
    assert (passage.cut_before, passage.cut_after) == (False, True)


def test_single_words_in_common_are_no_shared_wording() -> None:
    assert not shared_passage("the senate met", "the house, a senate").has_shared_wording


def test_a_text_without_words_gives_an_empty_passage() -> None:
    assert shared_passage("... !!!", "of the people").parts == ()


@given(content=st.text(max_size=400), output=st.text(max_size=200), window_words=st.integers(1, 20))
def test_a_passage_is_a_stretch_of_the_content_and_no_longer_than_asked(
    content: str, output: str, window_words: int
) -> None:
    passage = shared_passage(content, output, window_words=window_words)
    assert passage.text in content
    assert len([part for part, _ in passage.parts]) <= 2 * window_words
