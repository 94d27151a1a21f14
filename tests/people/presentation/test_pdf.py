"""Names of every script print as they are written, and a paper is the same bytes again."""

from __future__ import annotations

import io
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import typst
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from people.presentation import glyphs
from people.presentation.pdf import (
    Column,
    Facts,
    Heading,
    Labelled,
    Lines,
    Paper,
    Row,
    Sum,
    Together,
    Words,
    pdf,
)
from tests.people.presentation.papers import NOT_DEFINED, edges_of, glyphs_of, numbers_of, spans_of, text_of

NAMES = {
    "Cyrillic": "Юлія Коваленко",
    "Greek": "Ελένη Παπαδοπούλου",
    "Czech": "Jiří Dvořák",
    "Polish": "Łukasz Żółć",
    "Romanian": "Ștefan Țepeș",
    "Vietnamese": "Nguyễn Thị Hồng Ánh",
    "Chinese": "李小龍",
    "Japanese": "田中 太郎",
    "Kana": "さくら ハナコ",
    "Korean": "김민준",
    "Arabic": "محمد صلاح",
    "Persian": "علی‌رضا",
    "Hebrew": "אברהם לוי",
    "Thai": "สมชาย ใจดี",
    "Hindi": "अनिता शर्मा",
    "emoji": "Ana 🎨",
}
# Scripts for which readers' programs find the text with repeated letters, though its glyphs are right.
MORE_NAMES = {
    "Bengali": "রবীন্দ্রনাথ ঠাকুর",
    "Tamil": "கமல் ஹாசன்",
    "Georgian": "შოთა რუსთაველი",
    "Armenian": "Արամ Խաչատրյան",
    "Amharic": "ኃይሌ ገብረሥላሴ",
}
MADE_AT = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def a_paper(name: str, **changes: Any) -> Paper:
    """A paper that says the name once in each kind of place but the foot."""
    made = Paper(
        title="Remittance advice",
        running="Payout 1",
        number="Payout 1",
        sender=("Tributary", "https://tributary.example"),
        recipient=(name,),
        blocks=(
            Sum("USD 12.34", "Sent to your bank."),
            Heading("Works"),
            Lines(
                (Column("Work", 2), Column("USD", 1, "amount")), (Row((name, "1.00")), Row(("Sum", "1.00"), total=True))
            ),
            Facts((("Name", name),)),
            Words("No more."),
        ),
    )
    return replace(made, **changes)


@pytest.mark.parametrize("script", NAMES)
def test_a_name_prints_as_it_is_written(script: str) -> None:
    name = NAMES[script]
    data = pdf(a_paper(name))
    drawn = numbers_of(data)
    assert len(drawn) > 100
    assert NOT_DEFINED not in drawn
    assert unicodedata.normalize("NFC", text_of(data)).replace("\u200c", "").count(name.replace("\u200c", "")) == 3


@pytest.mark.parametrize("script", MORE_NAMES)
def test_a_name_of_another_script_has_all_its_glyphs(script: str) -> None:
    assert glyphs.drawable(MORE_NAMES[script]) == unicodedata.normalize("NFC", MORE_NAMES[script])
    assert NOT_DEFINED not in numbers_of(pdf(a_paper(MORE_NAMES[script])))


def test_a_missing_glyph_would_be_found() -> None:
    """The measure of the test above sees an empty box."""
    compiler = typst.Compiler(font_paths=[str(path.parent) for path in glyphs.files()], ignore_system_fonts=True)
    data = compiler.compile('#set text(font: "Noto Sans", fallback: false)\nA 李 B'.encode(), format="pdf")
    assert isinstance(data, bytes)
    assert numbers_of(data).count(NOT_DEFINED) == 1


@pytest.mark.parametrize("script", ["Arabic", "Hebrew"])
def test_a_name_runs_from_right_to_left(script: str) -> None:
    lefts = [left for left, _ in spans_of(pdf(a_paper(NAMES[script])), NAMES[script].split()[0])]
    assert lefts == sorted(lefts, reverse=True)


@pytest.mark.parametrize("script", ["Greek", "Thai", "Korean"])
def test_a_name_runs_from_left_to_right(script: str) -> None:
    lefts = [left for left, _ in spans_of(pdf(a_paper(NAMES[script])), NAMES[script].split()[0])]
    assert lefts == sorted(lefts)


def test_arabic_letters_join() -> None:
    """One letter three times has three forms (initial, medial, final), in the bold face and in the regular one."""
    alone, joined = set(glyphs_of(pdf(a_paper("م")))), set(glyphs_of(pdf(a_paper("ممم"))))
    assert len(joined) == len(alone) + 2 * 2


def test_hindi_letters_form_clusters() -> None:
    """The letter r before a consonant becomes one mark above it: one glyph for two characters, at three places."""
    alone, clustered = list(glyphs_of(pdf(a_paper("म")))), list(glyphs_of(pdf(a_paper("र्म"))))
    assert len(clustered) == len(alone) + 3


def test_a_mixed_line_keeps_its_own_direction() -> None:
    """The mark at the end of a Hebrew title stands at its left."""
    title = "אברהם!"
    spans = spans_of(pdf(a_paper(title)), title)
    assert spans[-1][0] < min(left for left, _ in spans[:-1])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("𝄞 Clef", "[U+1D11E] Clef"),
        ("Ada\u202eLovelace", "Ada[U+202E]Lovelace"),
        ("\u3164", "[U+3164]"),
        ("a\u200bb", "a[U+200B]b"),
        ("a\tb", "a[U+0009]b"),
        ("\ue000", "[U+E000]"),
        ("a\ud800b", "a[U+D800]b"),
        ("ᏣᎳᎩ", "[U+13E3][U+13B3][U+13A9]"),
        ("soft\u00adhyphen", "soft[U+00AD]hyphen"),
        ("e\u0301", "é"),
    ],
)
def test_a_character_without_a_glyph_is_shown_by_its_code(name: str, shown: str) -> None:
    assert glyphs.drawable(name) == shown
    data = pdf(a_paper(name))
    assert NOT_DEFINED not in numbers_of(data)
    assert text_of(data).replace(" ", "").count(shown.replace(" ", "")) == 3


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30))
def test_any_text_prints_and_no_glyph_is_missing(text: str) -> None:
    assert NOT_DEFINED not in numbers_of(pdf(a_paper(text)))


def test_the_characters_that_are_taken_for_certain_are_in_the_fonts() -> None:
    certain = {number for number in range(0x10000) if glyphs._CERTAIN.fullmatch(chr(number))} - {ord("\n")}
    assert len(certain) > 30_000
    assert certain <= glyphs._characters(han=False) | glyphs._characters(han=True)
    assert all(unicodedata.is_normalized("NFC", chr(number)) for number in certain)


def test_markup_in_a_name_is_text() -> None:
    for name in ('#read("/etc/passwd")', "*bold* _it_ $x$ <a> [b] \\ @c // d", '"; #panic()', "<b>Ada</b> & Co"):
        assert text_of(pdf(a_paper(name))).count(name) == 3


def test_the_same_paper_is_the_same_bytes_and_another_is_not() -> None:
    names = "، ".join(NAMES.values())
    assert pdf(a_paper(names)) == pdf(a_paper(names))
    assert pdf(a_paper(names)) != pdf(a_paper(names + "."))


def test_a_file_has_the_date_that_it_is_given_and_none_of_its_own() -> None:
    dated = PdfReader(io.BytesIO(pdf(a_paper("Ada", made_at=MADE_AT)))).metadata
    undated = PdfReader(io.BytesIO(pdf(a_paper("Ada")))).metadata
    assert dated is not None
    assert undated is not None
    assert dated.creation_date == MADE_AT
    assert undated.creation_date is None
    assert (dated.title, dated.author) == ("Remittance advice", "Tributary")


def test_han_characters_take_the_form_of_the_reader_s_country() -> None:
    forms = {country: pdf(a_paper("骨直角", country=country)) for country in ("JP", "KR", "TW", "CN", "PL", "")}
    assert len(set(forms.values())) == 4
    assert forms["CN"] == forms["PL"] == forms[""]


def test_a_long_table_repeats_its_head_and_numbers_every_page() -> None:
    rows = tuple(Row((f"Work {n}", Labelled("1.00", "note"))) for n in range(120))
    columns = (Column("The work", 2), Column("USD", 1, "amount"))
    data = pdf(a_paper("Ada", blocks=(Together((Heading("Works"), Words("Some words."))), Lines(columns, rows))))
    pages = len(PdfReader(io.BytesIO(data)).pages)
    text = text_of(data)
    assert pages >= 4
    assert text.count("The work") == pages
    for number in range(1, pages + 1):
        assert f"Page {number} of {pages}" in text
    assert "Work 119" in text


def test_a_digest_stays_one_word() -> None:
    digest = "5f2c" * 16
    assert digest in text_of(pdf(a_paper("Ada", blocks=(Facts((("Root", digest),), "code"),))))


@pytest.mark.parametrize(
    "word",
    ["a" * 300, "W" * 90, "https://example.org/" + "path/" * 40, "محمد" * 40, "5f2c" * 60, "李" * 90, "สมชาย" * 30],
)
def test_a_long_word_stays_within_the_margins(word: str) -> None:
    narrow = tuple(Column(str(number), 1) for number in range(6))
    table = Lines(narrow, (Row((word, "", "", "", "", word)),))
    data = pdf(a_paper(word, title=word, blocks=(table, Facts(((word, word),), "code"))))
    left, right = edges_of(data)
    assert left > 56
    assert right < 595.28 - 56
    assert NOT_DEFINED not in numbers_of(data)
