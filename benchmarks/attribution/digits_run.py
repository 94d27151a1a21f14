"""The digits setting from truth to figures: the exact Shapley values of all contributors, and each method beside them.

Nothing is tuned here: damping is the product's default, or the weight decay that the training had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.attribution import digits, ours, peers
from benchmarks.attribution.measures import Scored, by_query, lds, positive_shares
from influence.adapters import Example, LoadedModel, Utilities
from influence.index.config import IndexConfig, gauss_nodes
from influence.index.reader import IndexItem
from influence.index.shards import Array

EVERY_COORDINATE = 10**6
K = 512
ITEM_HALVES = 64
Progress = Callable[[str, int, int], None]


class Rows:
    """A classifier's adapter with row numbers of a table as examples: training items first, then queries."""

    name = "rows"
    left_out: frozenset[str] = frozenset()

    def __init__(self, module: nn.Module, x: Tensor, y: Tensor) -> None:
        self.module = module
        self.x, self.y = x, y

    def check(self, example: Example) -> None:
        assert 0 <= example.tokens[0] < len(self.x)

    def utility(self, examples: Sequence[Example]) -> Utilities:
        rows = [example.tokens[0] for example in examples]
        return Utilities(-F.cross_entropy(self.module(self.x[rows]), self.y[rows], reduction="none"))

    def sampled_utility(self, examples: Sequence[Example], generator: torch.Generator) -> Utilities:
        logits = self.module(self.x[[example.tokens[0] for example in examples]])
        with torch.no_grad():
            labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        return Utilities(-F.cross_entropy(logits, labels, reduction="none"))


class NoWords:
    """Pictures have none."""

    def encode(self, text: str) -> list[int]:
        return []

    def decode(self, tokens: Any) -> str:
        return ""

    def item(self, content: str, token_start: int, token_end: int) -> Example:
        return Example((token_start,))

    def generation(self, prompt: str, output: str, token_ids: Any = None) -> Example:
        return Example(tuple(token_ids or ()))


def run(cache: Path, *, quick: bool, processes: int, progress: Progress) -> dict[str, Any]:
    data = digits.read_digits()
    seeds = 1 if quick else 3
    truth = digits.coalition_truth(cache / "truth", seeds=seeds, processes=processes, progress=progress)
    utilities = truth.mean(0)
    exact = digits.exact_shapley(utilities)
    halves, halved = (None, None) if quick else digits.item_half_truth(cache / "truth", count=ITEM_HALVES, seed=1)
    scored: dict[str, list[Scored]] = {}
    for seed in range(seeds):
        for one in _scored(_setting(seed, cache), quick=quick):
            scored.setdefault(one.name, []).append(one)
    setting = _setting(0, cache)
    module = peers.OneTarget(setting.model.adapter.module)
    problem = peers.Problem(
        "digits", module, _batch(data.x, data.y), _batch(data.query_x, data.query_y), factor_batch=512
    )
    for name, ask in peers.PEERS.items():
        progress(f"digits: {name}", 0, 1)
        answer = ask(problem, setting.scratch / "library")
        query = answer.one_query_seconds or answer.query_seconds / len(data.query_x)
        costs = {"build": answer.build_seconds, "query": query}
        scored[name] = [setting.scored(name, "library", answer.scores.astype(np.float64), **costs)]
    rows = []
    for name, seen in scored.items():
        rows.append(
            {
                "method": name,
                "kind": seen[0].kind,
                **figures(seen[0], exact, utilities, halves, halved),
                **seen[0].costs,
            }
        )
        if len(seen) > 1 and seen[0].kind == "ours":
            mean = Scored(name, "ours", np.mean([one.contributors for one in seen], axis=0))
            rows.append({"method": f"{name}, mean of {seeds} seeds", "kind": "ours", **figures(mean, exact, utilities)})
    return {
        "items": len(data.x),
        "coalitions": 2**digits.CONTRIBUTORS,
        "seeds": seeds,
        "queries": len(data.query_x),
        "seed_agreement": None
        if quick
        else by_query(digits.exact_shapley(truth[0]).T, digits.exact_shapley(truth[1:].mean(0)).T),
        "noise_of_truth": float(positive_shares(exact.T)[:, digits.NOISE].mean()),
        "methods": rows,
    }


def _setting(seed: int, cache: Path) -> ours.Setting:
    data = digits.read_digits()
    module = digits.module_of(digits.train([torch.arange(len(data.x))], seed=seed))
    adapter = Rows(module, torch.cat([data.x, data.query_x]), torch.cat([data.y, data.query_y]))
    state = {name: value.clone() for name, value in module.state_dict().items()}
    # Weight decay pulls toward zero, for any start of the training.
    pulled_to = {name: torch.zeros_like(value) for name, value in state.items()}
    model = LoadedModel(adapter=adapter, tokeniser=NoWords(), checkpoints=(state,), initial=pulled_to)
    count = len(data.x)
    items = [IndexItem(Example((row,)), row, owner) for row, owner in enumerate(data.owners.tolist())]
    queries = [Example((count + row,)) for row in range(len(data.query_x))]
    return ours.Setting(model, items, queries, slice(None), digits.CONTRIBUTORS, cache / "scratch")


def _scored(setting: ours.Setting, *, quick: bool) -> list[Scored]:
    module: Any = setting.model.adapter.module
    adapter: Any = setting.model.adapter

    @torch.no_grad()
    def hidden(examples: Sequence[Example]) -> Tensor:
        found: Tensor = module[:2](adapter.x[[example.tokens[0] for example in examples]])
        return found

    base = IndexConfig(coordinates=EVERY_COORDINATE, k=K, fit_items=len(setting.items), batch=256)
    default = ours.build(setting, base)
    factors = [layer.factors for layer in default.index.members[0][0].basis.layers.values()]
    mean = float(torch.cat([layer.eigenvalues.flatten() for layer in factors]).mean())
    decay = replace(base, damping=digits.WEIGHT_DECAY / mean)
    at_star = ((1.0, 1.0),)
    found = [
        ours.pro_rata(setting),
        ours.cosine(setting, hidden),
        ours.gradient_dots(setting),
        ours.from_index(setting, "plain influence, weight decay", ours.build(setting, replace(decay, nodes=at_star))),
        ours.from_index(setting, "midpoint, default damping", default),
        ours.from_index(setting, "midpoint, weight decay", ours.build(setting, decay)),
        ours.from_index(setting, "path of 3, weight decay", ours.build(setting, replace(decay, nodes=gauss_nodes(3)))),
    ]
    if not quick:
        path = replace(decay, nodes=gauss_nodes(12), k=256)
        found.append(ours.from_index(setting, "path of 12, weight decay", ours.build(setting, path)))
    return found


def figures(
    one: Scored, exact: Array, utilities: Array, halves: Sequence[Tensor] | None = None, halved: Array | None = None
) -> dict[str, float]:
    present = digits.coalitions().astype(float)
    half = present.sum(1) == digits.CONTRIBUTORS // 2
    shares, true_shares = positive_shares(one.contributors), positive_shares(exact.T)
    pair = shares[:, [digits.COPIED, digits.COPIER]].mean(0)
    found = {
        "shapley": by_query(one.contributors, exact.T),
        "coalition_lds": lds(present[half] @ one.contributors.T, utilities[half]),
        "noise": float(shares[:, digits.NOISE].mean()),
        "share_error": float(0.5 * np.abs(shares - true_shares).sum(1).mean()),
        "copy_ratio": float(pair[1] / max(pair[0], 1e-12)),
    }
    if one.items is not None and halves is not None and halved is not None:
        inside = np.zeros((len(halves), one.items.shape[1]))
        for row, places in enumerate(halves):
            inside[row, places.numpy()] = 1
        found["item_lds"] = lds(inside @ one.items.T, halved)
    return found


def _batch(x: Tensor, y: Tensor) -> peers.Batch:
    return x, y[:, None], torch.ones(len(y), 1)
