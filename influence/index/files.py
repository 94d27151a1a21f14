"""The files of an index in its directory: their names, members read back, and writing that is complete or absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from influence import ensemble
from influence.adapters import LoadedModel
from influence.ensemble import Node, Tensors
from influence.index import sums
from influence.index.artefacts import Manifest
from influence.index.config import IndexConfig
from influence.index.shards import Shard

MEAN_QUERY = "mean_query.npy"
OWN, OWN_SPREAD = "own.npy", "own_spread.npy"
"""Features (G, M, K) of the model's own generations, and the spread (G,) of their whole scores over items."""


def files_of(manifest: Manifest) -> list[str]:
    """Every file that a manifest stands for."""
    files = [sums.HOLDERS, sums.SUMS, sums.EXACT, MEAN_QUERY]
    files += [f"member-{member}.safetensors" for member in range(manifest["members"])]
    files += [file for shard in manifest["shards"] for file in Shard(**shard).files]
    if manifest.get("tails_file") is not None:
        files += [OWN, OWN_SPREAD, manifest["tails_file"]]
    if manifest["removed_file"] is not None:
        files.append(manifest["removed_file"])
    if manifest["overlay"] is not None:
        files += [f"{manifest['overlay']}.{ending}.npy" for ending in ("exact", "holders")]
    return files


def load_members(directory: Path, model: LoadedModel, config: IndexConfig, layers: Sequence[str]) -> list[list[Node]]:
    """The ensemble, each member's nodes with the model they differentiate."""
    return [
        ensemble.from_tensors(load_file(directory / f"member-{number}.safetensors"), model, state, config, layers)
        for number, state in enumerate(model.checkpoints)
    ]


def digest_of_state(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of a checkpoint's tensors, for any file format they came from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{values.dtype}|{tuple(values.shape)}|".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Tensors) -> None:
    with replacing(path) as draft:
        save_file({name: values.contiguous() for name, values in tensors.items()}, draft)


def write_json(path: Path, stored: Any) -> None:
    with replacing(path) as draft:
        draft.write_text(json.dumps(stored, sort_keys=True))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to that takes its name when the block ends well."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    yield draft
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    os.replace(draft, path)


def throw_away(directory: Path) -> None:
    """Take a directory's name at once, so that nobody finishes anything in it, and then its files."""
    gone = directory.with_name(f"{directory.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(directory, gone)
    shutil.rmtree(gone, ignore_errors=True)
