"""Every kind of layer: its gradient for each example, and its factors, against autograd, one example at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from influence import bases, curvature
from influence.adapters import Example, Utilities
from influence.gradients import tracing
from influence.gradients.layers import UnableToTrace, traced_layers

EXAMPLES = [Example((number,)) for number in range(5)]
NONE = torch.zeros(0)


class Conv1D(nn.Module):
    """As in Hugging Face's pytorch_utils: a Linear with its weight the other way round."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf) * 0.3)
        self.bias = nn.Parameter(torch.randn(nf) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], self.nf)


class LoRALinear(nn.Module):
    """A frozen Linear and a learnt low-rank correction."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base(x) + 2.0 * self.up(self.down(x))
        return result


class PeftLinear(nn.Module):
    """The structure of peft's lora.Linear: base layer, dropout and adapters by name."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_dropout = nn.ModuleDict({"default": nn.Dropout(0.1)})
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})
        self.scaling = {"default": 0.5}

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base_layer(x)
        for name, down in self.lora_A.items():
            result = result + self.lora_B[name](down(self.lora_dropout[name](x))) * self.scaling[name]
        return result


class Recurrent(nn.Module):
    """One layer called again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.step(x))
        return x


class Tied(nn.Module):
    """Two modules with one weight and bias, and one module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight, self.second.bias = self.first.weight, self.first.bias
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.again(torch.relu(self.second(torch.relu(self.first(x)))))
        return result


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 3, padding_idx=2)
        self.out = nn.Linear(3, 2)

    def forward(self, ids: Tensor) -> Tensor:
        result: Tensor = self.out(torch.tanh(self.table(ids)))
        return result


class Placed(nn.Module):
    """Positions have one row for all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(6, 3)
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(x + self.places(torch.arange(x.shape[1])[None]))
        return result


class Overwriting(nn.Module):
    """The next layer writes over this one's output."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 1), nn.Tanh(), nn.Conv2d(2, 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers[2](self.layers[1](self.layers[0](x)))
        y.mul_(3.0)
        result: Tensor = self.layers[4](self.layers[3](y))
        return result


class Readout:
    """Utilities that are a fixed, curved function of a module's output."""

    name = "readout"
    left_out: frozenset[str] = frozenset()

    def __init__(self, module: nn.Module, inputs: Tensor, also: frozenset[str] = frozenset()) -> None:
        self.module = module.double()
        self.inputs = inputs
        self.also_traced = also

    def check(self, example: Example) -> None:
        assert example.tokens

    def utility(self, examples: Sequence[Example]) -> Utilities:
        answer = self.module(self.inputs[[example.tokens[0] for example in examples]]).flatten(1)
        weights = torch.linspace(-1, 2, answer.shape[1], dtype=torch.float64)
        return Utilities((weights * torch.sin(answer)).sum(1))

    def sampled_utility(self, examples: Sequence[Example], generator: torch.Generator) -> Utilities:
        return self.utility(examples)


def _normal(*shape: int) -> Tensor:
    return torch.randn(5, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def _ids() -> Tensor:
    return torch.randint(7, (5, 6), generator=torch.Generator().manual_seed(1))


def sequence(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


MODULES: dict[str, tuple[Callable[[], nn.Module], Tensor, frozenset[str]]] = {
    "linear": (lambda: sequence(nn.Linear(4, 3)), _normal(4), frozenset()),
    "linear over positions": (
        lambda: sequence(nn.Linear(4, 3, bias=False), nn.Tanh(), nn.Linear(3, 2)), _normal(6, 4), frozenset(),
    ),
    "linear over a grid": (
        lambda: sequence(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), _normal(2, 3, 4), frozenset(),
    ),
    "Hugging Face's Conv1D": (lambda: sequence(Conv1D(4, 4), nn.Tanh(), Conv1D(3, 4)), _normal(6, 4), frozenset()),
    "conv1d": (
        lambda: sequence(nn.Conv1d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv1d(3, 4, 2, stride=2, bias=False)),
        _normal(2, 8), frozenset(),
    ),
    "conv1d, same and dilated": (
        lambda: sequence(nn.Conv1d(2, 3, 4, padding="same", dilation=2)), _normal(2, 9), frozenset(),
    ),
    "conv2d": (
        lambda: sequence(
            nn.Conv2d(2, 3, 3, padding=(1, 0), stride=(2, 1)), nn.Tanh(), nn.Conv2d(3, 2, 2, dilation=2)
        ),
        _normal(2, 6, 7), frozenset(),
    ),
    "conv2d, circular": (
        lambda: sequence(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")), _normal(2, 5, 5), frozenset(),
    ),
    "conv2d in groups": (
        lambda: sequence(nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), nn.Conv2d(6, 6, 2, groups=6, bias=False)),
        _normal(4, 5, 5), frozenset(),
    ),
    "embedding": (Words, _ids(), frozenset({"embedding"})),
    "one row for all": (Placed, _normal(6, 3), frozenset({"embedding"})),
    "norm": (
        lambda: sequence(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.LayerNorm(6, bias=False)),
        _normal(3, 4), frozenset({"norm"}),
    ),
    "norm over two axes": (lambda: sequence(nn.LayerNorm((3, 4))), _normal(2, 3, 4), frozenset({"norm"})),
    "LoRA": (
        lambda: sequence(LoRALinear(nn.Linear(4, 5), 2), nn.Tanh(), LoRALinear(nn.Linear(5, 3), 1)),
        _normal(6, 4), frozenset(),
    ),
    "peft": (lambda: sequence(PeftLinear(nn.Linear(4, 5), 2), nn.Tanh()), _normal(6, 4), frozenset()),
    "called several times": (Recurrent, _normal(3, 4), frozenset()),
    "tied": (Tied, _normal(3, 4), frozenset()),
    "overwritten in place": (Overwriting, _normal(2, 4, 4), frozenset()),
}  # fmt: skip


def readout(name: str) -> Readout:
    torch.manual_seed(7)
    make, inputs, also = MODULES[name]
    return Readout(make(), inputs, also)


def each_alone(adapter: Readout, tracer: tracing.Tracer, name: str) -> Tensor:
    """Return autograd's gradient of each example by itself, in the form (B, O, I)."""
    layer = tracer.layers[name]
    parameters = [parameter.requires_grad_() for parameter in layer.parameters()]
    found = []
    for example in EXAMPLES:
        gradients = torch.autograd.grad(tracer.adapter.utility([example]).values.sum(), parameters)
        parts = ("weight", "bias")
        state = {f"{name}.{part}": gradient for part, gradient in zip(parts, gradients, strict=False)}
        found.append(layer.matrix(state))
    for parameter in parameters:
        parameter.requires_grad_(False)
    return torch.stack(found)


each = pytest.mark.parametrize("name", list(MODULES))


@each
def test_the_gradient_of_every_example_is_that_of_autograd(name: str) -> None:
    adapter = readout(name)
    with tracing.Tracer(adapter, state=None) as tracer:
        traced = tracer.run(lambda own: own.utility(EXAMPLES))
    assert traced
    for layer, gradient in traced.items():
        expected = each_alone(adapter, tracer, layer)
        assert expected.abs().max() > 0
        torch.testing.assert_close(gradient.rotated(NONE, NONE), expected, rtol=1e-10, atol=1e-12)


@each
def test_everything_that_learns_is_traced(name: str) -> None:
    adapter = readout(name)
    learn = {id(parameter): parameter.numel() for parameter in adapter.module.parameters() if parameter.requires_grad}
    tracer = tracing.Tracer(adapter, state=None)
    assert sum(p.numel() for layer in tracer.layers.values() for p in layer.parameters()) == sum(learn.values())


@each
def test_the_eigenvalues_are_mean_squared_gradients_in_an_orthonormal_basis(name: str) -> None:
    adapter = readout(name)
    with tracing.Tracer(adapter, state=None) as tracer:
        factors = curvature.fit_factors(tracer, EXAMPLES, batch=2, seed=0)
    for layer, factor in factors.items():
        gradients = each_alone(adapter, tracer, layer)
        outputs = factor.outputs.double() if factor.outputs.numel() else torch.eye(gradients.shape[1]).double()
        inputs = factor.inputs.double() if factor.inputs.numel() else torch.eye(gradients.shape[2]).double()
        for basis in (outputs, inputs):
            torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis)).double(), rtol=0, atol=1e-5)
        expected = (outputs.T @ gradients @ inputs).square().mean(0)
        torch.testing.assert_close(factor.eigenvalues.double(), expected, rtol=1e-4, atol=1e-7 * float(expected.max()))


@each
def test_features_multiply_to_the_whitened_products_of_autograds_gradients(name: str) -> None:
    adapter = readout(name)
    with tracing.Tracer(adapter, state=None) as tracer:
        factors = curvature.fit_factors(tracer, EXAMPLES, batch=5, seed=0)
        basis = curvature.choose_coordinates(factors, t=0.5, damping=0.1, coordinates=10_000)
        found = curvature.features(tracer, basis, EXAMPLES, batch=3)
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for layer, factor in factors.items():
        rotated = _rotated(factor, each_alone(adapter, tracer, layer))
        weights = 1 / (0.5 * factor.eigenvalues + curvature.damping_of(factor, 0.1)).double()
        expected += torch.einsum("aoi,oi,boi->ab", rotated, weights, rotated)
    torch.testing.assert_close((found @ found.T).double(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def _rotated(factor: bases.LayerFactors, gradients: Tensor) -> Tensor:
    left = factor.outputs.T.double() @ gradients if factor.outputs.numel() else gradients
    return left @ factor.inputs.double() if factor.inputs.numel() else left


@each
def test_a_checkpoint_comes_back_from_its_matrices(name: str) -> None:
    adapter = readout(name)
    state = {key: value.clone() for key, value in adapter.module.state_dict().items()}
    for layer in tracing.layers_of(adapter).values():
        written = dict(state)
        layer.write(layer.matrix(state) + 1.0, written)
        learnt = {id(p) for p in layer.parameters()}
        for key, parameter in adapter.module.named_parameters():
            torch.testing.assert_close(written[key], state[key] + (id(parameter) in learnt), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["Hugging Face's Conv1D", "conv2d", "embedding", "norm", "LoRA", "tied"])
def test_with_little_data_the_model_goes_back_to_where_training_began(name: str) -> None:
    adapter = readout(name)
    current = {key: value.clone() for key, value in adapter.module.state_dict().items()}
    initial = {key: value + 0.5 for key, value in current.items()}
    with tracing.Tracer(adapter, state=current) as tracer:
        factors = curvature.fit_factors(tracer, EXAMPLES, batch=5, seed=0)
    layers = tracing.layers_of(adapter)
    state = curvature.state_at(current, initial, factors, layers=layers, t=1e-9, damping=1e6)
    moved = tracing.Tracer(adapter, state=state).adapter.module.state_dict()
    traced = {id(parameter) for layer in layers.values() for parameter in layer.parameters()}
    for key, parameter in adapter.module.named_parameters(remove_duplicate=False):
        goal = initial[key] if id(parameter) in traced else current[key]
        torch.testing.assert_close(moved[key], goal, rtol=0, atol=1e-4)


# --- what is refused ------------------------------------------------------------------------------------------------
def refused(module: nn.Module, reason: str, *, also: Sequence[str] = (), left_out: Sequence[str] = ()) -> None:
    with pytest.raises(UnableToTrace, match=reason):
        traced_layers(module, left_out, also)


def test_what_is_not_handled_is_refused_by_name() -> None:
    refused(nn.Sequential(nn.ConvTranspose2d(1, 1, 2)), r"'0' is a convolution \(ConvTranspose2d\)")
    refused(nn.Sequential(nn.Conv3d(1, 1, 2)), r"'0' is a convolution \(Conv3d\)")
    refused(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), "'0' makes its weight of other")
    refused(nn.Sequential(nn.Embedding(3, 2, max_norm=1.0)), "'0' scales by frequency or norm", also=["embedding"])
    refused(nn.Sequential(nn.Embedding(100_000, 100)), "'0' is a table of 10000000 weights", also=["embedding"])
    refused(nn.Sequential(nn.GRU(2, 2)), "no layer to trace")
    refused(nn.Linear(2, 2), "without a name of its own")
    refused(nn.Sequential(nn.Linear(2, 2)), "no kind 'attention'", also=["attention"])


def test_a_layer_that_learns_its_bias_alone_is_refused_by_name() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight.requires_grad_(False)
    refused(module, "'1' learns its bias alone")


def test_weights_shared_in_different_ways_are_refused_by_name() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    refused(module, "'0' shares its weight with '1'")
    module[1].bias = module[0].bias
    refused(module, "'0' shares its weight with '1'", left_out=["1"])
    module[1].weight = nn.Parameter(torch.eye(3))
    refused(module, "'0' shares its bias")


def test_a_layer_that_does_not_see_one_row_an_example_is_refused_by_name() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places = nn.Linear(3, 3)
            self.out = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.out(x + self.places(torch.eye(3, dtype=x.dtype)[None, :1]))
            return result

    adapter = Readout(Mixed(), _normal(6, 3))
    with (
        tracing.Tracer(adapter, state=None) as tracer,
        pytest.raises(UnableToTrace, match="'places' is given 1 rows for 5 examples"),
    ):
        tracer.run(lambda own: own.utility(EXAMPLES))


def test_a_layer_whose_answer_is_thrown_away_is_refused_by_name() -> None:
    class Wasteful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.unused(x)
            result: Tensor = self.used(x)
            return result

    with (
        tracing.Tracer(Readout(Wasteful(), _normal(4)), state=None) as tracer,
        pytest.raises(UnableToTrace, match="'unused' takes no part"),
    ):
        curvature.fit_factors(tracer, EXAMPLES, batch=5, seed=0)


def test_optional_kinds_are_traced_only_where_asked_for() -> None:
    module = nn.Sequential(nn.Embedding(7, 3), nn.LayerNorm(3), nn.Linear(3, 2))

    def kinds(also: Sequence[str]) -> list[str]:
        return [layer.kind for layer in traced_layers(module, (), also).values()]

    assert kinds([]) == ["linear"]
    assert kinds(["norm", "embedding"]) == ["embedding", "norm", "linear"]
