"""The fonts of our PDFs and the characters that they can draw: Noto Sans, under the SIL Open Font License 1.1."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path

import manimgx_fonts
import manimgx_fonts_cjk

# The first family that has a character draws it.
SCRIPTS = (
    "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Thai", "Noto Sans Devanagari", "Noto Sans Armenian",
    "Noto Sans Bengali", "Noto Sans Ethiopic", "Noto Sans Georgian", "Noto Sans Gujarati", "Noto Sans Gurmukhi",
    "Noto Sans Kannada", "Noto Sans Khmer", "Noto Sans Lao", "Noto Sans Malayalam", "Noto Sans Myanmar",
    "Noto Sans Oriya", "Noto Sans Sinhala", "Noto Sans Tamil", "Noto Sans Telugu", "Noto Sans Symbols", "Noto Emoji",
)  # fmt: skip
HAN = {
    "JP": "Noto Sans CJK JP",
    "KR": "Noto Sans CJK KR",
    "KP": "Noto Sans CJK KR",
    "HK": "Noto Sans CJK HK",
    "MO": "Noto Sans CJK HK",
    "TW": "Noto Sans CJK TC",
}
HAN_ELSEWHERE = "Noto Sans CJK SC"

# Blanks that look like nothing: a name made of them would be invisible.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f")
# Invisible characters that shaping needs: joiners, marks of direction, variants of a glyph.
_SHAPING = frozenset("\n\u200c\u200d\u200e\u200f\u061c" + "".join(map(chr, range(0xFE00, 0xFE10))))
# Characters that need no look into a font: reading the Han font takes half a second. A test compares them with it.
_CERTAIN = re.compile(
    r"[ -~\n\u00a1-\u00ac\u00ae-\u017e\u0410-\u044f\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3]*"
)
_FORMATTING = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def families(country: str = "") -> list[str]:
    """List the font families in the order in which they are tried. `country` (ISO 3166) chooses the Han forms."""
    return ["Noto Sans", HAN.get(country, HAN_ELSEWHERE), *SCRIPTS]


def files() -> list[Path]:
    """List the font files."""
    folders = (Path(package.__file__ or "").parent for package in (manimgx_fonts, manimgx_fonts_cjk))
    return sorted(path for folder in folders for path in folder.iterdir() if path.suffix in {".ttf", ".ttc", ".otf"})


def drawable(text: str) -> str:
    """Return the text composed (NFC), each character without a glyph replaced by its code, such as [U+1D11E]."""
    if _CERTAIN.fullmatch(text):
        return text
    return "".join(
        character if _drawn(character) else code(character) for character in unicodedata.normalize("NFC", text)
    )


def code(character: str) -> str:
    """Write a character by its code: "[U+0410]"."""
    return f"[U+{ord(character):04X}]"


def _drawn(character: str) -> bool:
    if _CERTAIN.fullmatch(character) or character in _SHAPING:
        return True
    if character in _BLANK or unicodedata.category(character) in _FORMATTING:
        return False
    # The Han font alone takes longer to read than all others together.
    return ord(character) in _characters(han=False) or ord(character) in _characters(han=True)


@cache
def _characters(*, han: bool) -> frozenset[int]:
    """Read the code points that the fonts have a glyph for. A slow module is imported for the rare name."""
    from fontTools.ttLib import TTFont

    found: set[int] = set()
    for path in files():
        if (path.suffix == ".ttc") == han:
            # The faces of a collection draw the same characters in different forms.
            with TTFont(path, fontNumber=0 if han else -1, lazy=True) as font:
                found.update(font.getBestCmap())
    return frozenset(found)
