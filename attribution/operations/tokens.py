"""Reported token ids against the reported text, without the model: only its tokeniser's file is read.

Services report an output's text and its tokens. The tokens decide the payees, and people read the text. They must
therefore say the same. A file that decodes is looked for in a model's directory when it is registered, and held against
the model's own tokeniser once. Where there is none, the worker compares, with the model in its hands.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from influence.adapters import LoadedModel

Decode = Callable[[Sequence[int]], str]
HUGGING_FACE, SENTENCEPIECE = "tokenizer.json", "tokenizer.model"
SAMPLE = "The lamp of the old harbour, lit in 1908 — and paid for by nobody."
SHOWN_CHARACTERS = 24
# A stop sequence that a service leaves out of the text stays in its tokens.
TAIL_CHARACTERS_MAX = 32
OPENED_MAX = 32
_SYMBOLS = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:pad|unk|bos|eos|mask)>|\[(?:CLS|SEP|PAD|UNK|MASK)\]")
# Stands for a character that the tokens cannot say: an unknown piece, or a part of a character.
_UNSAID = re.compile("[\u2047\ufffd]+")
_GAP = "\ue000"
_SPACES = re.compile(r"\s+")


def difference(text: str, decoded: str) -> str:
    """Say where decoded tokens differ from the text; "" where they agree.

    Aside are special symbols, spaces, case, compatible forms of characters, characters that the tokens cannot say, and
    a short tail of the tokens, as of a stop sequence.
    """
    said, rest = _plain(_SYMBOLS.sub("", text)), _plain(_UNSAID.sub(_GAP, _SYMBOLS.sub("", decoded)))
    at = 0
    parts = rest.split(_GAP)
    for number, part in enumerate(parts):
        part = part.strip()
        if number == 0:
            agreed = _common(said, part)
            over = len(part) - agreed
            if over and not (agreed == len(said) and over <= TAIL_CHARACTERS_MAX and len(parts) == 1):
                return _words(said, part, agreed)
            at = agreed
            continue
        place = said.find(part, at)
        if place < 0:
            return _words(said[at:], part, 0, before=at)
        at = place + len(part)
    if len(parts) == 1 and at < len(said):
        return _words(said, rest, at)
    return ""


def _plain(text: str) -> str:
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text).casefold().replace("\u2581", " ")).strip()


def _common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _words(said: str, tokens: str, place: int, *, before: int = 0) -> str:
    shown = [repr(part[place : place + SHOWN_CHARACTERS]) for part in (said, tokens)]
    return (
        f"output.text and output.token_ids differ from character {before + place + 1} on: the text says {shown[0]}, "
        f"the tokens say {shown[1]}."
    )


def find_decoder(model: LoadedModel, directory: Path) -> str:
    """Find the file of a model's directory that decodes as its tokeniser does; "" where none does."""
    for name in (HUGGING_FACE, SENTENCEPIECE):
        if not (directory / name).is_file():
            continue
        decode = decoder(directory / name)
        try:
            ids = model.tokeniser.encode(SAMPLE)
            own = model.tokeniser.decode(ids)
            if decode is not None and _plain(_SYMBOLS.sub("", decode(ids))) == _plain(_SYMBOLS.sub("", own)):
                return name
        except Exception:
            # The tokeniser is the model's own code. A file that cannot be compared is not used.
            continue
    return ""


@functools.lru_cache(maxsize=OPENED_MAX)
def decoder(path: Path) -> Decode | None:
    """Open the file of a tokeniser; None where its package is not installed, or the file is none."""
    try:
        if path.name == HUGGING_FACE:
            from tokenizers import Tokenizer

            opened = Tokenizer.from_file(str(path))
            return lambda ids: str(opened.decode(list(ids), skip_special_tokens=True))
        import sentencepiece

        pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
        return lambda ids: str(pieces.decode(list(ids)))
    except Exception:
        return None
