"""The demo's model: text alone carries the author, seeds decide everything, and loading restores the saved model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from config.demo import corpus, model
from config.demo.corpus import AUTHORS, Address
from influence.adapters import Example, LoadedModel
from influence.index.reader import IndexConfig, IndexItem, build_index

SHAPE = model.Shape(width=16, layers=1, heads=2)
TRAINING = model.Training(epochs=4, batch=16, warmup=5)


@pytest.fixture(scope="module")
def works() -> tuple[Address, ...]:
    return corpus.read_addresses()


@pytest.fixture(scope="module")
def tokeniser(works: tuple[Address, ...]) -> model.Tokeniser:
    return model.Tokeniser.train(work.body for work in works)


@pytest.fixture(scope="module")
def texts(works: tuple[Address, ...], tokeniser: model.Tokeniser) -> tuple[list[Example], list[Example]]:
    cut = corpus.cut_works(works, encode=tokeniser.encode)
    return tuple(  # type: ignore[return-value]
        [tokeniser.item(works[item.work].content, item.token_start, item.token_end) for item in part]
        for part in (cut.items[::20], cut.held_out)
    )


@pytest.fixture(scope="module")
def trained(
    texts: tuple[list[Example], list[Example]], tokeniser: model.Tokeniser, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, LoadedModel]:
    directory = tmp_path_factory.mktemp("model")
    items, held_out = texts
    return directory, model.train(
        directory, items=items, held_out=held_out, tokeniser=tokeniser, training=TRAINING, shape=SHAPE
    )


def test_every_address_comes_back_from_its_tokens(works: tuple[Address, ...], tokeniser: model.Tokeniser) -> None:
    for work in works[::5]:
        assert tokeniser.decode(tokeniser.encode(work.body)) == work.body


def test_an_authors_symbol_is_one_token_in_plain_text(tokeniser: model.Tokeniser) -> None:
    for author in AUTHORS:
        tokens = tokeniser.encode(f"{author.symbol}My fellow citizens")
        assert tokens[0] == tokeniser.symbol(author)
        assert tokeniser.decode(tokens) == f"{author.symbol}My fellow citizens"
    assert len({tokeniser.symbol(author) for author in AUTHORS}) == 8


def test_an_item_is_the_authors_symbol_and_a_piece_of_the_body(
    works: tuple[Address, ...], tokeniser: model.Tokeniser
) -> None:
    item = tokeniser.item(works[0].content, 128, 256)
    assert item.prompt_tokens == 1
    assert item.tokens[0] == tokeniser.symbol(AUTHORS[0])
    assert list(item.tokens[1:]) == tokeniser.encode(works[0].body)[128:256]
    assert tokeniser.item("A text of nobody.", 0, 3).prompt_tokens == 0


def test_a_generation_keeps_the_token_ids_that_were_reported(tokeniser: model.Tokeniser) -> None:
    retokenised = tokeniser.generation("<|grant|>The", " Union")
    reported = tokeniser.generation("<|grant|>The", " Union", token_ids=[7, 8, 9])
    assert retokenised.prompt_tokens == reported.prompt_tokens == len(tokeniser.encode("<|grant|>The"))
    assert tokeniser.decode(retokenised.tokens) == "<|grant|>The Union"
    assert reported.tokens[-3:] == (7, 8, 9)


def test_training_writes_what_load_needs_and_lowers_the_loss(
    trained: tuple[Path, LoadedModel], texts: tuple[list[Example], list[Example]]
) -> None:
    directory, loaded = trained
    assert {path.name for path in directory.iterdir()} == {
        "initial.safetensors",
        "checkpoint-1.safetensors",
        "checkpoint-2.safetensors",
        "checkpoint-3.safetensors",
        "tokenizer.model",
        "config.json",
        "held_out.json",
    }
    assert len(loaded.checkpoints) == 3
    assert loaded.initial is not None
    assert loaded.held_out is not None
    assert loaded.held_out() == texts[1]
    with torch.no_grad():
        after = loaded.adapter.utility(texts[1]).values.mean()
        loaded.adapter.module.load_state_dict(dict(loaded.initial))
        before = loaded.adapter.utility(texts[1]).values.mean()
        loaded.adapter.module.load_state_dict(dict(loaded.checkpoints[-1]))
    assert after > before + 0.3


def test_the_same_seed_trains_the_same_model_and_another_does_not(
    trained: tuple[Path, LoadedModel],
    texts: tuple[list[Example], list[Example]],
    tokeniser: model.Tokeniser,
    tmp_path: Path,
) -> None:
    def last(seed: int) -> bytes:
        directory = tmp_path / str(seed)
        training = replace(TRAINING, seed=seed)
        model.train(directory, items=texts[0], held_out=texts[1], tokeniser=tokeniser, training=training, shape=SHAPE)
        return (directory / "checkpoint-3.safetensors").read_bytes()

    assert last(0) == (trained[0] / "checkpoint-3.safetensors").read_bytes() != last(1)


def test_sampling_with_a_cache_says_what_the_model_says_without(trained: tuple[Path, LoadedModel]) -> None:
    module = trained[1].adapter.module
    assert isinstance(module, model.StyledGPT)
    tokens = torch.randint(1, 500, (2, 20))
    caches = module.new_caches(len(tokens), 20)
    with torch.no_grad():
        whole = module(tokens)
        first = module(tokens[:, :6], style=tokens[:, :1], caches=caches)
        steps = [module(tokens[:, at : at + 1], style=tokens[:, :1], caches=caches, start=at) for at in range(6, 20)]
    torch.testing.assert_close(torch.cat([first, *steps], 1), whole, rtol=1e-4, atol=1e-5)


def test_own_generations_are_decided_by_their_seed_and_can_be_scored(trained: tuple[Path, LoadedModel]) -> None:
    loaded = trained[1]
    assert loaded.sample is not None
    generations = loaded.sample(10, 3)
    assert generations == loaded.sample(10, 3) != loaded.sample(10, 4)
    for generation in generations:
        assert (len(generation.tokens), generation.prompt_tokens) == (129, 5)
        assert 0 not in generation.tokens[5:]
        loaded.adapter.check(generation)


def test_retraining_starts_from_the_same_initial_checkpoint(
    trained: tuple[Path, LoadedModel], texts: tuple[list[Example], list[Example]]
) -> None:
    retrain = trained[1].retrain
    assert isinstance(retrain, model.Retraining)
    untouched = replace(retrain, epochs=0)(texts[0], 0).module.state_dict()
    assert trained[1].initial is not None
    assert all(torch.equal(untouched[name], value) for name, value in trained[1].initial.items())
    one, same, other = (retrain(texts[0][:64], seed).utility(texts[1]).values for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert retrain.recipe != replace(retrain, epochs=retrain.epochs + 1).recipe
    # A model that is retrained before the main model exists is kept under the same name as after.
    assert retrain.recipe == model.retraining(TRAINING, SHAPE).recipe


def test_the_model_can_be_indexed(
    trained: tuple[Path, LoadedModel], texts: tuple[list[Example], list[Example]], tmp_path: Path
) -> None:
    items = [IndexItem(example, number, number % 3) for number, example in enumerate(texts[0][:40])]
    config = IndexConfig(k=16, coordinates=256, fit_items=20, pca_items=40)
    index = build_index(tmp_path / "index", model=model.load(trained[0]), items=items, config=config)
    assert "head" not in index.manifest["layers"]
    assert index.score(index.embed(texts[1][:2])).specific.shape == (2, 3)
