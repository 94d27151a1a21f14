"""The demo's second model: a small flow model that draws icons in the manner of a maker, and its training and sampling.

Everything is deterministic given its seeds on one machine with one number of threads.
"""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from config.demo import pictures
from influence.adapters import Example, LoadedModel, Media, UnableToEmbed, example_of, values_of
from influence.adapters.diffusion import Diffusion
from influence.index.files import digest_of_state

SHAPE = (pictures.SIDE, pictures.SIDE)
PIXELS = pictures.SIDE**2
MANNER = "in the manner of "
"""The beginning of every prompt; the maker's name follows."""
CHECKPOINTS_KEPT = 3
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Shape:
    width: int = 128
    layers: int = 2
    makers: int = len(pictures.MAKERS)


@dataclass(frozen=True, slots=True)
class Training:
    steps: int = 1_500
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    seed: int = 0


class Painter(nn.Module):
    """Predicts the flow of noisy pictures from their pixels, the time and the maker."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.pixels = nn.Linear(PIXELS, shape.width)
        self.times = nn.Linear(16, shape.width)
        self.makers = nn.Embedding(shape.makers, shape.width)
        self.layers = nn.ModuleList(nn.Linear(shape.width, shape.width) for _ in range(shape.layers))
        self.through = nn.Linear(16, 1)
        self.last = nn.Linear(shape.width, PIXELS)
        self.register_buffer("frequencies", 2.0 ** torch.arange(8) * math.pi / 2, persistent=False)

    frequencies: Tensor

    def forward(self, values: Tensor, times: Tensor, makers: Tensor) -> Tensor:
        angles = times[:, None] * self.frequencies
        moment = torch.cat([angles.sin(), angles.cos()], 1)
        x = self.pixels(values.flatten(1)) + self.times(moment) + self.makers(makers)
        for layer in self.layers:
            x = x + layer(nn.functional.silu(x))
        # Most of the flow is the noise in the input, which the narrow layers could not let through.
        flow: Tensor = self.last(nn.functional.silu(x)) + self.through(moment) * values.flatten(1)
        return flow.view_as(values)


class Pictures:
    """Reads works and outputs: the pixels from -1 to 1, and the maker from the PNG or from the prompt."""

    def item(self, content: bytes, part: int | None) -> Example:
        maker = pictures.maker_of(content)
        if part is not None:
            raise UnableToEmbed(f"This model knows whole pictures, and no part {part}.")
        if maker is None:
            raise UnableToEmbed("The picture names none of the makers that this model knows.")
        return example_of(_pixels(content), tokens=(pictures.MAKERS.index(maker),))

    def generation(self, prompt: str, parts: Sequence[Media]) -> Example:
        asked = prompt.removeprefix(MANNER)
        number = next((number for number, maker in enumerate(pictures.MAKERS) if maker.name == asked), None)
        if number is None or len(parts) != 1:
            raise UnableToEmbed(f"This model draws one picture for a prompt such as “{MANNER}Google”.")
        return example_of(_pixels(parts[0].content), tokens=(number,))


def prompt_of(example: Example) -> str:
    return f"{MANNER}{pictures.MAKERS[example.tokens[0]].name}"


def as_png(example: Example) -> bytes:
    """Return a generation as the PNG that the service hands out."""
    grey = ((values_of([example], SHAPE)[0] + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    return pictures.as_png(Image.fromarray(grey))


def train(
    directory: Path,
    *,
    items: Sequence[Example],
    held_out: Sequence[Example],
    training: Training = Training(),
    shape: Shape = Shape(),
    progress: Progress | None = None,
) -> LoadedModel:
    """Train from scratch and write the initial checkpoint, three more and the configuration to `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    module = new_module(shape, seed=training.seed)
    save_file(module.state_dict(), directory / "initial.safetensors")
    np.save(directory / "held_out.npy", values_of(held_out, SHAPE).numpy())
    of = {name: [example.tokens[0] for example in each] for name, each in (("items", items), ("held_out", held_out))}
    config = {"shape": asdict(shape), "training": asdict(training), "makers": of}
    (directory / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True))
    kept = [math.ceil(training.steps * number / CHECKPOINTS_KEPT) for number in range(1, CHECKPOINTS_KEPT + 1)]

    def keep(step: int) -> None:
        if step in kept:
            save_file(module.state_dict(), directory / f"checkpoint-{kept.index(step) + 1}.safetensors")
        if progress is not None:
            progress("train", step, training.steps)

    _fit(module, items, training, after_step=keep)
    return load(directory)


def load(directory: Path) -> LoadedModel:
    """The factory: rebuild the model from the files that `train` wrote."""
    directory = Path(directory)
    config = json.loads((directory / "config.json").read_text())
    shape, training = Shape(**config["shape"]), Training(**config["training"])
    checkpoints = tuple(load_file(path) for path in sorted(directory.glob("checkpoint-*.safetensors")))
    initial = load_file(directory / "initial.safetensors")
    module = _module_of(shape, checkpoints[-1])
    return LoadedModel(
        adapter=_adapter(module),
        reader=Pictures(),
        checkpoints=checkpoints,
        initial=initial,
        retrain=Retraining(initial, shape, training),
        sample=functools.partial(_sample_own, module, tuple(config["makers"]["items"])),
        held_out=functools.partial(_held_out, directory, config["makers"]["held_out"]),
    )


@dataclass(frozen=True)
class Retraining:
    """Trains on other items from the same initial checkpoint, for fewer steps; the seed decides order and noise."""

    initial: Mapping[str, Tensor]
    shape: Shape
    training: Training
    steps: int = 240

    @property
    def recipe(self) -> str:
        settings = {"shape": asdict(self.shape), "training": asdict(self.training), "steps": self.steps}
        return f"{json.dumps(settings, sort_keys=True)} from {digest_of_state(self.initial)}"

    def __call__(self, examples: Sequence[Example], seed: int) -> Diffusion:
        module = _module_of(self.shape, self.initial)
        _fit(module, examples, replace(self.training, steps=min(self.steps, self.training.steps), seed=seed))
        return _adapter(module)


def retraining(training: Training = Training(), shape: Shape = Shape()) -> Retraining:
    """Return the result that `load` will give for a model that `train` makes with these, before it is made."""
    return Retraining(new_module(shape, seed=training.seed).state_dict(), shape, training)


@torch.no_grad()
def sample(module: Painter, makers: Tensor, *, seed: int, steps: int = 24) -> list[Example]:
    """Draw a picture in the manner of each of these makers, from noise along the flow, as whole grey levels."""
    count = len(makers)
    values = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    for step in range(steps, 0, -1):
        values = values - module(values, torch.full((count,), step / steps), makers) / steps
    # As a PNG holds them: the model is asked about the picture that its service hands out.
    levels = ((values.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    return [example_of(drawn, tokens=(int(maker),)) for drawn, maker in zip(levels, makers, strict=True)]


def _sample_own(module: Painter, makers: Sequence[int], count: int, seed: int) -> list[Example]:
    """Own generations: people ask for a maker as often as it has pictures among those of the training."""
    chance = torch.Generator().manual_seed(seed)
    chosen = torch.tensor(makers)[torch.randint(len(makers), (count,), generator=chance)]
    return sample(module, chosen, seed=seed)


def new_module(shape: Shape, *, seed: int) -> Painter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Painter(shape)


def _fit(
    module: Painter, items: Sequence[Example], training: Training, *, after_step: Callable[[int], None] | None = None
) -> None:
    """Minimise the loss of the flow at a time and noise of its own for each picture of a batch."""
    values, makers = values_of(items, SHAPE), torch.tensor([item.tokens[0] for item in items])
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    chance = torch.Generator().manual_seed(training.seed)
    module.train()
    for step in range(training.steps):
        for group in optimiser.param_groups:
            group["lr"] = training.learning_rate * (0.05 + 0.475 * (1 + math.cos(math.pi * step / training.steps)))
        rows = torch.randint(len(values), (training.batch,), generator=chance)
        data, times = values[rows], torch.rand(training.batch, generator=chance)
        noise = torch.randn(data.shape, generator=chance)
        t = times[:, None, None]
        flow = module((1 - t) * data + t * noise, times, makers[rows])
        loss = (flow - (noise - data)).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if after_step is not None:
            after_step(step + 1)
    module.eval()


def _module_of(shape: Shape, state: Mapping[str, Tensor]) -> Painter:
    module = Painter(shape)
    module.load_state_dict(dict(state))
    return module.eval()


def _adapter(module: Painter) -> Diffusion:
    return Diffusion(
        module, shape=SHAPE, kind="flow", conditions=module.shape.makers, times=8, also_traced=("embedding",)
    )


def _pixels(content: bytes) -> Tensor:
    """(side, side) from -1 to 1. Raises UnableToEmbed for another file than a picture of that size."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.size != (pictures.SIDE, pictures.SIDE):
                raise UnableToEmbed(
                    f"It has {picture.size} pixels, and this model draws {pictures.SIDE} x {pictures.SIDE}."
                )
            grey = np.asarray(picture.convert("L"), dtype=np.float32)
    except (OSError, SyntaxError, ValueError) as error:
        raise UnableToEmbed("It is not a PNG.") from error
    return torch.from_numpy(grey / 127.5 - 1)


def _held_out(directory: Path, makers: Sequence[int]) -> list[Example]:
    values = np.load(directory / "held_out.npy")
    return [example_of(torch.from_numpy(each), tokens=(maker,)) for each, maker in zip(values, makers, strict=True)]
