"""The built-in factories on real tiny models, saved as their libraries save them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from influence import factories
from influence.adapters import LoadedModel
from influence.factories import encoders, language
from influence.gradients.states import check_state
from influence.scorers import IndexConfig, IndexItem, build

TEXTS = [
    f"the {noun} of the {other} is {word}"
    for noun in ("sea", "sky", "law")
    for other in ("state", "people")
    for word in ("wide", "old", "just", "new")
]
CONTEXT = 16


def save_tokeniser(directory: Path) -> int:
    tokeniser = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokeniser.pre_tokenizer = pre_tokenizers.Whitespace()
    tokeniser.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=["[UNK]"]))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokeniser, unk_token="[UNK]")  # type: ignore[no-untyped-call]
    fast.save_pretrained(directory)
    return int(tokeniser.get_vocab_size())


def save_gpt(directory: Path, *, seed: int = 0) -> None:
    words = save_tokeniser(directory)
    torch.manual_seed(seed)
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=words,
            n_positions=CONTEXT,
            n_embd=16,
            n_layer=1,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    ).save_pretrained(directory)


def write_held_out(directory: Path) -> None:
    (directory / language.HELD_OUT).write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:6]))


@pytest.fixture
def gpt(tmp_path: Path) -> Path:
    directory = tmp_path / "gpt"
    save_gpt(directory, seed=3)
    save_gpt(directory / "initial", seed=0)
    for step in (5, 10):
        save_gpt(directory / f"checkpoint-{step}", seed=step)
    write_held_out(directory)
    return directory


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    directory = tmp_path / "lora"
    save_gpt(directory / "base")
    torch.manual_seed(1)
    base = GPT2LMHeadModel.from_pretrained(directory / "base")
    config = LoraConfig(r=2, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    adapted = get_peft_model(base, config)
    assert isinstance(adapted, PeftModel)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(str(directory))
    write_held_out(directory)
    return directory


def indexed(model: LoadedModel, directory: Path) -> list[int]:
    """Build an index of the model and return its holders by their score for a text of the first."""
    items = [
        IndexItem(model.tokeniser.item(text, 0, 2**31 - 1), number, number // 8) for number, text in enumerate(TEXTS)
    ]
    small = IndexConfig(coordinates=64, k=4, fit_items=16, pca_items=16)
    assert model.sample is not None
    index = build(directory, model=model, items=items, config=small, mean_of=model.sample(4, 0))
    scores = index.score(index.embed([model.tokeniser.generation("the sea", "of the state is wide")]))
    return list(scores.holder_ids)


def test_a_saved_gpt_is_loaded_indexed_and_retrained(gpt: Path, tmp_path: Path) -> None:
    model = language.load_transformers(gpt)
    assert model.adapter.name == "causal_lm"
    assert len(model.checkpoints) == 3, "checkpoint-5, checkpoint-10 and the model that is served"
    assert model.initial is not None
    assert indexed(model, tmp_path / "index") == [0, 1, 2]
    assert model.sample is not None
    assert model.held_out is not None
    assert model.retrain is not None
    own = model.sample(5, 7)
    assert own == model.sample(5, 7)
    assert own != model.sample(5, 8)
    assert all(len(example.tokens) == CONTEXT for example in own)
    held_out = model.held_out()
    again = model.retrain(held_out, 0)
    before, after = model.adapter.utility(held_out).values.mean(), again.utility(held_out).values.mean()
    assert torch.isfinite(after)
    assert after != before
    assert model.retrain.recipe == language.load_transformers(gpt).retrain.recipe  # type: ignore[union-attr]


def test_the_tokeniser_gives_the_tokens_of_a_range_and_of_a_report(gpt: Path) -> None:
    tokeniser = language.load_transformers(gpt).tokeniser
    whole = tokeniser.encode(TEXTS[0])
    assert tokeniser.item(TEXTS[0], 1, 4).tokens == tuple(whole[1:4])
    told = tokeniser.generation("the sea", "of the state", [1, 2, 3])
    assert (told.prompt_tokens, told.tokens[-3:]) == (2, (1, 2, 3))
    assert tokeniser.decode(whole) == TEXTS[0]


def test_a_lora_adapter_beside_its_base_learns_alone(lora: Path, tmp_path: Path) -> None:
    model = language.load_peft(lora)
    (state,) = model.checkpoints
    assert state
    assert all("lora_" in name for name in state)
    check_state(model.adapter.module, state)
    assert model.initial is None
    assert indexed(model, tmp_path / "index") == [0, 1, 2]
    assert model.retrain is not None
    assert model.held_out is not None
    again = model.retrain(model.held_out(), 0)
    assert torch.isfinite(again.utility(model.held_out()).values).all()


def test_a_directory_that_lacks_files_is_refused_by_their_names(gpt: Path, lora: Path, tmp_path: Path) -> None:
    with pytest.raises(factories.UnableToUseFactory, match=r"lacks adapter_config\.json, base"):
        language.load_peft(gpt)
    with pytest.raises(factories.UnableToUseFactory, match=r"lacks config\.json"):
        language.load_transformers(lora)
    (gpt / "tokenizer.json").unlink()
    (gpt / "tokenizer_config.json").unlink()
    with pytest.raises(factories.UnableToUseFactory, match="save the tokeniser beside the model"):
        language.load_transformers(gpt)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (language.HELD_OUT, '{"text": ""}\n', r"held_out\.jsonl, line 1"),
        (language.PROMPTS, '{"text": "a"}\nx\n', r"prompts\.jsonl, line 2"),
        (language.RETRAINING, '{"rounds": 3}', r"retraining\.json takes epochs, batch"),
        (language.RETRAINING, '{"epochs": 0}', "epochs and batch are from 1"),
    ],
)
def test_a_file_beside_the_model_that_is_none_is_named(gpt: Path, name: str, text: str, words: str) -> None:
    (gpt / name).write_text(text)
    with pytest.raises(factories.UnableToUseFactory, match=words):
        language.load_transformers(gpt)


def test_a_missing_library_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(factories.UnableToUseFactory, match="pip install no_such_library"):
        factories.library("no_such_library")


def test_a_black_box_is_compared_by_its_wording_or_by_an_encoder(tmp_path: Path) -> None:
    wording = tmp_path / "wording"
    wording.mkdir()
    (wording / encoders.DESCRIPTION).write_text('{"kind": "wording", "dimensions": 64}')
    bert = tmp_path / "bert"
    words = save_tokeniser(bert)
    torch.manual_seed(0)
    BertModel(
        BertConfig(vocab_size=words, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).save_pretrained(bert)
    for directory, dimensions in ((wording, 64), (bert, 16)):
        model = encoders.load(directory)
        assert model.adapter.name == "encoder"
        items = [
            IndexItem(model.tokeniser.item(text, 0, 2**31 - 1), number, number // 8)
            for number, text in enumerate(TEXTS)
        ]
        by_encoder = IndexConfig(attributor="encoder")
        index = build(tmp_path / f"index-{dimensions}", model=model, items=items, config=by_encoder)
        vectors = index.embed([model.tokeniser.generation("", TEXTS[0])])
        assert vectors.shape[-1] == dimensions
    (wording / encoders.DESCRIPTION).write_text('{"kind": "magic"}')
    with pytest.raises(factories.UnableToUseFactory, match='"wording"'):
        encoders.load(wording)
