"""A black box that makes sounds, known by an encoder: the spectrum of a tenth of a second, of recordings in WAV."""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from influence.adapters import Example, LoadedModel, Media, UnableToEmbed, example_of
from influence.adapters.encoder import Encoder

HERTZ = 8_000
SAMPLES = 800
"""Of one part: a tenth of a second."""
DIMENSIONS = 128


class Spectrum(nn.Module):
    """Sizes of the lowest frequencies."""

    def forward(self, values: Tensor) -> Tensor:
        sizes: Tensor = torch.fft.rfft(values).abs()[:, :DIMENSIONS]
        return sizes


class Sounds:
    """Reads a work by its parts of a tenth of a second, from number 0, and of a generation the first."""

    def item(self, content: bytes, part: int | None) -> Example:
        samples = _samples(content)
        start = SAMPLES * (part or 0)
        if start + SAMPLES > len(samples):
            raise UnableToEmbed(f"The recording of {len(samples) / HERTZ:g} s has no part {part or 0}.")
        return example_of(samples[start : start + SAMPLES])

    def generation(self, prompt: str, parts: Sequence[Media]) -> Example:
        return self.item(parts[0].content, None)


def load(directory: Path) -> LoadedModel:
    """The factory."""
    encoder = Encoder(Spectrum(), dimensions=DIMENSIONS, shape=(SAMPLES,))
    return LoadedModel(adapter=encoder, checkpoints=({"none": torch.zeros(1)},), initial=None, reader=Sounds())


def tone(hertz: float, *, parts: int = 2, noise: float = 0.05, seed: int = 0) -> bytes:
    """A WAV of one tone in noise."""
    moments = np.arange(parts * SAMPLES) / HERTZ
    chance = np.random.default_rng(seed)
    heard = 0.5 * np.sin(2 * math.pi * hertz * moments) + noise * chance.normal(size=len(moments))
    written = io.BytesIO()
    with wave.open(written, "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(HERTZ)
        opened.writeframes((heard.clip(-1, 1) * 32_767).astype("<i2").tobytes())
    return written.getvalue()


def _samples(content: bytes) -> Tensor:
    try:
        with wave.open(io.BytesIO(content)) as opened:
            if (opened.getframerate(), opened.getnchannels(), opened.getsampwidth()) != (HERTZ, 1, 2):
                raise UnableToEmbed(f"The encoder hears one channel of 16 bits at {HERTZ} Hz.")
            read = opened.readframes(opened.getnframes())
    except (wave.Error, EOFError) as error:
        raise UnableToEmbed(f"It is no WAV that the encoder hears: {error}.") from error
    return torch.from_numpy(np.frombuffer(read, dtype="<i2").astype(np.float32) / 32_768)
