"""The passage of a work that shares the most wording with an output. Readers see it beside a score.

It illustrates and proves nothing: the score comes from gradients of the whole work, and a work can teach a model much
that shares no wording with an output. Pure text; imports neither torch nor Django.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW_WORDS = 60
CONTENT_CHARACTERS_MAX = 1_000_000
OUTPUT_CHARACTERS_MAX = 20_000
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a text, cut into parts; `is_shared` marks wording that the output has too."""

    parts: tuple[tuple[str, bool], ...]
    cut_before: bool
    cut_after: bool

    @property
    def text(self) -> str:
        return "".join(part for part, _ in self.parts)

    @property
    def has_shared_wording(self) -> bool:
        return any(is_shared for _, is_shared in self.parts)


def shared_passage(content: str, output: str, *, window_words: int = WINDOW_WORDS) -> Passage:
    """The window of `content` in which pairs and triples of words of `output` weigh most, rare ones more than usual
    ones; the beginning when there are none."""
    content = content[:CONTENT_CHARACTERS_MAX]
    spans = [match.span() for match in _WORD.finditer(content)]
    words = [content[start:end].lower() for start, end in spans]
    wanted = _runs([match.group().lower() for match in _WORD.finditer(output[:OUTPUT_CHARACTERS_MAX])])
    weights, shared = _weigh(words, wanted)
    first = _heaviest(weights, window_words)
    last = min(first + window_words, len(words))
    if not words:
        return Passage((), cut_before=False, cut_after=False)
    return Passage(
        _parts(content, spans[first:last], shared[first:last]), cut_before=first > 0, cut_after=last < len(words)
    )


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    pairs = itertools.pairwise(words)
    triples = zip(words, words[1:], words[2:], strict=False)
    return {*pairs, *triples}


def _weigh(words: Sequence[str], wanted: set[tuple[str, ...]]) -> tuple[list[float], list[bool]]:
    """For each word its part in the weights of the wanted runs that it is in, and whether it is in one."""
    hits = [
        (start, run)
        for length in (2, 3)
        for start in range(len(words) - length + 1)
        if (run := tuple(words[start : start + length])) in wanted
    ]
    often = Counter(run for _, run in hits)
    weights, shared = [0.0] * len(words), [False] * len(words)
    for start, run in hits:
        for place in range(start, start + len(run)):
            weights[place] += (len(run) - 1) ** 2 / often[run] / len(run)
            shared[place] = True
    return weights, shared


def _heaviest(weights: Sequence[float], window: int) -> int:
    """Find the start of the heaviest window. Of several in a row take the middle one, to centre the weight."""
    total = best = sum(weights[:window])
    first = last = 0
    for start in range(1, len(weights) - window + 1):
        total += weights[start + window - 1] - weights[start - 1]
        # Against the rounding of a running sum: a later window must be clearly heavier.
        if total > best + 1e-9:
            best, first, last = total, start, start
        elif total > best - 1e-9 and last == start - 1:
            last = start
    return (first + last) // 2 if best > 1e-9 else 0


def _parts(content: str, spans: Sequence[tuple[int, int]], shared: Sequence[bool]) -> tuple[tuple[str, bool], ...]:
    parts: list[tuple[str, bool]] = []
    for place, (start, end) in enumerate(spans):
        # The space between two shared words belongs to them.
        joined = place > 0 and shared[place] and shared[place - 1]
        gap = content[spans[place - 1][1] : start] if place else ""
        for text, is_shared in ((gap, joined), (content[start:end], shared[place])):
            if parts and parts[-1][1] == is_shared:
                parts[-1] = (parts[-1][0] + text, is_shared)
            elif text:
                parts.append((text, is_shared))
    return tuple(parts)
