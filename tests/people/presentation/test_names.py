"""Names: characters that nobody sees are refused, names of every script are taken, look-alikes are pointed out."""

from __future__ import annotations

import unicodedata

import pytest

from people.presentation import names

INVISIBLE = {
    "zero width space": "\u200b",
    "hangul filler": "\u3164",
    "half-width hangul filler": "\uffa0",
    "choseong filler": "\u115f",
    "byte-order mark": "\ufeff",
    "word joiner": "\u2060",
    "soft hyphen": "\u00ad",
    "braille blank": "\u2800",
    "tag": "\U000e0041",
    "right-to-left override": "\u202e",
    "isolate": "\u2067",
    "arabic letter mark": "\u061c",
    "grapheme joiner": "\u034f",
    "khmer vowel": "\u17b4",
    "variation selector": "\ufe0f",
    "joiner in Latin": "\u200d",
    "private use": "\ue000",
    "tab": "\t",
    "line end": "\n",
    "null": "\x00",
}


@pytest.mark.parametrize("what", INVISIBLE)
@pytest.mark.parametrize("pattern", ["{}", "Ada{} Lovelace", "{}Ada", "Ada{}"])
def test_a_character_that_nobody_sees_is_refused_by_name(what: str, pattern: str) -> None:
    text = pattern.format(INVISIBLE[what])
    assert names.why_not(text)
    if pattern != "{}" and what not in {"line end"}:
        assert f"U+{ord(INVISIBLE[what]):04X}" in names.why_not(text)


@pytest.mark.parametrize(
    "name",
    [
        "Zoë Łęcka-Ørsted", "Nguyễn Văn Ánh", "Ωραία", "Юлия", "علی‌رضا", "أحمد", "ธนพล", "क्‍ष", "葛󠄀城", "山田 太郎",
        "김철수", "שלום", "O’Neill & Söhne (王)", "!!!", "4hero", "José María",
    ],
)  # fmt: skip
def test_a_name_of_any_script_is_taken(name: str) -> None:
    assert names.why_not(names.composed(name)) == ""
    assert names.mixed_scripts(name) == ""


def test_two_spellings_of_one_name_are_one() -> None:
    decomposed = unicodedata.normalize("NFD", "  Zoë\u00a0 Müller ")
    assert names.composed(decomposed) == "Zoë Müller"


@pytest.mark.parametrize("name", ["Аda Lovelace", "Αda", "Pаypаl GmbH"])
def test_a_word_of_mixed_scripts_is_pointed_out(name: str) -> None:
    assert "mixes letters of" in names.mixed_scripts(name)
    assert names.why_not(name) == ""


def test_names_of_one_appearance_share_a_shape() -> None:
    assert names.shape("Аdа") == names.shape("ADA") == names.shape("A\u200bda")
    assert names.shape("Ada") != names.shape("Ida")
