"""Layers of common language models: traced like autograd, alone and padded together, or refused by their names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from influence.adapters import Example, LoadedModel
from influence.adapters.causal_lm import CausalLM
from influence.gradients.layers import UnableToTrace
from influence.gradients.probe import probe
from influence.gradients.tracing import Tracer
from influence.index.config import IndexConfig
from influence.index.reader import build_index
from influence.index.sources import IndexItem
from influence.scorers import UnableToBuildIndex

WORDS, WIDTH, MARK = 32, 16, 31
NONE = torch.zeros(0)
CONFIG = IndexConfig(k=8, coordinates=64, fit_items=16, pca_items=16)


def examples(lengths: Sequence[int], seed: int = 1) -> list[Example]:
    chance = torch.Generator().manual_seed(seed)
    return [
        Example(tuple(torch.randint(1, MARK, (length,), generator=chance).tolist()), prompt_tokens=1)
        for length in lengths
    ]


MIXED = examples([12, 9, 12, 5])


def adapter_of(module: nn.Module, **settings: object) -> CausalLM:
    return CausalLM(module, vocabulary=WORDS, context=64, **settings)  # type: ignore[arg-type]


def tracer_of(adapter: CausalLM) -> Tracer:
    return Tracer(adapter, state=None)


def agrees(adapter: CausalLM, given: Sequence[Example], expected: set[str] | None = None) -> dict[str, Tensor]:
    """Compare every layer's gradient of every example with autograd's on a copy; return the traced gradients."""
    tracer = tracer_of(adapter)
    with tracer:
        traced = {name: one.rotated(NONE, NONE) for name, one in tracer.run(lambda own: own.utility(given)).items()}
    plain = copy.copy(adapter)
    plain.module = copy.deepcopy(adapter.module).eval()
    parameters = dict(plain.module.named_parameters(remove_duplicate=False))
    for place, example in enumerate(given):
        value = plain.utility([example]).values.sum()
        for name, layer in tracer.layers.items():
            parts = [f"{name}.{part}" for part in ("weight", "bias")[: 1 + layer.has_bias]]
            found = torch.autograd.grad(
                value, [parameters[part] for part in parts], retain_graph=True, allow_unused=True
            )
            state = {
                part: torch.zeros_like(parameters[part]) if one is None else one
                for part, one in zip(parts, found, strict=True)
            }
            torch.testing.assert_close(traced[name][place], layer.matrix(state), rtol=1e-4, atol=1e-6)
    probe(tracer_of(adapter), given)
    if expected is not None:
        assert expected <= traced.keys()
    return traced


class Words(nn.Module):
    """A model of one hidden layer; kinds of it do something odd with it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, WIDTH)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.extra = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, WORDS)

    def between(self, x: Tensor, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.between(self.words(tokens), tokens))
        return logits


class Conditional(Words):
    """Has a layer that runs only where a batch holds a mark."""

    def between(self, x: Tensor, tokens: Tensor) -> Tensor:
        marked = (tokens == MARK).any(1)
        if bool(marked.any()):
            x = x + self.extra(x) * marked[:, None, None]
        return torch.tanh(self.hidden(x))


class Checkpointed(Words):
    reentrant = False

    def between(self, x: Tensor, tokens: Tensor) -> Tensor:
        again = checkpoint(lambda y: torch.tanh(self.extra(self.hidden(y))), x, use_reentrant=self.reentrant)
        assert isinstance(again, Tensor)
        return again


class Reentrant(Checkpointed):
    reentrant = True


class Flat(Words):
    """Gives its layers all positions one below the other, as OPT does."""

    def between(self, x: Tensor, tokens: Tensor) -> Tensor:
        flat: Tensor = self.extra(torch.tanh(self.hidden(x.reshape(-1, WIDTH)))).view_as(x)
        return flat


class FewRows(Words):
    """A sparse expert that is sent as many rows as there are examples, all of the first one."""

    def between(self, x: Tensor, tokens: Tensor) -> Tensor:
        rows = torch.arange(len(tokens))
        flat: Tensor = self.hidden(x).reshape(-1, WIDTH)
        return flat.index_add(0, rows, self.extra(flat[rows])).view_as(x)


class Experts(Words):
    """Routes every token to one of two layers."""

    def between(self, x: Tensor, tokens: Tensor) -> Tensor:
        flat, out = x.reshape(-1, WIDTH), torch.zeros(x.numel() // WIDTH, WIDTH)
        chosen = tokens.reshape(-1) % 2
        for number, expert in enumerate((self.hidden, self.extra)):
            rows = (chosen == number).nonzero().flatten()
            out = out.index_add(0, rows, expert(flat[rows]))
        return out.view_as(x)


class TimeMajor(nn.Module):
    """nn.TransformerEncoder with its default batch_first=False."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = self.encoder(self.words(tokens).transpose(0, 1), mask=mask, is_causal=True)
        logits: Tensor = self.head(x.transpose(0, 1))
        return logits


class TwoAdapters(Words):
    """Two adapters that learn beside a frozen layer; one of them is active."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden.requires_grad_(False)
        self.words.requires_grad_(False)
        self.head.requires_grad_(False)
        self.lora = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH, bias=False) for name in ("mine", "other")})
        self.extra.requires_grad_(False)

    def between(self, x: Tensor, tokens: Tensor) -> Tensor:
        return torch.tanh(self.hidden(x) + self.lora["mine"](x))


# --- handled --------------------------------------------------------------------------------------------------------
def test_a_layer_that_these_examples_do_not_use_has_a_zero_gradient() -> None:
    traced = agrees(adapter_of(Conditional()), MIXED)
    assert not traced["extra"].any()
    marked = replace(MIXED[1], tokens=(*MIXED[1].tokens[:-2], MARK, 3))
    traced = agrees(adapter_of(Conditional()), [MIXED[0], marked])
    assert not traced["extra"][0].any()
    assert traced["extra"][1].any()


def test_gradient_checkpointing_is_traced_and_the_reentrant_kind_refused_by_name() -> None:
    agrees(adapter_of(Checkpointed()), MIXED, {"hidden", "extra"})
    with pytest.raises(UnableToTrace, match=r"Layer 'hidden' runs without gradients.*use_reentrant"):
        probe(tracer_of(adapter_of(Reentrant())), MIXED)


def test_a_layer_that_is_given_all_positions_in_one_list_is_traced() -> None:
    agrees(adapter_of(Flat()), MIXED, {"hidden", "extra"})


def test_opt_is_traced_whole_but_for_its_tied_head() -> None:
    torch.manual_seed(0)
    module = OPTForCausalLM(
        OPTConfig(
            vocab_size=WORDS,
            hidden_size=WIDTH,
            word_embed_proj_dim=WIDTH,
            ffn_dim=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            dropout=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    layer = "model.decoder.layers.0"
    agrees(CausalLM.of_transformers(module), MIXED, {f"{layer}.fc1", f"{layer}.fc2", f"{layer}.self_attn.q_proj"})


def test_positions_with_one_row_for_all_examples_are_traced() -> None:
    torch.manual_seed(0)
    module = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=WORDS,
            n_positions=64,
            n_embd=WIDTH,
            n_layer=1,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            tie_word_embeddings=False,
        )
    )
    adapter = CausalLM.of_transformers(module, also_traced=("embedding", "norm"))
    traced = agrees(adapter, MIXED, {"transformer.wpe", "transformer.wte", "lm_head", "transformer.ln_f"})
    assert traced["transformer.wpe"][0].any()


def test_a_tied_head_is_left_out_and_its_embedding_refused_by_name_with_the_way_out() -> None:
    torch.manual_seed(0)
    module = GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_positions=64, n_embd=WIDTH, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    )
    agrees(CausalLM.of_transformers(module), MIXED, {"transformer.h.0.attn.c_attn"})
    with pytest.raises(UnableToTrace, match=r"'transformer\.wte' shares its weight with 'lm_head', which is left out"):
        tracer_of(CausalLM.of_transformers(module, also_traced=("embedding",)))
    both = CausalLM.of_transformers(module, also_traced=("embedding",), left_out=["transformer.wte"])
    agrees(both, MIXED, {"transformer.wpe"})


def test_rms_norms_of_torch_and_of_llama_are_traced() -> None:
    torch.manual_seed(0)
    module = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=WIDTH,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    adapter = CausalLM.of_transformers(module, also_traced=("norm",))
    agrees(adapter, MIXED, {"model.norm", "model.layers.0.input_layernorm", "model.layers.0.mlp.up_proj"})

    class Torch(Words):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.RMSNorm(WIDTH)

        def between(self, x: Tensor, tokens: Tensor) -> Tensor:
            normed: Tensor = self.norm(self.hidden(x))
            return normed

    agrees(adapter_of(Torch(), also_traced=("norm",), left_out=["extra"]), MIXED, {"norm"})


def test_a_norm_that_is_not_handled_is_refused_by_name_where_norms_are_asked_for() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(UnableToTrace, match=r"'1' is a norm \(BatchNorm1d\) that is not handled"):
        tracer_of(adapter_of(module, also_traced=("norm",)))


# --- refused by name ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [4, 11], ids=["other numbers of rows", "as many positions as examples"])
def test_a_transformer_with_time_first_is_refused_by_name(count: int) -> None:
    adapter = adapter_of(TimeMajor(), left_out=["encoder.layers.0.self_attn.out_proj"])
    with pytest.raises(UnableToTrace, match=r"Layer 'encoder\.layers\.0\.linear1'"):
        probe(tracer_of(adapter), examples([12] * count))


def test_an_expert_with_as_many_rows_as_examples_is_refused_by_name() -> None:
    with pytest.raises(UnableToTrace, match=r"Layer 'extra' \(Linear\) gives a wrong gradient of an example among 4"):
        probe(tracer_of(adapter_of(FewRows())), examples([12] * 4))


def test_experts_that_are_sent_single_tokens_are_refused_by_name() -> None:
    with pytest.raises(UnableToTrace, match=r"Layer '(hidden|extra)'"):
        probe(tracer_of(adapter_of(Experts())), MIXED)


def index_of(adapter: CausalLM, given: Sequence[Example], directory: Path) -> None:
    state = {name: values.clone() for name, values in adapter.module.state_dict().items()}
    items = [IndexItem(example, work_id=place, holder_id=place % 2) for place, example in enumerate(given)]
    build_index(directory, model=LoadedModel(adapter, (state,), None), items=items, config=CONFIG)


def test_a_build_refuses_before_it_spends_time(tmp_path: Path) -> None:
    adapter = adapter_of(TimeMajor(), left_out=["encoder.layers.0.self_attn.out_proj"])
    with pytest.raises(UnableToBuildIndex, match=r"Layer 'encoder\.layers\.0\.linear1'"):
        index_of(adapter, examples([17] * 16), tmp_path / "index")
    assert not list(tmp_path.glob("*.draft"))


def test_an_adapter_that_no_item_uses_is_refused_by_name_and_can_be_left_out_by_a_pattern(tmp_path: Path) -> None:
    given = examples([8] * 16)
    with pytest.raises(UnableToBuildIndex, match=r"Layer 'lora\.other' takes no part in the utility of any of 16"):
        index_of(adapter_of(TwoAdapters()), given, tmp_path / "both")
    index_of(adapter_of(TwoAdapters(), left_out=["*.other"]), given, tmp_path / "one")
    agrees(adapter_of(TwoAdapters(), left_out=["*.other"]), given, {"lora.mine"})


class Normed(Words):
    """Divides by a norm: the gradient at a zero vector is no number, and the mark has one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH, bias=False)
        with torch.no_grad():
            self.words.weight[MARK] = 0

    def between(self, x: Tensor, tokens: Tensor) -> Tensor:
        y = self.inner(x)
        return torch.tanh(self.hidden(torch.nan_to_num(y / y.norm(dim=-1, keepdim=True))))


def test_an_item_without_a_finite_gradient_is_named(tmp_path: Path) -> None:
    given = examples([8] * 16)
    given[5] = replace(given[5], tokens=(*given[5].tokens[:3], MARK, *given[5].tokens[4:]))
    with pytest.raises(UnableToBuildIndex, match=r"in layer 'inner' of item 5, an item of work 5 are not finite"):
        index_of(adapter_of(Normed(), left_out=["extra"]), given, tmp_path / "index")
