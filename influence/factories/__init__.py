"""Built-in factories: they rebuild a model from a directory as its library saves it, without code of the model team.

transformers and peft are optional. A factory that lacks its library says so, and no other is touched.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

CHECKPOINTS = "checkpoint-*"
INITIAL = "initial"


class UnableToUseFactory(ValueError):
    """A library is not installed, or the directory is not one as the library saves it."""

    status = 422
    problem = "unable-to-use-factory"


def library(name: str) -> ModuleType:
    """Import an optional library. Raises UnableToUseFactory with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnableToUseFactory(
            f"This factory needs the package {name}, which web and workers lack: pip install {name} ({error})."
        ) from error


def need(directory: Path, *names: str) -> None:
    """Raise UnableToUseFactory, naming the missing files, unless the directory has all of them."""
    if missing := [name for name in names if not (directory / name).exists()]:
        has = ", ".join(sorted(path.name for path in directory.iterdir())[:8])
        raise UnableToUseFactory(f"The directory lacks {', '.join(missing)}; it has {has or 'nothing'}.")


def kept_steps(directory: Path) -> list[Path]:
    """List the folders checkpoint-<step> of a training, oldest first."""

    def step(path: Path) -> int:
        number = path.name.rpartition("-")[2]
        return int(number) if number.isdigit() else 0

    return sorted((path for path in directory.glob(CHECKPOINTS) if path.is_dir()), key=step)
