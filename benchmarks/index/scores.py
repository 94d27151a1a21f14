"""Queries, scans and changes of an index of any size."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.index.measures import in_turn, milliseconds


def synthetic(directory: Path, *, items: int, holders: int, k: int) -> Any:
    """Make an index with rows of noise, written and opened by the product's own code; only gradients are missing."""
    import numpy as np

    from influence.index import artefacts, sums
    from influence.index.build import FORMAT
    from influence.index.config import IndexConfig
    from influence.index.files import MEAN_QUERY, files_of
    from influence.index.reader import open_index
    from influence.index.shards import Items, save_array, write_shard

    directory.mkdir()
    chance = np.random.default_rng(0)
    config = IndexConfig(k=k)
    shards = []
    for number, start in enumerate(range(0, items, config.shard_items)):
        positions = np.arange(start, min(start + config.shard_items, items))
        owned = positions * holders // items
        labels = np.stack([owned, positions, np.full(len(positions), sums.NO_CLUSTER)])
        rows = chance.standard_normal((len(positions), 1, k), dtype=np.float32)
        shards.append(write_shard(directory, f"items-{number:05d}", rows, labels, divisor=items))
        found = Items(directory, shards[-1:])
        nobody = np.zeros((2, 0), dtype=np.int64)
        sums.save(directory, f"part-{number}", sums.sum_by_holder(found, found.alive, nobody))
    sums.merge(directory, [f"part-{number}" for number in range(len(shards))])
    save_array(directory / MEAN_QUERY, np.zeros((1, k), dtype=np.float32))
    manifest = {
        "format": FORMAT,
        "config": config.to_json(),
        "members": 0,
        "revision": 1,
        "removed_file": None,
        "overlay": None,
        "shards": [shard.to_json() for shard in shards],
        "layers": [],
        "items_at_build": items,
        "added": {"items": 0, "energy_whole": 0.0, "energy_held": 0.0},
        "counts": {"items": items, "works": items, "holders": holders, "removed_items": 0},
    }
    artefacts.write_manifest(directory, manifest, files_of(manifest))
    artefacts.drop_strangers(directory)
    return open_index(directory)


def query(*, holders: int, items: int, k: int) -> dict[str, Any]:
    """One generation's scores of every holder, beside reading the holders' matrix once."""
    import numpy as np

    with tempfile.TemporaryDirectory() as scratch:
        index = synthetic(Path(scratch) / "index", items=items, holders=holders, k=k)
        features = np.random.default_rng(1).standard_normal((1, 1, k), dtype=np.float32)
        matrix = np.load(index.path / "sums.npy").view(np.int64)
        return {
            "query_ms": milliseconds(lambda: index.score(features)),
            "read_ms": milliseconds(matrix.sum),
            "bytes_an_item": sum(path.stat().st_size for path in index.path.glob("items-*")) / items,
        }


def scan(*, items: int, k: int) -> dict[str, Any]:
    """The five works of a holder that score most, and all of its works' scores, beside reading their rows once."""
    import numpy as np

    with tempfile.TemporaryDirectory() as scratch:
        index = synthetic(Path(scratch) / "index", items=items, holders=1, k=k)
        features = np.random.default_rng(1).standard_normal((1, 1, k), dtype=np.float32)
        rows = np.concatenate([np.load(path) for path in sorted(index.path.glob("items-*.i8.npy"))])
        words = rows.view(np.int64)
        positions = index._items.of_holder(0)

        def multiply() -> None:
            from influence.index.scan import SCAN_ITEMS

            floats = np.empty((SCAN_ITEMS, 1, k), dtype=np.float32)
            for _, stored, _, _ in index._items.stored(positions, SCAN_ITEMS):
                floats[: len(stored)] = stored

        scan_ms, read_ms, every_ms, convert_ms = in_turn(
            lambda: index.top_works(features, [[0]], 5),
            words.sum,
            lambda: index.work_scores(features, 0, [0]),
            multiply,
            times=9,
        )
        return {"scan_ms": scan_ms, "every_ms": every_ms, "convert_ms": convert_ms, "read_ms": read_ms}


def changes(*, items: int, holders: int, k: int) -> dict[str, Any]:
    """Compare the sums of an index after a holder's works were taken out with fresh sums of the rest."""
    import numpy as np

    from influence.index import sums
    from influence.index.reader import remove_works

    with tempfile.TemporaryDirectory() as scratch:
        index = synthetic(Path(scratch) / "index", items=items, holders=holders, k=k)
        positions = index._items.of_holder(3)
        # All works of one holder, and every other one of the next.
        gone = np.concatenate([positions, index._items.of_holder(4)[::2]])
        started = time.process_time()
        left = remove_works(index.path, work_ids=gone.tolist())
        seconds = time.process_time() - started
        fresh = sums.sum_by_holder(left._items, left._items.alive, np.zeros((2, 0), dtype=np.int64))
        ours = left._sums.numpy().transpose(1, 0, 2)
        assert left.holder_ids == tuple(fresh.holders.tolist())
        error = np.abs(ours - fresh.sums).max() / np.abs(fresh.sums).max()
        return {"removed": len(gone), "seconds": round(seconds, 2), "relative_error": float(error)}
