"""A worker that attributes generations of the demo's model."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def worker(*, generations: int, authors: int) -> dict[str, Any]:
    """Generations that one worker attributes in a second of one core, and where the time goes."""
    from benchmarks.ledgers.databases import migrated_database

    with tempfile.TemporaryDirectory() as data, migrated_database():
        os.environ["TRIBUTARY_DATA"] = data
        import django

        django.setup()
        return _attribute(Path(data), generations, authors)


def _attribute(data: Path, generations: int, authors: int) -> dict[str, Any]:
    from datetime import UTC, datetime

    import torch

    from attribution.operations import attributions, indexes, manifests, model_services, model_versions, reports
    from attribution.operations.attributions import attribute_batch
    from attribution.operations.indexes import open_built
    from config.demo import corpus, model
    from tests.worlds.trained import register_people

    torch.set_num_threads(1)
    at = datetime.now(UTC)
    chosen = [address for address in corpus.read_addresses() if address.author in corpus.AUTHORS[:authors]]
    tokeniser = model.Tokeniser.train(address.body for address in chosen)
    cut = corpus.cut_works(chosen, encode=tokeniser.encode)
    examples, held_out = (
        [tokeniser.item(chosen[item.work].content, item.token_start, item.token_end) for item in part]
        for part in (cut.items, cut.held_out)
    )
    # The size of the demo's model, after a few steps: its cost does not depend on its quality.
    few = examples[:128]
    training = model.Training(epochs=3)
    model.train(data / "m", items=few, held_out=held_out, tokeniser=tokeniser, training=training)
    _, _, works = register_people(tuple(chosen))
    service = model_services.register_service(name="orator", at=at)
    version = model_versions.register_model_version(
        service=service,
        name="orator-1",
        adapter="causal_lm",
        factory="demo",
        purpose="train_generative",
        directory=data / "m",
        trained_at=at,
        at=at,
    )
    items = [
        manifests.NewItem(works[item.work].pk, ordinal, item.token_start, item.token_end)
        for ordinal, item in enumerate(cut.items)
    ]
    manifests.register_manifest(model_version=version, items=items, at=at)
    started = time.process_time()
    index = indexes.build_index(model_version=version, at=at)
    built = time.process_time() - started
    loaded = open_built(index=index).model
    assert loaded.sample is not None
    outputs = loaded.sample(generations, 7)
    for start in range(0, generations, 500):
        told = [
            {
                "external_id": f"g{start + number}",
                "model_version": version.name,
                "occurred_at": at.isoformat(),
                "prompt": {"text": tokeniser.decode(example.tokens[: example.prompt_tokens])},
                "output": {
                    "text": tokeniser.decode(example.tokens[example.prompt_tokens :]),
                    "token_ids": list(example.tokens[example.prompt_tokens :]),
                },
            }
            for number, example in enumerate(outputs[start : start + 500])
        ]
        reported = reports.report_generations(service=service, generations=told, at=at)
        assert all(result.status == 201 for result in reported), reported[0]
    spent = dict.fromkeys(("gradients", "scores", "evidence"), 0.0)
    opened = open_built(index=index)
    of_index = {"embed": "gradients", "score": "scores", "top_works": "evidence"}
    with Timed(opened.index, of_index, spent), Timed(attributions, {"to_row": "shares"}, spent):
        started, wall = time.process_time(), time.monotonic()
        done = 0
        while settled := attribute_batch(limit=64, at=at):
            done += settled
        cpu, wall = time.process_time() - started, time.monotonic() - wall
    assert done == generations
    spent["rows"] = cpu - sum(spent.values())
    return {
        "index_items": len(cut.items),
        "build_cpu_seconds": round(built, 1),
        "per_cpu_second": round(done / cpu, 1),
        "per_second": round(done / wall, 1),
        "ms_a_generation": {name: round(1000 * seconds / done, 3) for name, seconds in spent.items()},
    }


class Timed:
    """Counts the processor time of an object's functions while the block lasts."""

    def __init__(self, target: Any, names: dict[str, str], spent: dict[str, float]) -> None:
        self.target, self.names, self.spent = target, names, spent

    def __enter__(self) -> None:
        self.before = {name: getattr(self.target, name) for name in self.names}
        for name, label in self.names.items():
            setattr(self.target, name, self._counting(self.before[name], label))

    def __exit__(self, *_: object) -> None:
        for name, function in self.before.items():
            setattr(self.target, name, function)

    def _counting(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            started = time.process_time()
            try:
                return function(*args, **options)
            finally:
                self.spent[label] = self.spent.get(label, 0.0) + time.process_time() - started

        return counted
