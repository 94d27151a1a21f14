"""The device of a model's gradients: the CPU, or a GPU that this process sees. All else stays on the CPU.

Only passes through the model move: factors, bases, features and every file are the CPU's and look the same wherever
they were computed. Eigenvectors and the PCA, of matrices that stand in files by then, are the CPU's, too.
"""

from __future__ import annotations

import os
import re
from typing import Any

import torch
from torch import Tensor

CPU = torch.device("cpu")


class UnableToUseDevice(Exception):
    """There is no such device, or not here; the message says which there are."""

    status = 409
    problem = "unable-to-use-device"


def find_device(name: str) -> torch.device:
    """Find `cpu`, `cuda:N`, or `cuda`: the first GPU, or that of its rank for a process that torchrun started.

    Raises UnableToUseDevice for another name, or for a GPU that this process does not see.
    """
    if name == "cpu":
        return CPU
    if not re.fullmatch(r"cuda(:\d{1,3})?", name):
        raise UnableToUseDevice(f"There is no device {name!r}; gradients are computed on cpu, cuda or cuda:N.")
    number = int(name[5:]) if ":" in name else int(os.environ.get("LOCAL_RANK", "0"))
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= seen:
        have = "no GPU" if not seen else "one GPU, cuda:0" if seen == 1 else f"{seen} GPUs, cuda:0 to cuda:{seen - 1}"
        raise UnableToUseDevice(f"There is no cuda:{number} for this process: it sees {have}.")
    # Convolutions would drop thirteen bits of each factor: features are compared with those of other devices.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", number)


def on_cpu(values: Any) -> Any:
    """Tensors, alone or in dictionaries and tuples, brought back to the CPU."""
    if isinstance(values, Tensor):
        return values.cpu()
    if isinstance(values, dict):
        return {name: on_cpu(value) for name, value in values.items()}
    return tuple(map(on_cpu, values))
