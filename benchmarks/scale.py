"""Shares at scale: cost and justice of rule 2 beside rule 1 as contributors and items grow.

    python -m benchmarks.scale [--quick] [--json FILE]

Scores are drawn: 20 items matter, the others are noise (the items that matter score Gamma(2, 8) spreads more).
Everything after the scores is the product's own: judging items, net tails, exact integers, the scan of int8 rows.
Times are processor time of one thread. Below the tables stand the goals, met or not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from influence import shares
from influence.index import scan
from influence.index.shards import Array, Items, write_shard
from influence.index.sums import NO_CLUSTER
from influence.paid_items import ITEMS_PAID, Counted, leading, net_tails, paid_items, spreads

MATTER, OWN, BATCH, K = 20, 400, 64, 512
BLOCK = 16_384
SHARD = 65_536


class Drawn:
    """Items with drawn scores for a few generations, block by block, as an opened index has them."""

    def __init__(self, items: int, holders: Array, *, generations: int, seed: int = 1, tails: bool = False) -> None:
        chance = np.random.default_rng(seed)
        self.items, self.generations, self.seed = items, generations, seed
        self.matter = chance.choice(items, MATTER, replace=False)
        self.more = chance.gamma(2, 8, (generations, MATTER)).astype(np.float32)
        self.tried = chance.gamma(2, 8, (OWN // 10, MATTER)).astype(np.float32)
        labels = np.stack([holders, np.arange(items), np.full(items, NO_CLUSTER)])
        self.counted = Counted(labels, np.arange(items))
        self.net_tails = self._tails() if tails else None

    def item_scores(self, _: Any) -> Iterator[tuple[Array, Array]]:
        return self._blocks(self.generations, self.more, self.seed + 1)

    def _blocks(self, rows: int, more: Array, seed: int) -> Iterator[tuple[Array, Array]]:
        chance = np.random.default_rng(seed)
        for start in range(0, self.items, BLOCK):
            positions = np.arange(start, min(start + BLOCK, self.items))
            scores = chance.standard_normal((rows, len(positions)), dtype=np.float32)
            here = np.flatnonzero((self.matter >= start) & (self.matter < start + BLOCK))
            scores[: len(more), self.matter[here] - start] += more[:, here]
            yield positions, scores

    def _tails(self) -> Array:
        def own() -> Iterator[tuple[Array, Array]]:
            return self._blocks(OWN, self.tried, self.seed + 2)

        factors = np.ones(self.items, dtype=np.float32)
        for positions, found in net_tails(own(), spreads(own, generations=OWN)):
            factors[positions] = found
        return factors

    def sums(self, holders: int) -> Array:
        """(B, C): scores summed by holder, as rule 1 takes them."""
        found = np.zeros((self.generations, holders))
        for positions, scores in self.item_scores(None):
            for row, of_row in enumerate(scores):
                found[row] += np.bincount(self.counted.labels[0, positions], weights=of_row, minlength=holders)
        return found


def reaching(items: int) -> dict[str, Any]:
    """The part of the pool that reaches the items that matter, an account an item."""
    index = Drawn(items, np.arange(items), generations=4, tails=True)
    features = np.zeros((4, 1))
    by_items = [_part(paid.shares(key="g"), index.matter) for paid in paid_items(index, features, k=ITEMS_PAID)]
    positive = np.clip(index.sums(items), 0, None)
    by_sums = positive[:, index.matter].sum(1) / positive.sum(1)
    return {"items": items, "rule_1": float(by_sums.mean()), "rule_2": float(np.mean(by_items))}


def _part(found: shares.ItemShares, wanted: Array) -> float:
    return float(np.asarray(found.ppb)[np.isin(found.holder_ids, wanted)].sum() / shares.BILLION)


def splitting(accounts: int, items: int) -> dict[str, Any]:
    """Share of an account that is cut into one account an item, over its share before; the largest over accounts."""
    holders = np.arange(items) % accounts
    features, gains = np.zeros((4, 1)), []
    before = _of_accounts(Drawn(items, holders, generations=4), features)
    for account in np.flatnonzero(before.sum(0))[:5]:
        cut = np.where(holders == account, accounts + np.arange(items), holders)
        after = _of_accounts(Drawn(items, cut, generations=4), features)
        gains.append(after[:, accounts:].sum() / before[:, account].sum())
    return {"accounts": accounts, "gain": float(max(gains))}


def _of_accounts(index: Drawn, features: Array) -> Array:
    found = np.zeros((index.generations, int(index.counted.labels[0].max()) + 1))
    for row, paid in enumerate(paid_items(index, features, k=ITEMS_PAID)):
        divided = paid.shares(key=str(row))
        found[row, list(divided.holder_ids)] = divided.ppb
    return found


def dividing(contributors: int) -> dict[str, Any]:
    """Processor time from scores to integers for one generation, and the bytes of its row's arrays, by both rules."""
    items = max(10 * contributors, 2_000)
    index = Drawn(items, np.arange(items) % contributors, generations=BATCH)
    sums, ids = index.sums(contributors), list(range(contributors))
    rule_1 = _cpu(
        lambda: [
            shares.apportion_scores(
                holder_ids=ids, scores=row.tolist(), standard_errors=[0.0] * contributors, noise_z=2.0, key=str(number)
            )
            for number, row in enumerate(sums[:2])
        ]
    )
    found = paid_items(index, np.zeros((BATCH, 1)), k=ITEMS_PAID)
    divided: list[shares.ItemShares] = []
    rule_2 = _cpu(lambda: divided.extend(paid.shares(key=str(row)) for row, paid in enumerate(found)))
    paid = float(np.mean([len(each.holder_ids) for each in divided]))
    return {
        "contributors": contributors,
        "rule_1_ms": rule_1 / 2,
        "rule_2_ms": rule_2 / BATCH,
        "rule_1_holders": int(np.mean((sums > 0).sum(1))),
        "rule_2_holders": paid,
    }


def scanning(items: int) -> dict[str, Any]:
    """Processor time of one generation in a batch of 64: every item scored and judged; beside reading the rows."""
    chance = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as scratch:
        shards = []
        for start in range(0, items, SHARD):
            count = min(SHARD, items - start)
            features = chance.standard_normal((count, 1, K), dtype=np.float32)
            labels = np.stack([np.arange(start, start + count)] * 2 + [np.full(count, NO_CLUSTER)])
            shards.append(write_shard(Path(scratch), f"items-{start}", features, labels, divisor=1))
        rows = Items(Path(scratch), shards)
        queries = torch.from_numpy(chance.standard_normal((BATCH, 1, K), dtype=np.float32))
        read = _cpu(lambda: [int(stored.view(np.int64).sum()) for _, stored, _, _ in rows.stored(rows.alive, SHARD)])
        scanned = _cpu(
            lambda: leading(scan.item_scores(rows, rows.alive, queries), ITEMS_PAID + 1, generations=BATCH), times=2
        )
    return {"items": items, "ms": scanned / BATCH, "read_ms": read}


def _cpu(work: Callable[[], Any], times: int = 1) -> float:
    """Milliseconds of processor time of this process; of several runs the shortest."""
    best = float("inf")
    for _ in range(times):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return 1e3 * best


def measure(*, quick: bool) -> dict[str, Any]:
    smaller = 10 if quick else 1
    return {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "quick": quick,
        "reaching": [reaching(items) for items in (10_000, 100_000, 1_000_000 // smaller)],
        "splitting": [splitting(accounts, 5_000) for accounts in (20, 200, 5_000)],
        "dividing": [dividing(contributors) for contributors in (100, 1_000, 10_000)],
        "scanning": [scanning(items // smaller) for items in (200_000, 1_000_000)],
    }


def goals(figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def goal(name: str, what: str, target: float, measured: float, *, least: bool = False) -> dict[str, Any]:
        met = measured >= target if least else measured <= target
        return {"goal": name, "what": what, "target": target, "measured": round(measured, 4), "met": met}

    for row in figures["reaching"]:
        words = f"part of the pool that reaches the 20 items that matter among {row['items']:,}"
        yield goal(f"reaching_{row['items']}", words, 0.95, row["rule_2"], least=True)
    for row in figures["splitting"]:
        words = f"share of one of {row['accounts']:,} accounts cut into an account an item, over its share before"
        yield goal(f"split_gain_{row['accounts']}", words, 1.01, row["gain"])
    for row in figures["dividing"]:
        words = f"ms of a generation from judged items to integers, {row['contributors']:,} contributors"
        yield goal(f"dividing_{row['contributors']}", words, 3.0, row["rule_2_ms"])
    for row in figures["scanning"]:
        words = f"ms of a generation to score and judge {row['items']:,} items, in batches of {BATCH}"
        yield goal(f"scanning_{row['items']}", words, 15e-6 * row["items"], row["ms"])


def show(figures: dict[str, Any]) -> None:
    print(f"{figures['machine']}, {figures['cores']} cores, load {figures['load']:.1f}, one torch thread\n")
    for row in figures["reaching"]:
        print(f"reaching   {row['items']:>9,} items         rule 1 {row['rule_1']:.3f}   rule 2 {row['rule_2']:.3f}")
    for row in figures["splitting"]:
        print(f"split gain {row['accounts']:>9,} accounts      x {row['gain']:.6f}")
    for row in figures["dividing"]:
        print(
            f"dividing   {row['contributors']:>9,} contributors  rule 1 {row['rule_1_ms']:8.2f} ms, "
            f"{row['rule_1_holders']:,} paid   rule 2 {row['rule_2_ms']:5.2f} ms, {row['rule_2_holders']:.0f} paid"
        )
    for row in figures["scanning"]:
        print(
            f"scanning   {row['items']:>9,} items x {K}   {row['ms']:6.2f} ms; reading the rows {row['read_ms']:.1f} ms"
        )
    print("\nGoals")
    for each in figures["goals"]:
        print(
            f"  {'met    ' if each['met'] else 'not met'}  {each['measured']:>10}  {each['target']:>8}  {each['what']}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the largest sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(quick=args.quick)
    figures["goals"] = list(goals(figures))
    show(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
