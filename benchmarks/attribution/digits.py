"""The digits setting: ten contributors of scikit-learn's handwritten digits, and a model for each of their coalitions.

All 1,024 coalitions are retrained, so that the Shapley value is known exactly and not estimated. Contributors differ in
size and in the digits they have. Contributor 7 has random labels; contributor 9 hands in the items of contributor 8.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from influence.index.shards import Array

CONTRIBUTORS = 10
NOISE, COPIED, COPIER = 7, 8, 9
TRAINING_ITEMS = 1_500
QUERIES = 150
HIDDEN = 32
WEIGHT_DECAY = 1e-3
STEPS = 300
LEARNING_RATE = 0.05
TOGETHER = 8
"""Coalitions trained side by side in one batched product; with more of them the data leaves the processor's cache."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Digits:
    """Training items (N, 64) in 0..1 with labels and owners (N,), queries (Q, 64) with labels."""

    x: Tensor
    y: Tensor
    owners: Tensor
    query_x: Tensor
    query_y: Tensor


@cache
def read_digits() -> Digits:
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    query_x, query_y = x[TRAINING_ITEMS:][:QUERIES], y[TRAINING_ITEMS:][:QUERIES]
    x, y = x[:TRAINING_ITEMS], y[:TRAINING_ITEMS]
    chance = np.random.default_rng(1)
    preferences = chance.dirichlet(np.ones(CONTRIBUTORS - 1) * 0.4, size=10)
    owners = torch.tensor([int(chance.choice(CONTRIBUTORS - 1, p=preferences[label])) for label in y.tolist()])
    copied = owners == COPIED
    x, y = torch.cat([x, x[copied]]), torch.cat([y, y[copied]])
    owners = torch.cat([owners, torch.full((int(copied.sum()),), COPIER)])
    noisy = owners == NOISE
    y[noisy] = torch.tensor(chance.integers(0, 10, int(noisy.sum())))
    return Digits(x, y, owners, query_x, query_y)


# --- the model, many at once ----------------------------------------------------------------------------------------
def initial_parameters(seed: int) -> list[Tensor]:
    """First layer (64, H), its bias (1, H), second layer (H, 10), its bias (1, 10)."""
    chance = torch.Generator().manual_seed(seed)
    first = torch.randn(64, HIDDEN, generator=chance) / 8
    second = torch.randn(HIDDEN, 10, generator=chance) / math.sqrt(HIDDEN)
    return [first, torch.zeros(1, HIDDEN), second, torch.zeros(1, 10)]


def train(subsets: Sequence[Tensor], *, seed: int) -> list[Tensor]:
    """Models of M subsets of item positions, side by side: parameters with a first axis M.

    The loss is summed over the subset and divided by the number of *all* items, plus weight decay. A contributor then
    adds the same to the training in every coalition: this is the game of the wanted Shapley value.
    """
    digits = read_digits()
    longest = max(1, max(len(subset) for subset in subsets))
    places = torch.zeros(len(subsets), longest, dtype=torch.long)
    weights = torch.zeros(len(subsets), longest)
    for row, subset in enumerate(subsets):
        places[row, : len(subset)] = subset
        weights[row, : len(subset)] = 1 / len(digits.x)
    x, y = digits.x[places], digits.y[places]
    parameters = [part.repeat(len(subsets), 1, 1).requires_grad_() for part in initial_parameters(seed)]
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        logits = forward(parameters, x)
        losses = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view_as(weights)
        loss = (losses * weights).sum() + WEIGHT_DECAY / 2 * sum(part.square().sum() for part in parameters)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return [part.detach() for part in parameters]


def forward(parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    first, first_bias, second, second_bias = parameters
    logits: Tensor = torch.tanh(x @ first + first_bias) @ second + second_bias
    return logits


def utilities(parameters: Sequence[Tensor]) -> Tensor:
    """Log-likelihood of each query's label under each model, (M, Q)."""
    digits = read_digits()
    log_chances = forward(parameters, digits.query_x).log_softmax(-1)
    return log_chances.gather(2, digits.query_y.expand(len(log_chances), -1)[..., None])[..., 0]


def module_of(parameters: Sequence[Tensor], row: int = 0) -> nn.Sequential:
    """Build a torch module of one of the models, for attributors and peers."""
    first, first_bias, second, second_bias = (part[row] for part in parameters)
    module = nn.Sequential(nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10))
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    values = (first.T, first_bias[0], second.T, second_bias[0])
    module.load_state_dict({name: value.contiguous().clone() for name, value in zip(names, values, strict=True)})
    return module.eval()


# --- the truth ------------------------------------------------------------------------------------------------------
def coalitions() -> Array:
    """List the members of each of the 1,024 coalitions, (1024, 10); row number s is the set of the bits of s."""
    numbers = np.arange(2**CONTRIBUTORS)[:, None]
    return np.asarray((numbers >> np.arange(CONTRIBUTORS)) & 1)


def representative(coalition: int) -> int:
    """With the copier but not the copied the items are the same as the other way round: trained once."""
    if coalition >> COPIER & 1 and not coalition >> COPIED & 1:
        return coalition ^ (1 << COPIER) ^ (1 << COPIED)
    return coalition


def positions_of(coalition: int) -> Tensor:
    present = torch.tensor([bool(coalition >> who & 1) for who in range(CONTRIBUTORS)])
    return present[read_digits().owners].nonzero().flatten()


def coalition_truth(cache: Path, *, seeds: int, processes: int, progress: Progress | None = None) -> Array:
    """Utilities (seeds, 1024, Q). Coalitions of like size are trained together, and each group is kept as a file."""
    wanted = sorted(
        {representative(coalition) for coalition in range(2**CONTRIBUTORS)}, key=lambda c: len(positions_of(c))
    )
    groups = [tuple(wanted[start : start + TOGETHER]) for start in range(0, len(wanted), TOGETHER)]
    found = _run([(group, seed) for seed in range(seeds) for group in groups], cache, processes, progress)
    truth = np.zeros((seeds, 2**CONTRIBUTORS, QUERIES), dtype=np.float32)
    for (group, seed), values in found:
        truth[seed, list(group)] = values
    for coalition in range(2**CONTRIBUTORS):
        truth[:, coalition] = truth[:, representative(coalition)]
    return truth


def _run(
    jobs: Sequence[tuple[tuple[int, ...], int]], cache: Path, processes: int, progress: Progress | None
) -> Iterator[tuple[tuple[tuple[int, ...], int], Array]]:
    cache.mkdir(parents=True, exist_ok=True)
    paths = {job: cache / f"digits-{_digest(job)}.npy" for job in jobs}
    missing = [job for job in jobs if not paths[job].exists()]
    if missing:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            for job, values in zip(missing, pool.map(_train_group, missing), strict=True):
                draft = paths[job].with_suffix(f".{os.getpid()}")
                with draft.open("wb") as file:
                    np.save(file, values)
                os.replace(draft, paths[job])
                if progress is not None:
                    progress("digits coalitions", sum(path.exists() for path in paths.values()), len(jobs))
    for job, path in paths.items():
        yield job, np.load(path)


def _digest(job: tuple[tuple[int, ...], int]) -> str:
    told = [job, TRAINING_ITEMS, QUERIES, HIDDEN, WEIGHT_DECAY, STEPS, LEARNING_RATE]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:20]


def _train_group(job: tuple[tuple[int, ...], int]) -> Array:
    torch.set_num_threads(1)
    group, seed = job
    return np.asarray(utilities(train([positions_of(coalition) for coalition in group], seed=seed)).numpy())


def item_half_truth(cache: Path, *, count: int, seed: int) -> tuple[list[Tensor], Array]:
    """Random halves of the items, and the utilities of the queries under models trained on them, (count, Q)."""
    chance = torch.Generator().manual_seed(seed)
    n = len(read_digits().x)
    halves = [torch.randperm(n, generator=chance)[: n // 2].sort().values for _ in range(count)]
    path = cache / f"digits-items-{seed}-{count}.npy"
    if not path.exists():
        parts = [utilities(train(halves[start : start + TOGETHER], seed=0)) for start in range(0, count, TOGETHER)]
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, torch.cat(parts).numpy())
    return halves, np.load(path)


def exact_shapley(truth: Array) -> Array:
    """Shapley value of every contributor for every query, (C, Q), from utilities of all coalitions (1024, Q)."""
    present = coalitions()
    sizes = present.sum(1)
    values = np.zeros((CONTRIBUTORS, truth.shape[1]))
    for who in range(CONTRIBUTORS):
        without = np.flatnonzero(present[:, who] == 0)
        weights = np.array([1 / (CONTRIBUTORS * math.comb(CONTRIBUTORS - 1, int(size))) for size in sizes[without]])
        values[who] = weights @ (truth[without + (1 << who)] - truth[without]).astype(np.float64)
    return values
