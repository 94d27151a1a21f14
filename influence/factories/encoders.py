"""Encoders for black boxes: the wording alone, or an encoder of Hugging Face from its directory.

    encoder.json                        {"kind": "wording", "dimensions": 1024}: nothing else is needed
    config.json, *.safetensors, tokenizer.json     an encoder as save_pretrained writes it; its mean over tokens counts

Nobody here has the model itself: `model.txt` names it, and stands in place of a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from influence.adapters import Example, LoadedModel, Utf8
from influence.adapters.encoder import Encoder
from influence.factories import UnableToUseFactory, library, need
from influence.index.files import digest_of_state

DESCRIPTION = "encoder.json"
DIMENSIONS_MAX = 65_536
TOKENS_MAX = 512


def load(directory: Path) -> LoadedModel:
    """The factory `encoder`. Raises UnableToUseFactory, or the library's own error."""
    directory = Path(directory)
    tokeniser = Utf8()
    if (directory / DESCRIPTION).exists():
        adapter = Encoder.of_wording(tokeniser, dimensions=_dimensions(directory))
        told = (directory / DESCRIPTION).read_bytes()
    else:
        need(directory, "config.json", "tokenizer.json")
        module = MeanOfTokens(directory)
        adapter = Encoder(module, dimensions=module.dimensions, read=_reading(tokeniser))
        told = digest_of_state(module.state_dict()).encode()
    digest = hashlib.sha256(told).digest()
    return LoadedModel(
        adapter=adapter,
        # In place of a checkpoint, which nobody here ever sees: the digest of everything that decides the vectors.
        checkpoints=({"encoder.sha256": torch.tensor(list(digest), dtype=torch.uint8)},),
        initial=None,
        tokeniser=tokeniser,
    )


def _dimensions(directory: Path) -> int:
    try:
        told = json.loads((directory / DESCRIPTION).read_text())
        kind, dimensions = told["kind"], told.get("dimensions", 1_024)
    except (ValueError, KeyError, AttributeError, TypeError):
        kind, dimensions = None, 0
    if kind != "wording" or type(dimensions) is not int or not 1 <= dimensions <= DIMENSIONS_MAX:
        raise UnableToUseFactory(
            f'{DESCRIPTION} is {{"kind": "wording", "dimensions": 1024}}, with 1 to {DIMENSIONS_MAX} dimensions.'
        )
    return dimensions


def _reading(tokeniser: Utf8) -> Any:
    def read(examples: Sequence[Example]) -> list[str]:
        return [tokeniser.decode(example.tokens[example.prompt_tokens :]) for example in examples]

    return read


class MeanOfTokens(nn.Module):
    """Texts to the mean of an encoder's last hidden states over their tokens (B, dimensions)."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        transformers = library("transformers")
        from_files = {"local_files_only": True, "trust_remote_code": False}
        self.tokeniser = transformers.AutoTokenizer.from_pretrained(directory, **from_files)
        self.encoder = transformers.AutoModel.from_pretrained(directory, use_safetensors=True, **from_files).eval()
        self.dimensions = int(self.encoder.config.hidden_size)

    def forward(self, texts: Sequence[str]) -> Tensor:
        longest = min(TOKENS_MAX, int(getattr(self.encoder.config, "max_position_embeddings", TOKENS_MAX)))
        rows = [self.tokeniser.encode(text, truncation=True, max_length=longest) or [0] for text in texts]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        hidden: Tensor = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        kept = mask[..., None].to(hidden.dtype)
        return (hidden * kept).sum(1) / kept.sum(1)
