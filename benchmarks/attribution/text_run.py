"""The text setting from truth to figures: every method on the same checkpoint, items, queries and retrained models.

Damping and hybrid weight are chosen on the first coalitions; all figures are of the others, which decided nothing. Two
configurations of the midpoint stand side by side: one that keeps all that gradients say, and one that costs little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.attribution import goals, ours, peers, text
from benchmarks.attribution.measures import Scored, lds, positive_shares
from influence.adapters import Example, LoadedModel
from influence.evaluation.retraining import positions_of, retrain_subsets
from influence.gradients import tracing
from influence.gradients.layers import OPTIONAL
from influence.index.config import IndexConfig, gauss_nodes
from influence.index.reader import Index
from influence.index.shards import Array

OWN = 90
MEAN_OF = 256
K = 512
EVERY_COORDINATE = 10**6
# Linear layers alone; a quarter of the items is enough for the factors. It is built in full precision beside it.
FAST = replace(IndexConfig(), coordinates=16_384, k=K, fit_items=256, batch=64, precision="bfloat16")
DAMPINGS = (0.1, 0.3, 1.0)
WEIGHTS = (0.25, 0.5, 1.0, 2.0)
NOISE_Z = 2.0
ROUNDS = 3
"""Of the costs that goals compare."""
Progress = Callable[[str, int, int], None]


class Texts:
    """The tokeniser as the product sees one."""

    def __init__(self, corpus: text.Corpus) -> None:
        self._corpus = corpus

    def encode(self, written: str) -> list[int]:
        return list(self._corpus.tokeniser.encode(written))

    def decode(self, tokens: Any) -> str:
        return str(self._corpus.tokeniser.decode(list(tokens)))

    def item(self, content: str, token_start: int, token_end: int) -> Example:
        return Example(tuple(self.encode(content)[token_start:token_end]))

    def generation(self, prompt: str, output: str, token_ids: Any = None) -> Example:
        before = self.encode(prompt)
        return Example((*before, *(self.encode(output) if token_ids is None else token_ids)), len(before))


class TextTruth:
    """Utilities of the queries under retrained models: coalitions to choose on and to report on, item halves."""

    def __init__(
        self,
        corpus: text.Corpus,
        queries: tuple[Example, ...],
        cache: Path,
        *,
        chosen_on: int,
        reported_on: int,
        item_halves: int,
        processes: int,
        progress: Progress,
    ) -> None:
        coalitions = text.coalitions_of(chosen_on + reported_on)
        subsets = [positions_of(corpus.owners, coalition) for coalition in coalitions]
        task = text.retraining(corpus, queries, subsets, seed=100)
        utilities = retrain_subsets(task, cache / "truth", processes=processes, progress=progress)
        present = np.array(
            [[who in coalition for who in range(text.CONTRIBUTORS)] for coalition in coalitions], dtype=float
        )
        self.chosen_on = (present[:chosen_on], utilities[:chosen_on])
        self.reported_on = (present[chosen_on:], utilities[chosen_on:])
        self.everything = (present, utilities)
        self.halves: tuple[Array, Array] | None = None
        if item_halves:
            halves = text.item_halves(len(corpus.items), item_halves)
            task = text.retraining(corpus, queries, halves, seed=1_000)
            found = retrain_subsets(task, cache / "truth", processes=processes, progress=progress)
            inside = np.zeros((len(halves), len(corpus.items)))
            for row, half in enumerate(halves):
                inside[row, list(half)] = 1
            self.halves = (inside, found)


def run(cache: Path, *, quick: bool, processes: int, progress: Progress) -> dict[str, Any]:
    corpus = text.read_corpus(cache)
    states = text.trained(corpus, cache)
    module = text.module_of(states[-1])
    own = text.own_generations(module, corpus, OWN, seed=1)
    mean_of = text.own_generations(module, corpus, MEAN_OF, seed=2)
    queries = (*corpus.held_out, *own)
    parts = {"held_out": slice(0, len(corpus.held_out)), "own": slice(len(corpus.held_out), None)}
    truth = TextTruth(
        corpus,
        queries,
        cache,
        chosen_on=6 if quick else 20,
        reported_on=14 if quick else 60,
        item_halves=0 if quick else 24,
        processes=processes,
        progress=progress,
    )
    model = LoadedModel(
        adapter=text.adapter_of(module),
        tokeniser=Texts(corpus),
        checkpoints=(states[-1],),
        initial=text.initial_state(),
    )
    ensemble = replace(model, checkpoints=tuple(states))
    setting = ours.Setting(model, corpus.items, queries, parts["own"], text.CONTRIBUTORS, cache / "scratch")
    scored, chosen = _scored(setting, replace(setting, model=ensemble), truth, parts["own"], mean_of, quick=quick)
    libraries = peers.PEERS if not quick else {name: peers.PEERS[name] for name in list(peers.PEERS)[2:]}
    problem = peers.Problem(
        "text", text.module_of(states[-1]), peers.text_batch(corpus.examples), peers.text_batch(queries)
    )
    for name, ask in libraries.items():
        progress(f"text: {name}", 0, 1)
        answer = ask(problem, setting.scratch / "library")
        query = answer.one_query_seconds or answer.query_seconds / len(queries)
        costs = {"build": answer.build_seconds, "queries": answer.query_seconds, "query": query}
        if answer.feature_seconds is not None:
            costs["features"] = answer.feature_seconds
        scored.append(setting.scored(name, "library", answer.scores.astype(np.float64), **costs))
    if not quick:
        compared = _costs_in_turn(setting, problem, mean_of, progress)
        scored = [replace(one, costs={**one.costs, **compared.get(one.name, {})}) for one in scored]
    rows = [{"method": one.name, "kind": one.kind, **figures(one, truth, parts), **one.costs} for one in scored]
    return {
        "items": len(corpus.items),
        "parameters": sum(p.numel() for p in module.parameters()),
        "coalitions": {"chosen_on": len(truth.chosen_on[0]), "reported_on": len(truth.reported_on[0])},
        "item_halves": 0 if truth.halves is None else len(truth.halves[0]),
        "queries": {"held_out": len(corpus.held_out), "own": len(own)},
        "chosen": chosen,
        "methods": rows,
    }


def _scored(
    setting: ours.Setting, ensemble: ours.Setting, truth: TextTruth, own: slice, mean_of: list[Example], *, quick: bool
) -> tuple[list[Scored], dict[str, Any]]:
    """Score baselines and ours; damping and weight by the specific part of own generations, the paid part."""
    found = [ours.pro_rata(setting), ours.cosine(setting, _hidden(setting)), ours.gradient_dots(setting)]
    base = IndexConfig("hybrid", coordinates=EVERY_COORDINATE, k=K, fit_items=len(setting.items))

    def agreement(one: Scored) -> float:
        present, utilities = truth.chosen_on
        assert one.specific is not None
        return lds(present @ one.specific[own].T, _apart(utilities[:, own]))

    candidates: list[tuple[float, ours.Built, Scored]] = []
    for damping in DAMPINGS if not quick else DAMPINGS[1:2]:
        built = ours.build(setting, replace(base, damping=damping), mean_of=mean_of)
        part = replace(built, index=built.index.midpoint, seconds=built.gradient_seconds)
        one = ours.from_index(setting, f"midpoint, damping {damping:g} (chosen)", part)
        candidates.append((agreement(one), built, one))
    best, built, midpoint = max(candidates, key=lambda candidate: candidate[0])
    untuned = next(one for _, candidate, one in candidates if candidate.index.config.damping == IndexConfig().damping)
    wording = ours.build(setting, base.of_part("lexical"), mean_of=mean_of)
    found.append(ours.from_index(setting, "lexical TF-IDF (similarity)", wording))
    influence = replace(base.of_part("midpoint"), nodes=((1.0, 1.0),))
    found.append(ours.from_index(setting, "plain influence", ours.build(setting, influence, mean_of=mean_of)))
    untuned_built = next(built for _, built, one in candidates if one is untuned)
    found.append(_with_feature_pass(setting, replace(untuned, name=goals.MIDPOINT), untuned_built.index.midpoint))
    for name in (goals.LINEAR, goals.FAST):
        fast = ours.build(setting, _fast(setting, name), mean_of=mean_of)
        found.append(_with_feature_pass(setting, ours.from_index(setting, name, fast), fast.index))
    if midpoint is not untuned:
        found.append(midpoint)
    if not quick:
        path = replace(base.of_part("midpoint"), nodes=gauss_nodes(3), damping=built.index.config.damping)
        found.append(ours.from_index(setting, "path, 3 nodes", ours.build(setting, path, mean_of=mean_of)))
    weights = {weight: agreement(ours.hybrid_with(setting, built.index, "", weight)) for weight in WEIGHTS}
    weight = max(weights, key=lambda one: weights[one])
    costs = ours.from_index(setting, "", built).costs
    found.append(
        replace(ours.hybrid_with(setting, built.index, f"hybrid, weight {weight:g} (chosen)", weight), costs=costs)
    )
    of_many = replace(base, damping=built.index.config.damping, lexical_weight=weight)
    if not quick:
        many = ours.build(ensemble, of_many, mean_of=mean_of)
        part = replace(many, index=many.index.midpoint, seconds=many.gradient_seconds)
        found.append(ours.from_index(ensemble, "midpoint, 3 checkpoints", part))
        found.append(ours.from_index(ensemble, "hybrid, 3 checkpoints", many))
    dampings = {f"{candidate.index.config.damping:g}": score for score, candidate, _ in candidates}
    return found, {"damping": dampings, "weight": {f"{one:g}": score for one, score in weights.items()}, "best": best}


def figures(one: Scored, truth: TextTruth, parts: dict[str, slice]) -> dict[str, float]:
    present, utilities = truth.reported_on
    found = {}
    assert one.specific is not None
    assert one.general is not None
    for name, part in parts.items():
        found[f"coalition_lds_{name}"] = lds(present @ one.contributors[part].T, utilities[:, part])
        found[f"specific_{name}"] = lds(present @ one.specific[part].T, _apart(utilities[:, part]))
        mean = utilities[:, part].mean(1, keepdims=True)
        found[f"general_{name}"] = lds((present @ one.general)[:, None], mean)
        if one.items is not None and truth.halves is not None:
            inside, halved = truth.halves
            found[f"item_lds_{name}"] = lds(inside @ one.items[part].T, halved[:, part])
    own = parts["own"]
    specific = one.specific[own]
    if one.standard_errors is not None:
        # A positive score below the noise floor keeps its part and does not earn it, as in the product.
        shares = positive_shares(specific) * (specific >= NOISE_Z * one.standard_errors[own])
    else:
        shares = positive_shares(specific)
    general = positive_shares(one.general[None])[0]
    found["noise_specific"] = float(shares[:, text.NOISE].mean())
    found["noise_general"] = float(general[text.NOISE])
    found["copy_ratio"] = float(general[text.COPIER] / max(general[text.COPIED], 1e-12))
    return found


def _apart(utilities: Array) -> Array:
    return np.asarray(utilities - utilities.mean(1, keepdims=True))


def _hidden(setting: ours.Setting) -> Callable[[Any], Tensor]:
    @torch.no_grad()
    def embed(examples: Any) -> Tensor:
        module: Any = setting.model.adapter.module
        states: list[Tensor] = []
        handle = module.last_norm.register_forward_hook(lambda layer, given, output: states.append(output.mean(1)))
        for start in range(0, len(examples), 64):
            module(torch.tensor([example.tokens[:-1] for example in examples[start : start + 64]]))
        handle.remove()
        return torch.cat(states)

    return embed


def _fast(setting: ours.Setting, name: str) -> IndexConfig:
    precision = FAST.precision if name == goals.FAST else "float32"
    return replace(FAST, left_out=_all_but_linear(setting), precision=precision)


def _all_but_linear(setting: ours.Setting) -> tuple[str, ...]:
    layers = tracing.layers_of(setting.model.adapter)
    return tuple(sorted(name for name, layer in layers.items() if layer.kind in OPTIONAL))


def _with_feature_pass(setting: ours.Setting, one: Scored, index: Index) -> Scored:
    """Add the CPU seconds to embed every item once with a fitted basis: the feature pass of other libraries."""
    return replace(one, costs={**one.costs, "features": _feature_seconds(setting, index)})


def _feature_seconds(setting: ours.Setting, index: Index) -> float:
    started = time.process_time()
    index.embed(setting.examples)
    return time.process_time() - started


def _costs_in_turn(
    setting: ours.Setting, problem: peers.Problem, mean_of: list[Example], progress: Progress
) -> dict[str, dict[str, float]]:
    """CPU seconds of the builds that goals compare, medians of rounds that take each in turn: a machine that is slower
    for some minutes is so for all of them."""
    taken: dict[str, list[tuple[float, float]]] = {
        name: [] for name in (goals.FAST, goals.TRAKER, goals.LINEAR, goals.DATTRI)
    }
    inputs, targets, scored = (part[: peers.BATCH] for part in problem.queries)
    few = replace(problem, queries=(inputs, targets, scored))
    for number in range(ROUNDS):
        progress("text: costs in turn", number, ROUNDS)
        for name, found in taken.items():
            if name in peers.PEERS:
                answer = peers.PEERS[name](few, setting.scratch / "library")
                assert answer.feature_seconds is not None
                found.append((answer.build_seconds, answer.feature_seconds))
            else:
                built = ours.build(setting, _fast(setting, name), mean_of=mean_of)
                found.append((built.seconds, _feature_seconds(setting, built.index)))
    return {
        name: dict(zip(("build", "features"), np.median(found, axis=0).tolist(), strict=True))
        for name, found in taken.items()
    }
