"""EK-FAC features against dense algebra on a model small enough for it, and refusals by name."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from influence import bases, curvature
from influence.adapters import Example, Utilities
from influence.adapters.causal_lm import CausalLM
from influence.gradients import tracing
from influence.gradients.layers import UnableToTrace
from influence.gradients.matrices import Outer

INPUTS, OUTPUTS, ITEMS = 4, 3, 6
T, DAMPING = 0.5, 0.3


class GaussianRegression:
    """Linear regression with a Fisher matrix that is exactly a Kronecker product: A (x) S, S the covariance of its
    noise.

    Example (i, j) has the input x_i, and its drawn label is off by the j-th column of a root of S: over all pairs the
    second moment of the output gradients is S itself and not an estimate of it.
    """

    name = "gaussian_regression"
    left_out: frozenset[str] = frozenset()

    def __init__(self) -> None:
        chance = torch.Generator().manual_seed(3)
        self.module: nn.Module = nn.Sequential(nn.Linear(INPUTS, OUTPUTS))
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.normal_(generator=chance)
        self.x = torch.randn(ITEMS, INPUTS, generator=chance)
        self.y = torch.randn(ITEMS, OUTPUTS, generator=chance)
        self.root = torch.randn(OUTPUTS, OUTPUTS, generator=chance)

    def check(self, example: Example) -> None:
        assert example.tokens

    def utility(self, examples: Sequence[Example]) -> Utilities:
        rows = [example.tokens[0] for example in examples]
        return Utilities(-0.5 * (self.y[rows] - self.module(self.x[rows])).square().sum(1))

    def sampled_utility(self, examples: Sequence[Example], generator: torch.Generator) -> Utilities:
        predicted = self.module(self.x[[example.tokens[0] for example in examples]])
        noise = OUTPUTS**0.5 * self.root.T[[example.tokens[1] for example in examples]]
        return Utilities(-0.5 * (predicted.detach() + noise - predicted).square().sum(1))


PAIRS = [Example((item, label)) for item in range(ITEMS) for label in range(OUTPUTS)]
EACH = [Example((item, 0)) for item in range(ITEMS)]


def dense(adapter: GaussianRegression) -> tuple[Tensor, float]:
    """H over (output, input and bias) in one matrix, and lambda."""
    inputs = torch.cat([adapter.x, torch.ones(ITEMS, 1)], 1).double()
    root = adapter.root.double()
    h = torch.kron(root @ root.T, inputs.T @ inputs / ITEMS)
    return h, DAMPING * float(torch.linalg.eigvalsh(h).mean())


def flat(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([state["0.weight"], state["0.bias"][:, None]], 1).flatten().double()


def dense_gradients(adapter: GaussianRegression, theta: Tensor) -> Tensor:
    weight = theta.view(OUTPUTS, INPUTS + 1)
    inputs = torch.cat([adapter.x, torch.ones(ITEMS, 1)], 1).double()
    return torch.einsum("no,ni->noi", adapter.y - inputs @ weight.T, inputs).flatten(1)


def fitted(adapter: GaussianRegression) -> dict[str, bases.LayerFactors]:
    with tracing.Tracer(adapter, state=None) as tracer:
        return curvature.fit_factors(tracer, PAIRS, batch=5, seed=0)


def test_features_of_a_linear_model_multiply_to_the_dense_gauss_newton_influence_at_the_midpoint() -> None:
    adapter = GaussianRegression()
    current = {name: value.clone() for name, value in adapter.module.state_dict().items()}
    initial = {name: torch.zeros_like(value) for name, value in current.items()}
    h, lam = dense(adapter)
    eye = torch.eye(len(h), dtype=torch.float64)
    moved = flat(current) - flat(initial)
    theta_t = flat(current) - (1 - T) * lam * torch.linalg.solve(T * h + lam * eye, moved)
    gradients = dense_gradients(adapter, theta_t)
    expected = gradients @ torch.linalg.solve(T * h + lam * eye, gradients.T)

    factors = fitted(adapter)
    layers = tracing.layers_of(adapter)
    state = curvature.state_at(current, initial, factors, layers=layers, t=T, damping=DAMPING)
    torch.testing.assert_close(flat(state), theta_t, rtol=1e-4, atol=1e-5)
    basis = curvature.choose_coordinates(factors, t=T, damping=DAMPING, coordinates=10_000)
    with tracing.Tracer(adapter, state=state) as tracer:
        found = curvature.features(tracer, basis, EACH, batch=4)
        projected = curvature.features(tracer, curvature.fit_projection(basis, found, k=ITEMS)[0], EACH, batch=4)
    torch.testing.assert_close((found @ found.T).double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(projected @ projected.T, found @ found.T, rtol=1e-3, atol=1e-4)
    assert basis.energy == 1.0


def test_at_t_one_the_model_stays_where_training_left_it() -> None:
    adapter = GaussianRegression()
    current = adapter.module.state_dict()
    initial = {name: torch.zeros_like(value) for name, value in current.items()}
    layers = tracing.layers_of(adapter)
    state = curvature.state_at(current, initial, fitted(adapter), layers=layers, t=1.0, damping=DAMPING)
    torch.testing.assert_close(flat(state), flat(current))


def test_fewer_coordinates_keep_those_with_most_energy() -> None:
    factors = fitted(GaussianRegression())
    energies = [
        curvature.choose_coordinates(factors, t=T, damping=DAMPING, coordinates=count).energy for count in (1, 5, 15)
    ]
    assert energies[0] >= 1 / 15
    assert energies[1] >= 5 / 15
    assert energies == sorted(energies)
    assert energies[2] == 1.0


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("wide", "tall", "positions"), [(12, 40, 1), (48, 160, 64), (160, 48, 64), (250, 30, 33)])
def test_coordinates_of_a_staircase_are_those_of_the_whole_gradient(
    wide: int, tall: int, positions: int, has_bias: bool
) -> None:
    chance = torch.Generator().manual_seed(4)
    examples = 3

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance)

    inputs, outputs = (torch.linalg.qr(normal(side, side))[0] for side in (wide, tall))
    # The remainder of a Kronecker product of two spectra, in any order of the eigenvectors, here and there refitted.
    kept = torch.outer(1.0 / torch.arange(1, tall + 1), 1.0 / torch.arange(1, wide + 1)) > 1.5 / (wide + tall)
    kept[tall - 1, wide - 1], kept[0, 0] = True, False
    kept = kept[torch.randperm(tall, generator=chance)][:, torch.randperm(wide, generator=chance)]
    places = kept.flatten().nonzero().flatten()
    layer = bases.LayerBasis(
        bases.LayerFactors(inputs, outputs, torch.ones(tall, wide)), places, normal(len(places)).abs()
    )
    given = normal(examples, positions, wide - has_bias)
    gradient = Outer(given, normal(examples, positions, tall), has_bias)
    if has_bias:
        given = torch.cat([given, torch.ones(examples, positions, 1)], 2)
    whole = outputs.T @ (gradient.gradients.mT @ given) @ inputs
    expected = whole.flatten(1)[:, places] * layer.whitening
    torch.testing.assert_close(layer.coordinates(gradient), expected, rtol=1e-4, atol=1e-3)
    # Of one position the gradient costs least when both of its sides are turned first.
    route = layer.route(positions)
    assert (route is None) == (positions == 1)
    if route is not None:
        assert sum(len(stairs.steps) for stairs in route.stairs) > 1


@pytest.mark.parametrize("items", [300, 700])
def test_the_sample_of_a_projection_comes_back_in_it(items: int) -> None:
    sample = torch.randn(items, 500, generator=torch.Generator().manual_seed(5)) @ torch.diag(
        torch.arange(1, 501) ** -0.5
    )
    basis, projected = curvature.fit_projection(bases.Basis({}, None, 1.0), sample, k=300)
    assert basis.projection is not None
    torch.testing.assert_close(projected, sample @ basis.projection, rtol=0, atol=1e-4)


def test_a_projection_of_many_items_keeps_what_the_exact_one_keeps() -> None:
    chance = torch.Generator().manual_seed(5)
    sample = torch.randn(400, 500, generator=chance) @ torch.diag(torch.arange(1, 501) ** -0.5)
    projection = curvature.fit_projection(bases.Basis({}, None, 1.0), sample, k=40)[0].projection
    assert projection is not None
    torch.testing.assert_close(projection.T @ projection, torch.eye(40), rtol=0, atol=1e-4)
    best = torch.linalg.svdvals(sample)[:40].square().sum()
    assert (sample @ projection).square().sum() > 0.99 * best


class TinyLM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(11, 8)
        self.mix = nn.GRU(8, 8, batch_first=True)
        self.hidden = nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.mix(self.tokens(tokens))
        logits: Tensor = self.head(torch.tanh(self.hidden(states)))
        return logits


def tiny(module: nn.Module, left_out: tuple[str, ...] = ()) -> CausalLM:
    return CausalLM(module, vocabulary=11, context=16, left_out=left_out)


def test_an_example_has_the_same_features_alone_and_in_a_padded_batch() -> None:
    adapter = tiny(TinyLM())
    examples = [
        Example((1, 2, 3)),
        Example((4, 5, 6, 7, 8, 9, 10), prompt_tokens=2),
        Example((3, 1, 4, 1, 5), prompt_tokens=1),
    ]
    with tracing.Tracer(adapter, state=None) as tracer:
        factors = curvature.fit_factors(tracer, examples, batch=2, seed=0)
        basis = curvature.choose_coordinates(factors, t=T, damping=0.1, coordinates=100)
        together = curvature.features(tracer, basis, examples, batch=8)
        alone = torch.cat([curvature.features(tracer, basis, [example], batch=1) for example in examples])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_padding_takes_no_part_in_the_factors() -> None:
    adapter = tiny(TinyLM())
    examples = [Example((1, 2, 3)), Example((4, 5, 6, 7, 8))]
    with tracing.Tracer(adapter, state=None) as tracer:
        traced = tracer.run(lambda own: own.utility(examples))
        alone = [tracer.run(lambda own, one=one: own.utility([one])) for one in examples]  # type: ignore[misc]
    for layer, found in traced.items():
        assert isinstance(found, Outer)
        assert not found.gradients[0, 2:].any()
        apart = [each[layer].moments() for each in alone]
        for place, moment in enumerate(found.moments()):
            torch.testing.assert_close(moment, apart[0][place] + apart[1][place], rtol=1e-5, atol=1e-9)


def test_a_mask_of_numbers_is_read_as_one_of_truths() -> None:
    class Numbered(CausalLM):
        def utility(self, examples: Sequence[Example]) -> Utilities:
            answer = super().utility(examples)
            assert answer.real is not None
            return Utilities(answer.values, answer.real.long())

    examples = [Example((1, 2, 3)), Example((4, 5, 6, 7, 8))]
    found = []
    for kind in (CausalLM, Numbered):
        with tracing.Tracer(kind(TinyLM(), vocabulary=11, context=16, left_out=()), state=None) as tracer:
            found.append(tracer.run(lambda own: own.utility(examples)))
    for layer, gradient in found[0].items():
        for moment, numbered in zip(gradient.moments(), found[1][layer].moments(), strict=True):
            torch.testing.assert_close(numbered, moment)


def test_features_of_half_precision_are_those_of_full_precision_but_for_its_rounding() -> None:
    adapter = tiny(TinyLM())
    adapter.also_traced = frozenset({"embedding"})
    examples = [Example(tuple((7 * start + 3 * step) % 11 for step in range(9))) for start in range(12)]
    with tracing.Tracer(adapter, state=None) as tracer:
        factors = curvature.fit_factors(tracer, examples, batch=4, seed=0)
        basis = curvature.choose_coordinates(factors, t=T, damping=0.1, coordinates=100)
        full = curvature.features(tracer, basis, examples, batch=4)
        basis = curvature.fit_projection(basis, full, k=8)[0]
        full = curvature.features(tracer, basis, examples, batch=4)
        half = curvature.features(tracer, basis.to(tracer.device, torch.bfloat16), examples, batch=4)
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    assert (half - full).norm() < 0.02 * full.norm()


def test_tracing_leaves_the_callers_module_as_it_was() -> None:
    module = TinyLM()
    with tracing.Tracer(tiny(module), state=None) as tracer:
        tracer.run(lambda own: own.utility([Example((1, 2, 3))]))
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not module.hidden._forward_hooks


def test_tied_weights_are_refused_by_name() -> None:
    module = TinyLM()
    module.head.weight = module.tokens.weight
    with pytest.raises(UnableToTrace, match="'head' shares its weight with 'tokens'"):
        tracing.Tracer(tiny(module), state=None)
    assert "head" not in tracing.Tracer(tiny(module, left_out=("head",)), state=None).layers


def test_a_name_to_leave_out_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnableToTrace, match="no layer 'haed'"):
        tracing.Tracer(tiny(TinyLM(), left_out=("haed",)), state=None)
