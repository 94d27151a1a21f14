"""The same question put to three libraries: traker 0.3.2, dattri 0.3.0 and kronfluence 1.0.1, each as its manual says.

Every function gives scores (queries, items), higher for an item that raises the query's log-likelihood more, and the
CPU seconds that it took to look at the training items and at the queries.
"""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.attribution.goals import DATTRI, TRAKER
from influence.index.shards import Array

Batch = tuple[Tensor, Tensor, Tensor]
PROJECTED = 512
BATCH = 64


@dataclass(frozen=True)
class Problem:
    """A module called as module(inputs) -> logits (B, T, V), with targets (B, T) and which of them count, (B, T)."""

    name: str
    module: nn.Module
    training: Batch
    queries: Batch
    factor_batch: int = BATCH


@dataclass(frozen=True)
class Answer:
    scores: Array
    build_seconds: float
    query_seconds: float
    """For all queries together."""
    one_query_seconds: float | None = None
    """For one query alone, where that is not the share of one in the sum."""
    feature_seconds: float | None = None
    """Of the pass over the training items alone."""
    bytes_per_item: float | None = None


def log_chances(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-likelihood of each target, (..., T)."""
    return torch.gather(logits.log_softmax(-1), -1, targets[..., None])[..., 0]


def _mean(values: Tensor, scored: Tensor) -> Tensor:
    return (values * scored).sum(-1) / scored.sum(-1)


def _batches(batch: Batch, size: int = BATCH) -> list[Batch]:
    parts = zip(*(torch.split(part, size) for part in batch), strict=True)
    return [(inputs, targets, scored) for inputs, targets, scored in parts]


def traker(problem: Problem, directory: Path, *, ridge: float = 0.0) -> Answer:
    import trak
    from trak.modelout_functions import AbstractModelOutput

    class MeanMargin(AbstractModelOutput):  # type: ignore[misc]
        """Mean over the scored targets of log p / (1 - p), TRAK's output function."""

        def __init__(self) -> None:
            pass

        @staticmethod
        def get_output(model: Any, weights: Any, buffers: Any, inputs: Any, targets: Any, scored: Any) -> Tensor:
            logits = torch.func.functional_call(model, (weights, buffers), inputs[None])[0]
            found = log_chances(logits, targets)
            return _mean(found - torch.log1p(-found.exp().clamp(max=1 - 1e-6)), scored)

        def get_out_to_loss_grad(self, model: Any, weights: Any, buffers: Any, batch: Any) -> Tensor:
            inputs, targets, scored = batch
            with torch.no_grad():
                found = log_chances(torch.func.functional_call(model, (weights, buffers), inputs), targets)
            return _mean(1 - found.exp(), scored)[:, None]

    shutil.rmtree(directory, ignore_errors=True)
    count = len(problem.training[0])
    state = problem.module.state_dict()
    started = time.process_time()
    traced = trak.TRAKer(
        model=problem.module,
        task=MeanMargin(),
        train_set_size=count,
        save_dir=str(directory),
        device="cpu",
        proj_dim=PROJECTED,
        use_half_precision=False,
        logging_level=logging.ERROR,
        lambda_reg=ridge,
    )
    traced.load_checkpoint(state, model_id=0)
    for batch in _batches(problem.training):
        traced.featurize(batch=batch, num_samples=len(batch[0]))
    features = time.process_time() - started
    traced.finalize_features()
    build = time.process_time() - started
    traced.start_scoring_checkpoint("queries", state, model_id=0, num_targets=len(problem.queries[0]))
    for batch in _batches(problem.queries):
        traced.score(batch=batch, num_samples=len(batch[0]))
    found = traced.finalize_scores("queries")
    query = time.process_time() - started - build
    return Answer(found.T.copy(), build, query, feature_seconds=features, bytes_per_item=4 * PROJECTED)


def dattri(problem: Problem, directory: Path, *, ridge: float = 0.0) -> Answer:
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask

    module = problem.module

    def margin(weights: Any, batch: Batch) -> Tensor:
        inputs, targets, scored = batch
        found = log_chances(torch.func.functional_call(module, weights, inputs[None])[0], targets)
        return _mean(found - torch.log1p(-found.exp().clamp(max=1 - 1e-6)), scored)

    def chance(weights: Any, batch: Batch) -> Tensor:
        inputs, targets, scored = batch
        return _mean(log_chances(torch.func.functional_call(module, weights, inputs[None])[0], targets).exp(), scored)

    task = AttributionTask(loss_func=margin, model=module, checkpoints=module.state_dict())
    started = time.process_time()
    attributor = TRAKAttributor(
        task, chance, projector_kwargs={"proj_dim": PROJECTED, "device": "cpu"}, regularization=ridge
    )
    attributor.cache(_loader(problem.training))
    build = time.process_time() - started
    with torch.no_grad():
        found = attributor.attribute(_loader(problem.queries))
    query = time.process_time() - started - build
    return Answer(found.T.numpy().copy(), build, query, feature_seconds=build, bytes_per_item=4 * PROJECTED)


def kronfluence(problem: Problem, directory: Path, *, damping: float | None = 1e-8) -> Answer:
    """`damping` None is the library's heuristic, a tenth of a layer's mean eigenvalue; 1e-8 is its default."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Likelihood(Task):  # type: ignore[misc]
        def compute_train_loss(self, batch: Batch, model: nn.Module, sample: bool = False) -> Tensor:
            inputs, targets, scored = batch
            logits = model(inputs)
            if sample:
                with torch.no_grad():
                    drawn = torch.multinomial(logits.softmax(-1).flatten(0, 1), 1)
                targets = drawn.view(targets.shape)
            return -(log_chances(logits, targets) * scored).sum()

        def compute_measurement(self, batch: Batch, model: nn.Module) -> Tensor:
            inputs, targets, scored = batch
            return -_mean(log_chances(model(inputs), targets), scored).sum()

    shutil.rmtree(directory, ignore_errors=True)
    task = Likelihood()
    model = prepare_model(_copied(problem.module), task)
    training, queries = _dataset(problem.training), _dataset(problem.queries)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analyzer = Analyzer(
            "bench", model, task, cpu=True, log_level=logging.ERROR, disable_tqdm=True, output_dir=str(directory)
        )
        started = time.process_time()
        analyzer.fit_all_factors(
            "factors",
            training,
            per_device_batch_size=problem.factor_batch,
            factor_args=FactorArguments(strategy="ekfac"),
        )
        build = time.process_time() - started

        def scores(name: str, asked: Any) -> Tensor:
            analyzer.compute_pairwise_scores(
                name,
                "factors",
                asked,
                training,
                per_device_query_batch_size=BATCH,
                per_device_train_batch_size=256,
                score_args=ScoreArguments(damping_factor=damping),
            )
            found: Tensor = analyzer.load_pairwise_scores(name)["all_modules"]
            return found

        found = scores("all", queries)
        query = time.process_time() - started - build
        scores("one", torch.utils.data.Subset(queries, [0]))
        one = time.process_time() - started - build - query
    # Influence on the loss (the measured value) of adding an item's loss: both signs turn, so helpful is positive.
    return Answer(found.float().numpy(), build, query, one_query_seconds=one)


def _loader(batch: Batch) -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(_dataset(batch), batch_size=BATCH, shuffle=False)


def _dataset(batch: Batch) -> torch.utils.data.TensorDataset:
    return torch.utils.data.TensorDataset(*batch)


def _copied(module: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(module)


def text_batch(examples: Sequence[Any]) -> Batch:
    """Examples of one length, as inputs, targets and which targets are scored."""
    tokens = torch.tensor([example.tokens for example in examples])
    starts = torch.tensor([max(example.prompt_tokens, 1) for example in examples])
    scored = (torch.arange(1, tokens.shape[1]) >= starts[:, None]).float()
    return tokens[:, :-1], tokens[:, 1:], scored


class OneTarget(nn.Module):
    """A classifier seen as a sequence of length one, so that peers need one way of putting the question."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(x)
        return logits[..., None, :]


PEERS: dict[str, Callable[..., Answer]] = {
    TRAKER: traker,
    DATTRI: dattri,
    "EK-FAC, kronfluence 1.0.1": kronfluence,
}
