"""The target of a causal language model's score, and the sequences that it refuses to score."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from influence.adapters import Example, UnableToEmbed
from influence.adapters.causal_lm import CausalLM


class Bigram(nn.Module):
    def __init__(self, vocabulary: int = 7) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding(vocabulary, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.table(tokens)
        return logits


class HuggingFaceLike(Bigram):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:  # type: ignore[override]
        self.seen = attention_mask
        return SimpleNamespace(logits=self.table(input_ids))


def adapter(module: nn.Module | None = None) -> CausalLM:
    return CausalLM(module or Bigram(), vocabulary=7, context=6)


def test_only_what_follows_the_prompt_is_scored_by_its_mean() -> None:
    own = adapter()
    chances = own.module(torch.tensor([2, 3])).log_softmax(-1)
    found = own.utility([Example((1, 2, 3, 4), prompt_tokens=2)]).values
    expected = (chances[0, 3] + chances[1, 4]) / 2
    torch.testing.assert_close(found, expected[None])


def test_without_a_prompt_the_first_token_is_context_only() -> None:
    own = adapter()
    assert own.utility([Example((1, 2, 3))]).values == own.utility([Example((1, 2, 3), prompt_tokens=1)]).values


def test_examples_of_different_lengths_share_a_batch_and_keep_their_utilities() -> None:
    own = adapter()
    examples = [Example((1, 2)), Example((1, 2, 3, 4, 5, 6), prompt_tokens=3), Example((6, 5, 4))]
    together = own.utility(examples)
    alone = torch.cat([own.utility([example]).values for example in examples])
    torch.testing.assert_close(together.values, alone)
    assert together.real is not None
    assert together.real.sum(1).tolist() == [1, 5, 2]


def test_a_module_that_asks_for_a_mask_gets_one() -> None:
    module = HuggingFaceLike()
    found = adapter(module).utility([Example((1, 2)), Example((1, 2, 3))]).values
    torch.testing.assert_close(found, adapter().utility([Example((1, 2)), Example((1, 2, 3))]).values)
    assert module.seen.tolist() == [[1, 0], [1, 1]]


def test_drawn_labels_give_the_gauss_newton_matrix_of_the_mean_loss() -> None:
    own = adapter()
    example = Example((1, 2, 1, 2, 1), prompt_tokens=1)
    draws = 20_000
    logits = own.module(torch.tensor([[1, 2, 1, 2]])).detach()
    # One leaf a draw, so that one backward pass gives every draw's gradient.
    leaves = logits.repeat(draws, 1, 1).requires_grad_()
    own._logits = lambda tokens, real: leaves  # type: ignore[method-assign]
    values = own.sampled_utility([example] * draws, torch.Generator().manual_seed(0)).values
    gradients = torch.autograd.grad(values.sum(), leaves)[0].flatten(1)
    chances = logits[0].softmax(-1)
    blocks = torch.diag_embed(chances) - chances[:, :, None] * chances[:, None]
    same = torch.eye(len(chances))
    expected = torch.einsum("st,sij->sitj", same, blocks).reshape(2 * [chances.numel()]) / len(chances)
    torch.testing.assert_close(gradients.T @ gradients / draws, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (Example(()), "Nothing to score"),
        (Example((1,)), "Nothing to score"),
        (Example((1, 2, 3), prompt_tokens=3), "Nothing to score"),
        (Example((1, 2), prompt_tokens=5), "do not fit"),
        (Example((1, 2), prompt_tokens=-1), "do not fit"),
        (Example((1, 2, 3, 4, 5, 6, 1)), "more than the 6"),
        (Example((1, 7)), "Token 7 is outside"),
        (Example((1, -1)), "Token -1 is outside"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_reason(example: Example, reason: str) -> None:
    with pytest.raises(UnableToEmbed, match=reason):
        adapter().check(example)
    with pytest.raises(UnableToEmbed, match=reason):
        adapter().utility([example])
