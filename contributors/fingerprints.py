"""Near-duplicates of works: signatures, their bands, and the similarity of two signatures.

Pure: bytes in, numbers out; no database. Text carries a MinHash over shingles of five words (Broder 1997), pictures a
perceptual hash of 256 bits. Both are cut into bands, so that near signatures share at least one band and a database
index finds the candidates (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

import numpy as np

from contributors.formats import UnreadableContent, check_kind, open_picture

PPB = 1_000_000_000
CONTENT_BYTES_MAX = 5 * 1024 * 1024

SHINGLE_WORDS = 5
PERMUTATIONS = 128
TEXT_BAND_ROWS = 4
"""32 bands of 4: of two texts with a Jaccard similarity of .7 they miss one in 6,000, at .5 one in 8."""
HASH_SIDE = 16
IMAGE_BAND_BYTES = 2
"""16 bands of 16 bits: up to 15 bits that differ can never hide a pair."""
NEAR_PPB = {"text": 700_000_000, "image": 900_000_000}

# A letter of a script without spaces is a word of its own.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def fingerprint(modality: str, content: bytes, *, bytes_max: int = CONTENT_BYTES_MAX) -> bytes:
    """The signature of a work's content. Raises UnreadableContent; empty where nothing distinguishes the content.

    Recordings and films have none: exact copies of them are found, near ones are not.
    """
    if not content:
        raise UnreadableContent("it is empty")
    if len(content) > bytes_max:
        raise UnreadableContent(f"it has {len(content):,} bytes, {bytes_max:,} ({bytes_max // 2**20} MiB) are allowed")
    if modality == "text":
        return _of_text(_decoded(content))
    if modality == "image":
        return _of_image(content)
    check_kind(modality, content)
    return b""


def bands(modality: str, signature: bytes) -> list[int]:
    """Signed 64-bit keys of the signature's bands; near works share at least one."""
    width = TEXT_BAND_ROWS * 4 if modality == "text" else IMAGE_BAND_BYTES
    keys = []
    for start in range(0, len(signature), width):
        keyed = b"%s:%d:%s" % (modality.encode(), start // width, signature[start : start + width])
        keys.append(int.from_bytes(hashlib.blake2b(keyed, digest_size=8).digest(), "big", signed=True))
    return keys


def similarity_ppb(modality: str, one: bytes, other: bytes) -> int:
    """Estimated Jaccard similarity of two texts, or the part of equal bits of two pictures, in parts per billion."""
    if not one or len(one) != len(other):
        return 0
    if modality == "text":
        equal = int((np.frombuffer(one, dtype="<u4") == np.frombuffer(other, dtype="<u4")).sum())
        return equal * PPB // PERMUTATIONS
    differing = (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
    return (len(one) * 8 - differing) * PPB // (len(one) * 8)


def _decoded(content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableContent(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8 text") from error
    if "\0" in text:
        raise UnreadableContent("it holds a NUL character; it is not plain text")
    if not text.removeprefix("\ufeff").strip():
        raise UnreadableContent("it is blank")
    return text


def _shingles(text: str) -> Iterator[bytes]:
    """The distinct runs of five words; a shorter text is one shingle."""
    normal = unicodedata.normalize("NFKC", text).casefold()
    words = _WORD.findall(normal) or normal.split()
    seen: set[bytes] = set()
    for start in range(max(1, len(words) - SHINGLE_WORDS + 1)):
        shingle = " ".join(words[start : start + SHINGLE_WORDS]).encode()
        if shingle not in seen:
            seen.add(shingle)
            yield shingle


def _of_text(text: str) -> bytes:
    # Imported here: it takes half a second, which every process that registers no text would pay.
    from datasketch import MinHash

    signature = MinHash(num_perm=PERMUTATIONS, seed=1, scheme="affine32")
    shingles = _shingles(text)
    # A batch becomes a matrix of its length times 128.
    while batch := list(islice(shingles, 4096)):
        signature.update_batch(batch)
    return bytes(np.asarray(signature.hashvalues).astype("<u4").tobytes())


def _of_image(content: bytes) -> bytes:
    import imagehash

    picture = open_picture(content)
    try:
        grey = picture.convert("RGBA").convert("L") if picture.mode in {"P", "PA"} else picture.convert("L")
        darkest, lightest = grey.resize((64, 64)).getextrema()
    except Exception as error:
        raise UnreadableContent("its pixels cannot be compared with those of other pictures") from error
    assert isinstance(darkest, int | float)
    assert isinstance(lightest, int | float)
    if lightest - darkest < 8:
        return b""  # One plain colour: its hash is noise, and would call every other plain picture a copy.
    bits = imagehash.phash(grey, hash_size=HASH_SIDE).hash
    return bytes(np.packbits(bits).tobytes())
