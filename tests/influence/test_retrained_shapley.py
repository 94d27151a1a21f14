"""On digits, against the Shapley values of models that were really retrained: every coalition of the contributors.

The players are holders of very different pictures, one of them with random labels. All coalitions train side by side in
one batched network, so that the ground truth takes seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import Tensor, nn

from influence import scorers
from influence.adapters import LoadedModel
from influence.adapters.classifier import Classifier
from influence.evaluation import paid
from influence.gradients import tracing
from influence.scorers import IndexConfig, IndexItem

HIDDEN, DECAY, STEPS, QUERIES, OWN = 24, 1e-3, 200, 100, 200


@dataclass(frozen=True)
class Game:
    """Items, queries and, by retraining on every coalition, each player's worth for each query (queries, C)."""

    values: Tensor
    labels: Tensor
    owners: Tensor
    queries: Tensor
    query_labels: Tensor
    shapley: np.ndarray
    trained: dict[str, Tensor]


def play(players: int, items: int, *, seeds: int) -> Game:
    torch.set_num_threads(1)
    pictures, digits = load_digits(return_X_y=True)
    chance = np.random.default_rng(1)
    order = chance.permutation(len(digits))
    values = torch.tensor(pictures[order] / 16, dtype=torch.float32)
    labels = torch.tensor(digits[order])
    tastes = chance.dirichlet(np.full(players - 1, 0.4), size=10)
    owners = torch.tensor([chance.choice(players - 1, p=tastes[label]) for label in labels[:items].tolist()])
    # The last player's labels are random; it has as many items as the others have on average.
    noisy = torch.tensor(chance.choice(items, items // players, replace=False))
    owners[noisy] = players - 1
    held = labels[:items].clone()
    held[noisy] = torch.tensor(chance.integers(0, 10, len(noisy)))
    queries, query_labels = values[items : items + QUERIES], labels[items : items + QUERIES]
    coalitions = torch.tensor([[mask >> player & 1 for player in range(players)] for mask in range(2**players)])
    utilities = torch.zeros(len(coalitions), QUERIES)
    trained: dict[str, Tensor] = {}
    for seed in range(seeds):
        for start in range(0, len(coalitions), 64):
            part = coalitions[start : start + 64]
            parameters = train(values[:items], held, part[:, owners].float(), seed)
            chances = forward(parameters, queries.expand(len(part), -1, -1)).log_softmax(-1)
            found = chances.gather(2, query_labels.view(1, -1, 1).expand(len(part), -1, 1))[..., 0]
            utilities[start : start + 64] += found / seeds
        if seed == 0:
            names = ("0.weight", "0.bias", "2.weight", "2.bias")
            whole = [parameter[-1] for parameter in parameters]
            trained = {
                name: (value.T if name.endswith("weight") else value[0]).contiguous()
                for name, value in zip(names, whole, strict=True)
            }
    return Game(values[:items], held, owners, queries, query_labels, values_of(coalitions, utilities), trained)


def train(values: Tensor, labels: Tensor, present: Tensor, seed: int) -> list[Tensor]:
    """One network for each row of `present`, by Adam on all items at once, with weight decay in the loss."""
    count, items = len(present), len(values)
    chance = torch.Generator().manual_seed(seed)
    parameters = [
        (torch.randn(1, 64, HIDDEN, generator=chance) / 8).repeat(count, 1, 1),
        torch.zeros(count, 1, HIDDEN),
        (torch.randn(1, HIDDEN, 10, generator=chance) / math.sqrt(HIDDEN)).repeat(count, 1, 1),
        torch.zeros(count, 1, 10),
    ]
    parameters = [parameter.requires_grad_() for parameter in parameters]
    optimiser = torch.optim.Adam(parameters, lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        logits = forward(parameters, values.expand(count, -1, -1))
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(count), reduction="none")
        loss = (losses.view(count, items) * present).sum() / items
        loss = loss + DECAY / 2 * sum(parameter.square().sum() for parameter in parameters)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return [parameter.detach() for parameter in parameters]


def forward(parameters: list[Tensor], values: Tensor) -> Tensor:
    hidden = torch.tanh(values @ parameters[0] + parameters[1])
    return hidden @ parameters[2] + parameters[3]


def values_of(coalitions: Tensor, utilities: Tensor) -> np.ndarray:
    """Shapley values (queries, players) of all coalitions; number m has the players with their bits set in m."""
    players = coalitions.shape[1]
    sizes = coalitions.sum(1)
    found = torch.zeros(utilities.shape[1], players)
    for player in range(players):
        without = torch.nonzero(coalitions[:, player] == 0)[:, 0]
        weights = torch.tensor(
            [1 / (players * math.comb(players - 1, int(size))) for size in sizes[without]], dtype=torch.float32
        )
        found[:, player] = (weights[:, None] * (utilities[without + 2**player] - utilities[without])).sum(0)
    return found.numpy()


def rank_correlation(scores: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's, over the players of each query, its mean over queries."""
    return float(np.mean([spearmanr(one, other).statistic for one, other in zip(scores, truth, strict=True)]))


def served(game: Game) -> LoadedModel:
    module = nn.Sequential(nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10))
    module.load_state_dict(game.trained)
    adapter = Classifier(module, classes=10, shape=(64,))
    # Weight decay pulls toward nought: that is where training on nothing ends.
    initial = {name: torch.zeros_like(value) for name, value in game.trained.items()}
    return LoadedModel(adapter=adapter, checkpoints=(game.trained,), initial=initial)


def classifier(model: LoadedModel) -> Classifier:
    assert isinstance(model.adapter, Classifier)
    return model.adapter


def items_of(game: Game, adapter: Classifier) -> list[IndexItem]:
    examples = [adapter.example(value, int(label)) for value, label in zip(game.values, game.labels, strict=True)]
    return [IndexItem(each, number, int(game.owners[number])) for number, each in enumerate(examples)]


def scores_of(game: Game, directory: Path) -> dict[str, np.ndarray]:
    model = served(game)
    adapter = classifier(model)
    items = items_of(game, adapter)
    examples = [item.example for item in items]
    queries = [adapter.example(value, int(label)) for value, label in zip(game.queries, game.query_labels, strict=True)]
    found = {}
    for name, nodes in (("midpoint", 1), ("three nodes", 3), ("plain influence", [[1.0, 1.0]])):
        config = IndexConfig.from_json({"nodes": nodes, "k": 400, "fit_items": len(items), "pca_items": len(items)})
        index = scorers.build(directory / name, model=model, items=items, config=config)
        scores = index.score(index.embed(queries))
        found[name] = scores.specific + scores.general
    gradients = {}
    with tracing.Tracer(adapter, state=game.trained) as tracer:
        for part, chosen in (("items", examples), ("queries", queries)):
            traced = tracer.run(lambda own, chosen=chosen: own.utility(chosen))  # type: ignore[misc]
            nothing = torch.zeros(0)
            gradients[part] = torch.cat([each.rotated(nothing, nothing).flatten(1) for each in traced.values()], 1)
    products = (gradients["queries"] @ gradients["items"].T).numpy()
    players = int(game.owners.max()) + 1
    owned = np.eye(players)[game.owners.numpy()]
    found["gradient product"] = products @ owned
    return found


def compare(players: int, items: int, seeds: int, directory: Path) -> dict[str, float]:
    game = play(players, items, seeds=seeds)
    return {name: rank_correlation(scores, game.shapley) for name, scores in scores_of(game, directory).items()}


@pytest.mark.parametrize(
    ("players", "items", "seeds"),
    [(6, 500, 1), pytest.param(8, 800, 2, marks=[pytest.mark.full, pytest.mark.timeout(1_800)])],
)
def test_the_midpoint_agrees_better_with_retrained_shapley_values_than_the_gradient_product(
    players: int, items: int, seeds: int, tmp_path: Path
) -> None:
    found = compare(players, items, seeds, tmp_path)
    assert found["midpoint"] > found["gradient product"] + 0.03
    assert found["midpoint"] > 0.55
    assert found["three nodes"] > found["plain influence"]


def test_random_labels_earn_next_to_nothing_by_items_in_one_account_or_in_one_an_item(tmp_path: Path) -> None:
    """A wrong label helps its false class and harms the right one: net tails take its pay away."""
    items, players = 1_200, 6
    game = play(players, items, seeds=1)
    model = served(game)
    adapter = classifier(model)
    pictures = torch.tensor(load_digits().data[np.random.default_rng(1).permutation(1_797)] / 16, dtype=torch.float32)
    own = pictures[items + QUERIES : items + QUERIES + OWN]
    with torch.no_grad():
        predicted = adapter.module(own).argmax(1)
    mean_of = [adapter.example(value, int(label)) for value, label in zip(own, predicted, strict=True)]
    queries = [adapter.example(value, int(label)) for value, label in zip(game.queries, game.query_labels, strict=True)]
    config = IndexConfig.from_json({"k": 400, "fit_items": items, "pca_items": items})
    index = scorers.build(
        tmp_path / "index", model=model, items=items_of(game, adapter), config=config, mean_of=mean_of
    )
    assert index.net_tails is not None
    features = index.embed(queries)
    pay = paid.by_items(index, features, k=100)
    shares, cut = pay.shares().mean(0), pay.shares_cut_alone().mean(0)
    assert shares[-1] < 1 / players / 5
    assert cut[-1] == pytest.approx(shares[-1], rel=0.01)
    assert rank_correlation(pay.shares(), game.shapley) > 0.8
    by_sums = paid.by_sums(index, features, index.score(features))
    assert by_sums.shares_cut_alone().mean(0)[-1] > 5 * shares[-1]


def test_shapley_values_add_up_to_what_everybody_together_is_worth() -> None:
    coalitions = torch.tensor([[mask >> player & 1 for player in range(4)] for mask in range(16)])
    utilities = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    found = values_of(coalitions, utilities)
    np.testing.assert_allclose(found.sum(1), (utilities[-1] - utilities[0]).numpy(), atol=1e-5)
    additive = coalitions.float() @ torch.tensor([[1.0], [2.0], [0.0], [-1.0]])
    np.testing.assert_allclose(values_of(coalitions, additive), [[1.0, 2.0, 0.0, -1.0]], atol=1e-5)
