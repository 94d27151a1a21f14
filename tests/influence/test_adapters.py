"""Classifiers, diffusion, transformers: utilities, draws, refusals; then every example of docs/, run as it stands."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from influence.adapters import Example, UnableToEmbed, Untokenised, Utf8, example_of
from influence.adapters.causal_lm import CausalLM
from influence.adapters.classifier import Classifier
from influence.adapters.diffusion import Diffusion

DOCS = Path(__file__).resolve().parents[2] / "docs"


def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), classes=3, shape=(2, 2))


def test_a_classifier_is_scored_on_the_log_likelihood_of_the_class() -> None:
    own = classifier()
    values = torch.randn(5, 2, 2)
    labels = [0, 1, 2, 1, 0]
    found = own.utility([own.example(value, label) for value, label in zip(values, labels, strict=True)]).values
    torch.testing.assert_close(found, own.module(values).log_softmax(-1)[range(5), labels])


def test_a_classifiers_drawn_labels_give_the_gauss_newton_matrix() -> None:
    own, draws = classifier(), 20_000
    chances = own.module(torch.ones(1, 2, 2)).detach().softmax(-1)[0]
    leaves = own.module(torch.ones(1, 2, 2)).detach().repeat(draws, 1).requires_grad_()
    own._logits = lambda examples: leaves  # type: ignore[method-assign]
    values = own.sampled_utility([own.example(torch.ones(2, 2), 0)] * draws, torch.Generator().manual_seed(0)).values
    gradients = torch.autograd.grad(values.sum(), leaves)[0]
    expected = chances.diag() - chances[:, None] * chances
    torch.testing.assert_close(gradients.T @ gradients / draws, expected, rtol=0, atol=8e-3)


class Constant(nn.Module):
    """Gives the same output for every input: the output is its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Parameter(torch.linspace(-1, 1, 6).view(1, 2, 3))

    def forward(self, values: Tensor, times: Tensor) -> Tensor:
        return self.answer.expand_as(values)


@pytest.mark.parametrize("kind", ["noise", "flow"])
def test_a_diffusion_model_is_scored_on_fixed_times_and_noise(kind: str) -> None:
    own = Diffusion(Constant(), shape=(1, 2, 3), kind=kind, times=4, seed=3)
    values = torch.randn(2, 1, 2, 3)
    found = own.utility([own.example(value) for value in values]).values
    noise = torch.randn(4, 1, 2, 3, generator=torch.Generator().manual_seed(3))
    goals = noise[:, None] - values if kind == "flow" else noise[:, None].expand(4, 2, 1, 2, 3)
    answer = own.module.get_parameter("answer")
    expected = -(answer - goals).square().mean((0, 2, 3, 4))
    torch.testing.assert_close(found, expected)
    again = Diffusion(Constant(), shape=(1, 2, 3), kind=kind, times=4, seed=3)
    torch.testing.assert_close(again.utility([again.example(values[1])]).values, found[1:])


def test_a_flow_starts_at_the_data_and_ends_at_the_noise() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watching(nn.Module):
        def forward(self, values: Tensor, times: Tensor) -> Tensor:
            seen.append((values, times))
            return values

    for kind, at_half in (("flow", (0.5, 0.5)), ("noise", (math.sqrt(0.5), math.sqrt(0.5)))):
        seen.clear()
        own = Diffusion(Watching(), shape=(4,), kind=kind, times=1)
        own.utility([own.example(torch.ones(4))])
        ((values, times),) = seen
        assert times.tolist() == [0.5]
        torch.testing.assert_close(values, at_half[0] * torch.ones(1, 4) + at_half[1] * own._noise)


def test_a_diffusion_models_draws_give_the_gauss_newton_matrix_of_the_mean_loss() -> None:
    own = Diffusion(Constant(), shape=(2, 3), times=3)
    example, draws = own.example(torch.ones(2, 3)), 4_000
    chance = torch.Generator().manual_seed(0)
    leaves = own.module.get_parameter("answer").detach().repeat(draws, 1, 1).requires_grad_()
    own.module.forward = lambda values, times: leaves
    values = own.sampled_utility([example] * draws, chance).values
    gradients = torch.autograd.grad(values.sum(), leaves)[0].flatten(1)
    # The mean loss is the mean of squares. Its second derivative by the output is 2 / values on the diagonal.
    torch.testing.assert_close(gradients.T @ gradients / draws, torch.eye(6) * 2 / 6, rtol=0, atol=0.04)


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (example_of(torch.ones(3), tokens=(1,)), "3 values do not make the shape"),
        (example_of(torch.full((2, 2), math.inf), tokens=(1,)), "not finite"),
        (example_of(torch.ones(2, 2)), "A class is one number from 0 to 2"),
        (example_of(torch.ones(2, 2), tokens=(3,)), "A class is one number from 0 to 2"),
    ],
)
def test_what_a_classifier_cannot_score_is_refused_with_the_reason(example: Example, reason: str) -> None:
    with pytest.raises(UnableToEmbed, match=reason):
        classifier().utility([example])


def test_a_condition_is_taken_where_there_are_conditions() -> None:
    own = Diffusion(Constant(), shape=(1, 2, 3))
    with pytest.raises(UnableToEmbed, match="no condition, not"):
        own.check(own.example(torch.ones(1, 2, 3), condition=1))
    own = Diffusion(Constant(), shape=(1, 2, 3), conditions=2)
    own.check(own.example(torch.ones(1, 2, 3), condition=1))
    with pytest.raises(UnableToEmbed, match="one condition from 0 to 1"):
        own.check(own.example(torch.ones(1, 2, 3)))
    with pytest.raises(ValueError, match="kind is 'sound'"):
        Diffusion(Constant(), shape=(1,), kind="sound")


def test_bytes_are_tokens_for_a_model_that_reads_bytes_and_text_is_none_for_one_that_does_not() -> None:
    assert Utf8().decode(Utf8().encode("Grüße")) == "Grüße"
    assert Utf8().item("abcdef", 1, 3) == Example((98, 99))
    assert Utf8().generation("a", "bc") == Example((97, 98, 99), prompt_tokens=1)
    with pytest.raises(UnableToEmbed, match="does not read text"):
        Untokenised().generation("a", "b")


# --- Hugging Face ---------------------------------------------------------------------------------------------------
def gpt2(**changed: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=11, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0, **changed
        )
    )


def test_a_gpt2_of_transformers_gives_autograds_gradients_example_by_example() -> None:
    from influence.gradients import tracing

    adapter = CausalLM.of_transformers(gpt2())
    assert (adapter.vocabulary, adapter.context, adapter.left_out) == (11, 16, frozenset({"lm_head"}))
    examples = [Example((1, 2, 3)), Example((4, 5, 6, 7, 8, 9, 10), prompt_tokens=2), Example((3, 1, 4, 1), 1)]
    with tracing.Tracer(adapter, state=None) as tracer:
        traced = tracer.run(lambda own: own.utility(examples))
    assert sorted(traced) == [
        f"transformer.h.0.{name}" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]
    nothing = torch.zeros(0)
    adapter.module.eval()
    for name, gradient in traced.items():
        found = gradient.rotated(nothing, nothing)
        learnt = [adapter.module.get_parameter(f"{name}.{part}") for part in ("weight", "bias")]
        for row, example in enumerate(examples):
            weight, bias = torch.autograd.grad(adapter.utility([example]).values.sum(), learnt)
            torch.testing.assert_close(found[row, :, :-1], weight.T, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(found[row, :, -1], bias, rtol=1e-4, atol=1e-6)


def test_an_untied_head_of_a_gpt2_is_traced() -> None:
    adapter = CausalLM.of_transformers(gpt2(tie_word_embeddings=False))
    assert adapter.left_out == frozenset()


# --- the examples of docs/ ------------------------------------------------------------------------------------------
def run_example(name: str) -> dict[str, float]:
    specification = importlib.util.spec_from_file_location(f"example_{name}", DOCS / "examples" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    figures: dict[str, float] = module.main()
    return figures


def test_the_classifier_of_the_docs_traces_predictions_to_whose_pictures_taught_them() -> None:
    figures = run_example("classifier")
    assert figures["accuracy"] > 0.9
    assert figures["own_person_first"] > 0.7
    assert figures["top_work_of_that_class"] > 0.7


def test_the_flow_model_of_the_docs_traces_drawings_to_whose_pictures_taught_them() -> None:
    assert run_example("diffusion")["own_person_first"] > 0.5


def test_the_gpt2_of_the_docs_traces_passages_to_their_authors() -> None:
    figures = run_example("hugging_face")
    assert figures["last_loss"] < figures["first_loss"] - 1
    # A quarter by chance, with a standard error of .043.
    assert figures["midpoint_own_author_first"] > 0.33
    assert figures["hybrid_own_author_first"] > 0.4


def test_the_black_box_of_the_docs_finds_whose_wording_an_output_has() -> None:
    figures = run_example("black_box")
    assert figures["encoder_own_author_first"] > 0.5
    assert figures["lexical_own_author_first"] > 0.5


def test_every_example_is_in_the_page_and_every_one_of_the_page_exists() -> None:
    page = (DOCS / "method" / "adapters.md").read_text()
    named = set(re.findall(r"examples/(\w+)\.py", page))
    assert named == {path.stem for path in (DOCS / "examples").glob("*.py")}
