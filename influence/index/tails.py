"""Net tails of items on disk: the factor f of rule 2 (influence/paid_items.py), frozen with the index at its build.

They come of the own generations behind the index's mean query. Their features are kept: items that are
added later are tried on the same ones, against the same spread, so that no other item's factor changes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from influence import paid_items
from influence.index import scan
from influence.index.artefacts import Manifest
from influence.index.files import OWN, OWN_SPREAD
from influence.index.shards import Array, Items, save_array

NAME = "net_tails-{:04d}.npy"


def freeze(directory: Path, items: Items, own: Array) -> str | None:
    """Write the factors of all items for own generations (G, M, K), and return the file's name; None for too few.

    Costs two scans of all items for G queries.
    """
    if len(own) < paid_items.OWN_GENERATIONS_MIN:
        return None
    queries = torch.from_numpy(own / own.shape[1])
    spread = paid_items.spreads(lambda: scan.item_scores(items, items.alive, queries), generations=len(own))
    save_array(directory / OWN_SPREAD, spread)
    return _write(directory, items, first=0, before=np.zeros(0, dtype=np.float32), revision=1)


def follow(directory: Path, manifest: Manifest, items: Items, *, revision: int) -> str | None:
    """Write the factors again when items were added; return the name of the file in force."""
    before = read(directory, manifest)
    if before is None or len(before) == len(items):
        name: str | None = manifest.get("tails_file")
        return name
    return _write(directory, items, first=len(before), before=before, revision=revision)


def read(directory: Path, manifest: Manifest) -> Array | None:
    """(rows,) of an index; None where it has no or too few own generations."""
    name = manifest.get("tails_file")
    return None if name is None else np.load(directory / name)


def _write(directory: Path, items: Items, *, first: int, before: Array, revision: int) -> str:
    own, spread = np.load(directory / OWN), np.load(directory / OWN_SPREAD)
    factors = np.concatenate([before, np.ones(len(items) - first, dtype=np.float32)])
    positions = items.alive[items.alive >= first]
    blocks = scan.item_scores(items, positions, torch.from_numpy(own / own.shape[1]))
    for chosen, found in paid_items.net_tails(blocks, spread):
        factors[chosen] = found
    name = NAME.format(revision)
    save_array(directory / name, factors)
    return name
