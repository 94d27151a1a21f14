"""Where gradients are computed: named by the installation, the command or nobody, and refused in words if not there.

Everything that can be compared is, on every device that the machine has: on one without a GPU that is the CPU alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from django.conf import settings
from django.core.management import CommandError, call_command

from attribution.models import AttributionIndex
from attribution.operations import attributions, factories
from influence.adapters import LoadedModel, device_of
from influence.gradients.devices import CPU, UnableToUseDevice, find_device
from influence.index.reader import build_index
from tests.influence.test_building import CONFIG, OWN
from tests.worlds.programme import Programme
from tests.worlds.small_model import trained, training_items

SEEN = torch.cuda.device_count() if torch.cuda.is_available() else 0
DEVICES = ["cpu", *(["cuda"] if SEEN else [])]
BEYOND = f"cuda:{SEEN}"


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return trained(training_items())


@pytest.mark.parametrize("device", DEVICES)
def test_features_come_back_to_the_cpu_and_agree_with_those_of_the_cpu(
    model: LoadedModel, tmp_path: Path, device: str
) -> None:
    built = build_index(
        tmp_path / "x", model=replace(model, device=device), items=training_items(), config=CONFIG, mean_of=OWN
    )
    node = built.members[0][0]
    assert device_of(node.tracer.adapter.module).type == device
    assert node.basis.projection is not None
    assert node.basis.projection.device == node.tracer.device
    assert device_of(model.adapter.module) == CPU, "The model that was given stays where it was."
    found = built.embed(OWN)
    assert str(found.dtype) == "float32"
    assert found.shape[:2] == (len(OWN), 2)
    elsewhere = build_index(tmp_path / "cpu", model=model, items=training_items(), config=CONFIG, mean_of=OWN)
    ours, theirs = (index.score(index.embed(OWN)).specific for index in (built, elsewhere))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > (0.9999999 if device == "cpu" else 0.9)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "mps", "", "CPU", "cuda:-1"])
def test_a_device_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UnableToUseDevice, match=r"There is no device .*cpu, cuda or cuda:N"):
        find_device(name)


def test_a_gpu_that_this_process_does_not_see_is_refused_with_those_that_it_sees() -> None:
    with pytest.raises(UnableToUseDevice, match=rf"no {BEYOND} for this process: it sees (no GPU|one GPU|\d+ GPUs)"):
        find_device(BEYOND)
    assert find_device("cpu") == CPU


def test_a_rank_takes_the_gpu_of_its_number_and_is_told_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", str(SEEN))
    with pytest.raises(UnableToUseDevice, match=f"no {BEYOND} for this process"):
        find_device("cuda")
    assert find_device("cpu") == CPU


def test_the_commands_refuse_a_device_in_words_and_begin_nothing(indexed: Programme) -> None:
    for command, name in (("build_index", "orator/orator-1"), ("audit_index", indexed.model_version.name)):
        with pytest.raises(CommandError, match=f"There is no {BEYOND} for this process"):
            call_command(command, name, "--device", BEYOND)
    with pytest.raises(CommandError, match="their ATTRIBUTION_DEVICE names"):
        call_command("build_index", "orator/orator-1", "--queue", "--device", "cpu")
    assert AttributionIndex.objects.get() == indexed.index


def test_a_worker_whose_gpu_is_gone_says_so_and_leaves_what_waits(
    indexed: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed.report(indexed.generation("g1"))
    monkeypatch.setattr(settings, "ATTRIBUTION_DEVICE", BEYOND)
    with pytest.raises(factories.UnableToLoadModel, match=f"There is no {BEYOND} for this process"):
        attributions.attribute_batch(at=indexed.at)
    monkeypatch.setattr(settings, "ATTRIBUTION_DEVICE", "cpu")
    assert attributions.attribute_batch(at=indexed.at) == 1
