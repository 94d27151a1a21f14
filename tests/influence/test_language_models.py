"""A tied head and a LoRA adapter by itself go the whole way: an index, its evaluation, and the planted controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from influence.evaluation.lds import audit
from influence.index.config import IndexConfig
from influence.index.reader import build_index
from influence.scorers import UnableToBuildIndex
from tests.worlds.language_models import trained_gpt
from tests.worlds.small_model import HOLDERS, sentences, training_items

CONFIG = IndexConfig(k=8, coordinates=128, fit_items=48, pca_items=96)
SAID = [example for holder in range(HOLDERS) for example in sentences(holder, 2, seed=6)]
HELD_OUT = [example for holder in range(HOLDERS) for example in sentences(holder, 2, seed=5)]
ITEMS = training_items()


@pytest.mark.parametrize("kind", ["tied", "lora"])
def test_a_tied_head_and_an_adapter_alone_are_built_evaluated_and_controlled(kind: str, tmp_path: Path) -> None:
    model = trained_gpt(kind, [item.example for item in ITEMS])
    if kind == "lora":
        assert all("lora_" in name or "bias" in name for name in model.checkpoints[0])
    index = build_index(tmp_path / "index", model=model, items=ITEMS, config=CONFIG, mean_of=SAID)
    report = audit(
        index,
        model=model,
        items=ITEMS,
        held_out=HELD_OUT,
        own_generations=SAID,
        cache=tmp_path / "cache",
        coalitions=4,
        processes=1,
    )
    assert report["controls"] is not None
    assert 0 <= report["controls"]["noise"] <= 1


def test_an_adapter_alone_gives_the_features_of_the_whole_checkpoint(tmp_path: Path) -> None:
    part = trained_gpt("lora", [item.example for item in ITEMS])
    module = part.adapter.module
    whole = {name: values.clone() for name, values in module.state_dict().items()}
    before = {**whole, **(part.initial or {})}
    found = []
    for name, model in (("part", part), ("whole", replace(part, checkpoints=(whole,), initial=before))):
        index = build_index(tmp_path / name, model=model, items=ITEMS, config=CONFIG, mean_of=SAID)
        assert set(index.manifest["layers"]) == {
            f"transformer.h.0.{layer}.lora_{side}" for layer in ("attn.c_attn", "mlp.c_fc") for side in "AB"
        }
        found.append(index.score(index.embed(SAID)).specific)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("without", r"Checkpoint 1 lacks parameters that learn: 'transformer\.h\.0\.attn\.c_attn\.lora_A\.weight'\."),
        ("other", r"Checkpoint 1 has parameters that the module does not know: 'adapter\.lora_A'\."),
        ("shape", r"Checkpoint 1 has another shape of 'transformer\.h\.0\.attn\.c_attn\.lora_A\.weight'"),
    ],
)
def test_a_checkpoint_that_the_module_cannot_take_is_refused_before_the_build(
    change: str, reason: str, tmp_path: Path
) -> None:
    model = trained_gpt("lora", [item.example for item in ITEMS])
    name = "transformer.h.0.attn.c_attn.lora_A.weight"
    state = dict(model.checkpoints[0])
    if change == "without":
        del state[name]
    elif change == "other":
        state["adapter.lora_A"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(3, 3)
    with pytest.raises(UnableToBuildIndex, match=reason):
        build_index(tmp_path / "index", model=replace(model, checkpoints=(state,)), items=ITEMS, config=CONFIG)
    assert not list(tmp_path.glob("*.draft"))
