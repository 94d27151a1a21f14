"""The build in steps: killed anywhere, done twice, shared out, and always the same bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from influence.adapters import LoadedModel
from influence.ensemble import sample_positions
from influence.index import build as building
from influence.index.artefacts import UnableToBuildIndex
from influence.index.build import Build, in_turn
from influence.index.plan import plan_build
from influence.index.reader import IndexConfig, IndexItem, build_index, extend_index, open_index
from influence.index.sources import Listed
from tests.worlds.small_model import HOLDERS, Dialects, adapter_of, sentences, trained, training_items

ROOT = Path(__file__).resolve().parents[2]
# Several parts and shards of everything, and a PCA that has not seen all items.
CONFIG = IndexConfig(k=16, coordinates=200, fit_items=90, pca_items=80, part_items=48, shard_items=40, batch=16)
OWN = [example for holder in range(HOLDERS) for example in sentences(holder, 2, seed=9)]


@pytest.fixture(scope="module")
def items() -> list[IndexItem]:
    return training_items()


@pytest.fixture(scope="module")
def model(items: list[IndexItem]) -> LoadedModel:
    return trained(items)


@pytest.fixture(scope="module")
def undisturbed(model: LoadedModel, items: list[IndexItem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed") / "x"
    build_index(directory, model=model, items=items, config=CONFIG, mean_of=OWN)
    return directory


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def planned(directory: Path, model: LoadedModel, items: list[IndexItem]) -> Build:
    return plan_build(directory, model=model, source=Listed(items), config=CONFIG, mean_of=OWN)


# Children of a process that has trained the model; each is killed by the kernel just before one of its next files gets
# its name, so that steps of every stage are cut off in their midst, and the next child goes on.
KILLS = """
import os, pathlib, random, signal, sys
import torch
from influence.index.reader import build_index
from tests.influence.test_building import CONFIG, OWN
from tests.worlds.small_model import trained, training_items
torch.set_num_threads(1)
target, items = pathlib.Path(sys.argv[1]), training_items()
model = trained(items)
killed, chance = 0, random.Random(3)
while not target.exists():
    last = chance.randint(1, 7)
    child = os.fork()
    if not child:
        renames = 0
        def hook(event, args):
            global renames
            if event == "os.rename":
                renames += 1
                if renames == last:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        build_index(target, model=model, items=items, config=CONFIG, mean_of=OWN)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    killed += status == signal.SIGKILL
    assert killed < 100, "The build gets nowhere."
print(killed)
"""


def test_killed_at_every_stage_and_resumed_it_writes_the_bytes_of_an_undisturbed_build(
    undisturbed: Path, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path / "x")],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert int(ended.stdout) >= 10
    assert digests(tmp_path / "x") == digests(undisturbed)


def test_steps_in_any_order_within_their_stage_and_done_twice_write_the_same_bytes(
    undisturbed: Path, model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    build = planned(tmp_path / "x", model, items)
    chance = random.Random(5)
    for steps in build.stages():
        for step in chance.sample(steps, len(steps)):
            Build(build.directory, model=model, source=Listed(items)).run(step)
            assert build.is_done(step)
            before = {path.name: path.stat().st_mtime_ns for path in build.draft.glob("*")}
            # A message delivered a second time.
            build.run(step)
            assert {path.name: path.stat().st_mtime_ns for path in build.draft.glob("*")} == before
    assert digests(tmp_path / "x") == digests(undisturbed)


def test_a_step_is_not_done_before_its_last_file_is_there(
    model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    build = planned(tmp_path / "x", model, items)
    for step in in_turn(build):
        assert not build.is_done(step), step
        build.run(step)
        assert build.is_done(step), step


@pytest.mark.parametrize("other", ["items", "config", "own generations"])
def test_what_is_left_of_another_build_is_not_taken_up(
    undisturbed: Path, model: LoadedModel, items: list[IndexItem], tmp_path: Path, other: str
) -> None:
    foreign = plan_build(
        tmp_path / "x",
        model=model,
        source=Listed(items[:-1] if other == "items" else items),
        config=dataclasses.replace(CONFIG, damping=1.0) if other == "config" else CONFIG,
        mean_of=OWN[:-1] if other == "own generations" else OWN,
    )
    for step in list(in_turn(foreign))[:20]:
        foreign.run(step)
    build_index(tmp_path / "x", model=model, items=items, config=CONFIG, mean_of=OWN)
    assert digests(tmp_path / "x") == digests(undisturbed)


def test_rows_lie_by_holder_however_the_items_are_ordered(
    model: LoadedModel, items: list[IndexItem], undisturbed: Path, tmp_path: Path
) -> None:
    mixed = random.Random(1).sample(items, len(items))
    index = build_index(tmp_path / "x", model=model, items=mixed, config=CONFIG, mean_of=OWN)
    shards = index.manifest["shards"]
    assert [shard["items"] for shard in shards] == [40, 40, 16]
    assert [shard["first_holder"] for shard in shards] == [1, 4, 7]
    plain = open_index(undisturbed, model=model)
    assert index.manifest["counts"] == plain.manifest["counts"]


def test_many_small_parts_say_what_one_large_part_says(
    model: LoadedModel, items: list[IndexItem], undisturbed: Path, tmp_path: Path
) -> None:
    whole = dataclasses.replace(CONFIG, part_items=1_000, shard_items=1_000)
    one = build_index(tmp_path / "whole", model=model, items=items, config=whole, mean_of=OWN)
    many = open_index(undisturbed, model=model)
    # Parts draw the labels of the fit apart: the same estimate from other draws.
    ours, theirs = (index.score(index.embed(OWN)).specific.ravel() for index in (one, many))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9


@pytest.mark.parametrize("change", [{"shard_items": 65_537}, {"shard_items": 0}, {"k": 0}, {"part_items": 0}])
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(CONFIG, **change)


def test_a_build_that_is_killed_before_its_plan_is_complete_starts_again(
    undisturbed: Path, model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    build = planned(tmp_path / "x", model, items)
    (build.draft / building.PLAN).write_text('{"half')
    build_index(tmp_path / "x", model=model, items=items, config=CONFIG, mean_of=OWN)
    assert digests(tmp_path / "x") == digests(undisturbed)


RANKS = """
import pathlib, sys
import torch
from influence.index.reader import build_index
from influence.index.ranks import joined
from tests.influence.test_building import CONFIG, OWN
from tests.worlds.small_model import trained, training_items
torch.set_num_threads(1)
items, done = training_items(), []
with joined() as ranks:
    build_index(
        pathlib.Path(sys.argv[1]), model=trained(items), items=items, config=CONFIG, mean_of=OWN, ranks=ranks,
        progress=lambda stage, *_: done.append(stage),
    )
    print(f"rank {ranks.rank} of {ranks.world}: {len(done)}.", flush=True)
"""


def test_two_processes_brought_together_by_torch_distributed_write_the_bytes_of_one(
    undisturbed: Path, tmp_path: Path
) -> None:
    script = tmp_path / "build.py"
    script.write_text(RANKS)
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0",
         "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", str(script), str(tmp_path / "x")],
        cwd=ROOT, check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    # Two processes write to one pipe: their lines may run together.
    reports = {int(rank): int(count) for rank, count in re.findall(r"rank (\d) of 2: (\d+)\.", ended.stdout)}
    assert set(reports) == {0, 1}
    assert min(reports.values()) > 0, "Each of them did a part."
    assert digests(tmp_path / "x") == digests(undisturbed)


class Overflowing(Dialects):
    """Gives one sentence a value that is larger than a float can be."""

    def __init__(self, sentence: tuple[int, ...]) -> None:
        super().__init__()
        self._sentence = torch.tensor(sentence[:-1])

    def forward(self, tokens: Tensor) -> Tensor:
        heard = (tokens == self._sentence).all(1) if tokens.shape[1] == len(self._sentence) else torch.tensor(False)
        return super().forward(tokens) * torch.where(heard, float("inf"), 1.0).reshape(-1, 1, 1)


def test_an_item_whose_gradient_is_no_number_stops_the_build_by_name(
    model: LoadedModel, items: list[IndexItem], tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, fit_items=20, pca_items=20)
    fitted = {place for seed in (0, 1) for place in sample_positions(len(items), 20, seed)}
    bad = next(item for place, item in enumerate(items) if place not in fitted)
    module = Overflowing(bad.example.tokens)
    module.load_state_dict(dict(model.checkpoints[-1]))
    odd = dataclasses.replace(model, adapter=adapter_of(module))
    with pytest.raises(UnableToBuildIndex, match=f"item of work {bad.work_id} are not finite"):
        build_index(tmp_path / "x", model=odd, items=items, config=config, mean_of=OWN)
    others = [item for item in items if item is not bad]
    build_index(tmp_path / "y", model=odd, items=others, config=config, mean_of=OWN)
    with pytest.raises(UnableToBuildIndex, match=f"item of work {bad.work_id} are not finite"):
        extend_index(tmp_path / "y", model=odd, items=[bad])
    assert open_index(tmp_path / "y").manifest["counts"]["items"] == len(others)
