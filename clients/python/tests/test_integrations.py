"""Manifests written by a real Trainer and by a PyTorch loop, on a tiny model, also after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tributary.errors import InvalidInput
from tributary.integrations.manifest_writer import ManifestWriter

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tributary.integrations.torch import WorkDataset  # noqa: E402
from tributary.integrations.transformers import ManifestCallback  # noqa: E402

EXAMPLES = 22
LENGTH = 8


class Seen(torch.utils.data.Dataset):  # type: ignore[misc,name-defined]
    """Rows of which each begins with its own position, so that a model tells on which ones it was trained."""

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = torch.full((LENGTH,), index)
        return {"input_ids": ids, "labels": ids}


def work(index: int) -> str:
    return f"0192f0c1-0000-7000-8000-{index:012x}"


def dataset() -> WorkDataset:
    return WorkDataset(Seen(), [work(index) for index in range(EXAMPLES)])


class Witness(transformers.GPT2LMHeadModel):  # type: ignore[misc,name-defined]
    """A model that notes every batch on which it is trained."""

    def forward(self, input_ids: Any = None, labels: Any = None, **rest: Any) -> Any:
        if self.training:
            self.batches.append(input_ids[:, 0].tolist())
        return super().forward(input_ids=input_ids, labels=labels, **rest)


def model() -> Any:
    torch.manual_seed(1)
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=EXAMPLES, n_positions=LENGTH)
    made = Witness(config)
    made.batches = []
    return made


class StopAt(transformers.TrainerCallback):  # type: ignore[misc,name-defined]
    """An interruption."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def trainer(folder: Path, data: WorkDataset, callbacks: list[Any], **options: Any) -> Any:
    given = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 5,
        "use_cpu": True,
        **options,
    }
    arguments = transformers.TrainingArguments(output_dir=str(folder / "out"), **given)
    return transformers.Trainer(model=model(), args=arguments, train_dataset=data, callbacks=callbacks)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def first_uses(batches: list[list[int]]) -> list[str]:
    return [work(index) for index in dict.fromkeys(index for batch in batches for index in batch)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_steps": 3},
        {"gradient_accumulation_steps": 2, "dataloader_drop_last": True},
        {"gradient_accumulation_steps": 4},
        {"dataloader_num_workers": 2, "max_steps": 4},
    ],
    ids=["two epochs", "stopped early", "accumulated", "accumulated to the end", "fetched ahead"],
)
def test_the_manifest_has_the_examples_of_the_training_in_their_order(tmp_path: Path, options: dict[str, Any]) -> None:
    data = dataset()
    callback = ManifestCallback(data, tmp_path / "manifest.jsonl", steps=tmp_path / "steps.jsonl")
    running = trainer(tmp_path, data, [callback], **options)
    running.train()
    batches = running.model.batches
    assert [line["examples"] for line in lines(tmp_path / "steps.jsonl")] == batches
    assert [line["work"] for line in lines(tmp_path / "manifest.jsonl")] == first_uses(batches)
    assert len(set(first_uses(batches))) == len(lines(tmp_path / "manifest.jsonl"))


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("stop", [4, 8])
def test_an_interrupted_training_goes_on_with_its_manifest(tmp_path: Path, accumulation: int, stop: int) -> None:
    """Interrupted two steps after its checkpoint, within an epoch and after one; the whole training is the measure."""
    options = {"gradient_accumulation_steps": accumulation, "num_train_epochs": 4}
    saving = {**options, "save_strategy": "steps", "save_steps": stop - 2}
    whole = tmp_path / "whole"
    whole.mkdir()
    data = dataset()
    measured = trainer(whole, data, [ManifestCallback(data, whole / "m", steps=whole / "s")], **options)
    measured.train()
    broken = trainer(
        tmp_path, data, [ManifestCallback(data, tmp_path / "m", steps=tmp_path / "s"), StopAt(stop)], **saving
    )
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    again = trainer(tmp_path, data, [ManifestCallback(data, tmp_path / "m", steps=tmp_path / "s")], **saving)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{stop - 2}"))
    assert (tmp_path / "s").read_text() == (whole / "s").read_text()
    assert (tmp_path / "m").read_text() == (whole / "m").read_text()


def test_a_training_that_goes_on_without_the_state_of_its_manifest_is_refused(tmp_path: Path) -> None:
    data = dataset()
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    trainer(tmp_path, data, [], **saving).train()
    again = trainer(tmp_path, data, [ManifestCallback(data, tmp_path / "m")], **{**saving, "max_steps": 6})
    with pytest.raises(InvalidInput, match="goes on from step 2"):
        again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))


def test_another_dataset_than_the_trainers_is_refused(tmp_path: Path) -> None:
    small = WorkDataset([{"input_ids": torch.zeros(LENGTH)}] * 3, [work(index) for index in range(3)])
    with pytest.raises(InvalidInput, match="22 examples and the callback 3"):
        trainer(tmp_path, dataset(), [ManifestCallback(small, tmp_path / "m")]).train()


def test_a_stream_is_refused(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc,name-defined]
        def __iter__(self) -> Any:
            return (Seen()[index] for index in range(EXAMPLES))

    with pytest.raises(InvalidInput, match="as a stream"):
        trainer(tmp_path, Stream(), [ManifestCallback(dataset(), tmp_path / "m")], max_steps=2).train()


# --- a loop of one's own ----------------------------------------------------------------------------------------------
def test_a_loop_records_the_positions_that_its_batches_carry(tmp_path: Path) -> None:
    works = [{"work": work(index), "token_start": 0, "token_end": LENGTH} for index in range(EXAMPLES)]
    data = WorkDataset(Seen(), works, index_key="position")
    loader = torch.utils.data.DataLoader(data, batch_size=5, shuffle=True, num_workers=2)
    order = []
    with ManifestWriter(data, tmp_path / "manifest.jsonl") as writer:
        for _ in range(2):
            for batch in loader:
                order.append(batch["input_ids"][:, 0].tolist())
                writer.record(batch["position"])
    assert [line["work"] for line in lines(tmp_path / "manifest.jsonl")] == first_uses(order)
    assert lines(tmp_path / "manifest.jsonl")[0] == works[order[0][0]]


def test_a_packed_example_has_several_items(tmp_path: Path) -> None:
    packed: list[Any] = [{"work": work(0), "token_start": 0, "token_end": 5}, work(1)]
    data = WorkDataset([{"x": 1}, {"x": 2}], [packed, work(2)])
    with ManifestWriter(data, tmp_path / "m") as writer:
        writer.record([0])
        writer.record([1, 0])
    assert writer.items == 3
    assert lines(tmp_path / "m") == [packed[0], {"work": work(1)}, {"work": work(2)}]
    assert data[0] == {"x": 1}


@pytest.mark.parametrize(
    ("works", "reason"),
    [
        ([work(0)], "2 examples have 1 entries"),
        ([work(0), []], "example 1 has no work"),
        ([work(0), {"token_start": 1}], "example 1: name the work by exactly one"),
        ([work(0), {"work": work(1), "token_start": 3, "token_end": 3}], "example 1: token_end: it ends at 3"),
    ],
)
def test_works_that_are_none_are_told_with_their_place(works: list[Any], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        WorkDataset([{}, {}], works)


def test_a_position_beyond_the_dataset_is_refused(tmp_path: Path) -> None:
    with ManifestWriter(dataset(), tmp_path / "m") as writer, pytest.raises(InvalidInput, match="none at 22"):
        writer.record([22])
