"""Texts to vectors of terms: runs of a model's own tokens or of words, hashed into columns, counted and weighed.

Words are those of the text as a tokeniser writes it; neither case nor punctuation counts. Knows nothing of indexes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from influence.adapters import Example, Tokeniser
from influence.index.config import IndexConfig
from influence.index.shards import Array

# Scripts that put no space between words: each of their characters counts as a word.
_UNSPACED = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+")
_MIX = np.uint64(0x9E3779B97F4A7C15)


def units_of(tokeniser: Tokeniser, example: Example, config: IndexConfig) -> Array:
    """Hash the units of runs to (n,) uint64: of a generation the output alone, of an item its scored tokens."""
    scored = example.tokens[example.prompt_tokens :]
    if config.terms == "tokens":
        return _mixed(np.array(scored, dtype=np.uint64))
    return np.array([_hash(word) for word in _words(tokeniser.decode(scored))], dtype=np.uint64)


def counts_of(examples: Sequence[Example], tokeniser: Tokeniser, config: IndexConfig) -> Any:
    return _counts([units_of(tokeniser, example, config) for example in examples], config)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _mixed(numbers: Array) -> Array:
    """Token ids to numbers of which every bit counts: the finaliser of SplitMix64 (Steele et al. 2014)."""
    mixed = (numbers + np.uint64(1)) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


@lru_cache(maxsize=2**17)
def _hash(word: str) -> int:
    # Python's own hash differs from process to process.
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _counts(texts: Sequence[Array], config: IndexConfig) -> Any:
    """Count each term in each text, sparse (B, buckets): runs of 1 to `ngrams` of its units, hashed."""
    shift = np.uint64(64 - (config.buckets.bit_length() - 1))
    columns, starts = [], [0]
    for units in texts:
        terms = []
        run = units
        for length in range(1, config.ngrams + 1):
            if len(units) < length:
                break
            if length > 1:
                run = run[:-1] * _MIX + units[length - 1 :]
            terms.append(((run ^ np.uint64(length)) * _MIX) >> shift)
        found = np.concatenate(terms) if terms else np.zeros(0, dtype=np.uint64)
        columns.append(found.astype(np.int32))
        starts.append(starts[-1] + len(found))
    indices = np.concatenate(columns) if columns else np.zeros(0, dtype=np.int32)
    counts = sparse.csr_array(
        (np.ones(len(indices), dtype=np.float32), indices, np.array(starts)), shape=(len(texts), config.buckets)
    )
    counts.sum_duplicates()
    return counts


def weighted(counts: Any, idf: Array) -> Any:
    """Terms weigh 1 + log of their count, times how rare they are; every vector has length one, or no term at all."""
    values = (1 + np.log(counts.data)) * idf[counts.indices]
    squares = np.add.reduceat(np.append(values**2, 0.0), counts.indptr[:-1]) if len(values) else np.zeros(0)
    lengths = np.diff(counts.indptr)
    norms = np.sqrt(np.where(lengths > 0, squares, 1.0)) if len(values) else np.ones(counts.shape[0])
    data = (values / np.repeat(norms, lengths)).astype(np.float32)
    return sparse.csr_array((data, counts.indices, counts.indptr), shape=counts.shape)
