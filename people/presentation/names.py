"""Names of people as they are stored and compared: composed, on one line, without characters that nobody sees.

Look-alikes are legal names in some scripts, so that they are pointed out and never refused.
"""

from __future__ import annotations

import re
import unicodedata

# Letters and marks without a shape: fillers of Hangul and Khmer, the joiner of graphemes, the blank of Braille.
_SHAPELESS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Controls, line ends, private characters, and formats: zero-width spaces, soft hyphens, directions, tags.
_REFUSED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
# Scripts in which a joiner changes the shape of its neighbours.
_JOINED = (
    "ARABIC", "SYRIAC", "NKO", "MANDAIC", "MONGOLIAN", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI", "ORIYA",
    "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "KHMER", "MYANMAR", "TIBETAN",
)  # fmt: skip
_LOOK_ALIKE_SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"})
# Letters of Cyrillic, Greek and Armenian with the shape of a Latin one (Unicode Technical Standard 39).
_SHAPES = str.maketrans(
    "аеорсухіјѕԁԛԝһӏѵАВЕКМНОРСТУХІЈЅԌԚԜҮαινορυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲօսոհցՕՍ",
    "aeopcyxijsdqwhlvABEKMHOPCTYXIJSGQWYaivopuxABEZHIKMNOPTYXcouuhgOU",
)


def composed(text: str) -> str:
    """Compose accents (NFC), and write every run of spaces as one space: two spellings of a name become one."""
    folded = re.sub(r"[\s\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+", " ", unicodedata.normalize("NFC", text))
    return folded.strip()


def unseen(text: str) -> str:
    """Name the first character of a text that nobody sees, such as "U+200B ZERO WIDTH SPACE"; "" for none.

    A joiner between letters that it shapes is seen, and so is a variant of an ideograph.
    """
    for place, character in enumerate(text):
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        if character in _JOINERS and _shapes(before) and _shapes(after):
            continue
        variant = "\U000e0100" <= character <= "\U000e01ef"
        if variant and unicodedata.name(before or " ", "").startswith("CJK"):
            continue
        selector = variant or "\ufe00" <= character <= "\ufe0f" or "\u180b" <= character <= "\u180d"
        if selector or character in _SHAPELESS or unicodedata.category(character) in _REFUSED:
            return f"U+{ord(character):04X} {unicodedata.name(character, 'control character')}"
    return ""


def why_not(text: str) -> str:
    """Return the reason that keeps a composed text from being a name; "" for a name."""
    if "\n" in text or "\r" in text:
        return "A name stands on one line."
    if found := unseen(text):
        return f"A name has no characters that nobody sees, such as {found}. Type the name again without it."
    if text and not any(unicodedata.category(character)[0] in "LNPS" for character in text):
        return "A name has a character that people see."
    return ""


def mixed_scripts(text: str) -> str:
    """Describe a word that mixes scripts with look-alike letters, such as a Cyrillic letter in a Latin word; or ""."""
    for word in re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", text)):
        scripts = sorted({_script(letter) for letter in word} & _LOOK_ALIKE_SCRIPTS)
        if len(scripts) > 1:
            return f"“{word}” mixes letters of {' and '.join(name.capitalize() for name in scripts)}"
    return ""


def shape(text: str) -> str:
    """Return a key that names of one appearance share: letters of other scripts as their Latin look-alikes."""
    plain = unicodedata.normalize("NFKC", composed(text)).translate(_SHAPES).casefold()
    return "".join(c for c in plain if unicodedata.category(c) not in _REFUSED and c not in _SHAPELESS)


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _shapes(neighbour: str) -> bool:
    return bool(neighbour) and unicodedata.name(neighbour, "").startswith(_JOINED)
