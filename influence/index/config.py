"""The configuration of an index: its attributor, and everything besides the model that decides its numbers.

Two indexes of one model version differ in their configuration or not at all. Each attributor reads some fields only;
one that it does not read cannot be given, so that nobody believes to have changed a number that does not depend on it.
Imports neither torch nor Django.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

COMMON = frozenset({"attributor", "batch", "seed"})
_GRADIENT = frozenset(
    {
        "damping",
        "nodes",
        "coordinates",
        "k",
        "fit_items",
        "pca_items",
        "left_out",
        "precision",
        "part_items",
        "shard_items",
    }
)
_LEXICAL = frozenset({"terms", "ngrams", "buckets", "spread_items"})
READ_BY: Mapping[str, frozenset[str]] = {
    "midpoint": _GRADIENT,
    "lexical": _LEXICAL,
    "hybrid": _GRADIENT | _LEXICAL | {"lexical_weight"},
    "encoder": frozenset({"shard_items"}),
    "pushed": frozenset({"shard_items"}),
}
"""Attributor -> the fields that it reads besides those which all of them read."""

AT_LEAST_ONE = ("coordinates", "k", "fit_items", "pca_items", "batch", "part_items", "shard_items", "spread_items")
TERMS = ("tokens", "words")
PRECISIONS = ("float32", "bfloat16")
NODES_MAX = 32
SHARD_ITEMS_MAX = 65_536


def gauss_nodes(count: int) -> tuple[tuple[float, float], ...]:
    """Nodes (t, weight) of Gauss-Legendre quadrature over [0, 1]: one node is the midpoint, three the reference.

    Raises ValueError for fewer than one node or more than NODES_MAX.
    """
    if not 1 <= count <= NODES_MAX:
        raise ValueError(f"nodes must be 1 to {NODES_MAX}, not {count}")
    from numpy.polynomial.legendre import leggauss

    places, weights = leggauss(count)
    return tuple((float(0.5 + x / 2), float(w / 2)) for x, w in zip(places, weights, strict=True))


def is_number(value: object) -> bool:
    """Tell whether it is a finite number, and no word or truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _nodes(told: object) -> tuple[tuple[float, float], ...]:
    """Check the nodes: a number of Gauss nodes, or pairs of a place and a weight."""
    if isinstance(told, int) and not isinstance(told, bool):
        return gauss_nodes(told)
    if not isinstance(told, list | tuple):
        raise ValueError(f"nodes must be a whole number or pairs of numbers, not {told!r}")
    for pair in told:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(map(is_number, pair))):
            raise ValueError(f"each of the nodes must be a pair of numbers, not {pair!r}")
    return tuple((float(t), float(weight)) for t, weight in told)


@dataclass(frozen=True, slots=True)
class IndexConfig:
    attributor: str = "midpoint"
    damping: float = 0.3
    """Times a layer's mean eigenvalue."""
    nodes: tuple[tuple[float, float], ...] = ((0.5, 1.0),)
    """(t, weight) of the quadrature over the inclusion rate: the midpoint alone. ((1, 1),) is plain influence.
    Where a configuration is read from JSON a whole number stands for so many Gauss nodes."""
    coordinates: int = 16_384
    k: int = 256
    fit_items: int = 1_000
    pca_items: int = 4_096
    batch: int = 32
    seed: int = 0
    left_out: tuple[str, ...] = ()
    """Layers to leave out besides those the adapter leaves out."""
    precision: str = "float32"
    """The number format of the model and of the products of a feature. bfloat16 takes little more than half the time
    for many items where a processor has it. Second moments, components, sums and scores stay float32 or more."""
    part_items: int = 1_024
    """Items of a fit that one step of the build looks at."""
    shard_items: int = 16_384
    """Items of a shard: the number that one step embeds, and the bound of its memory."""
    terms: str = "tokens"
    """The units of wording: the model's own tokens or, so that a person can follow it, words."""
    ngrams: int = 3
    """Runs of up to so many tokens or words count as terms."""
    buckets: int = 2**20
    """Into how many columns terms are hashed; a power of two."""
    spread_items: int = 4_096
    """On how many items, drawn at random, the spread of lexical scores is measured."""
    lexical_weight: float = 0.5
    """The weight of the lexical score beside the midpoint's, both in units of their spread over items."""

    def __post_init__(self) -> None:
        for name in (*AT_LEAST_ONE, "seed", "buckets", "ngrams"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{name} must be a whole number, not {value!r}")
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, not {self.seed}")
        for name in ("damping", "lexical_weight"):
            if not is_number(getattr(self, name)):
                raise ValueError(f"{name} must be a finite number, not {getattr(self, name)!r}")
        if self.damping <= 0:
            raise ValueError(f"damping must be more than 0, not {self.damping}")
        if not 1 <= len(self.nodes) <= NODES_MAX:
            raise ValueError(f"nodes must be 1 to {NODES_MAX}, not {len(self.nodes)}")
        for t, weight in self.nodes:
            if not (0 <= t <= 1 and 0 < weight <= 1):
                raise ValueError(f"a node lies between 0 and 1 and weighs more than 0 and at most 1, not {t}, {weight}")
        if not all(isinstance(layer, str) for layer in self.left_out):
            raise ValueError(f"left_out must be names of layers, not {self.left_out!r}")
        if self.shard_items > SHARD_ITEMS_MAX:
            raise ValueError(f"shard_items must be at most {SHARD_ITEMS_MAX}, not {self.shard_items}")
        if self.attributor not in READ_BY:
            raise ValueError(f"there is no attributor {self.attributor!r}; there is {', '.join(sorted(READ_BY))}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be {' or '.join(PRECISIONS)}, not {self.precision!r}")
        if self.terms not in TERMS:
            raise ValueError(f"terms must be {' or '.join(TERMS)}, not {self.terms!r}")
        if self.buckets < 2 or self.buckets & (self.buckets - 1):
            raise ValueError(f"buckets must be a power of two, not {self.buckets}")
        if not 1 <= self.ngrams <= 5:
            raise ValueError(f"ngrams must lie between 1 and 5, not {self.ngrams}")
        if not 0 <= self.lexical_weight <= 100:
            raise ValueError(f"lexical_weight must lie between 0 and 100, not {self.lexical_weight}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields that the attributor reads, as plain JSON."""
        read = READ_BY[self.attributor] | COMMON
        if self.precision == PRECISIONS[0]:
            # It is younger than indexes: one that was built before it keeps its configuration and that one's digest.
            read -= {"precision"}
        plain: dict[str, Any] = json.loads(json.dumps({k: v for k, v in asdict(self).items() if k in read}))
        return plain

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> IndexConfig:
        """Read a configuration. Raises TypeError or ValueError, in words, when its attributor cannot have it."""
        attributor = stored.get("attributor", cls().attributor)
        read = READ_BY.get(attributor, frozenset()) | COMMON
        unread = sorted(name for name in stored if attributor in READ_BY and name not in read)
        if unread:
            raise ValueError(f"{attributor} reads no {unread[0]!r}; it reads {', '.join(sorted(read))}")
        changed = dict(stored)
        if "nodes" in changed:
            changed["nodes"] = _nodes(changed["nodes"])
        if "left_out" in changed:
            if not isinstance(changed["left_out"], list | tuple):
                raise ValueError(f"left_out must be a list of names of layers, not {changed['left_out']!r}")
            changed["left_out"] = tuple(changed["left_out"])
        return cls(**changed)

    def of_part(self, attributor: str) -> IndexConfig:
        """The configuration of one part of a hybrid, as an index of its own would have it."""
        read = READ_BY[attributor] | COMMON
        return IndexConfig(**{**{k: getattr(self, k) for k in read}, "attributor": attributor})

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()
