"""Factories: the functions that rebuild a model from its directory, and the loading of a model version by one.

A factory has a name. Some are built in. Installed packages offer others by entry points of the group GROUP, and the
setting TRIBUTARY_MODEL_FACTORIES adds to them. No API takes a path: code is never taken from outside.
"""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.module_loading import import_string

from attribution.models import ModelVersion
from attribution.operations.checkpoints import digest_of_directory, directory_of_digest

if TYPE_CHECKING:
    from influence.adapters import LoadedModel

# Of a version's configuration: kinds of layers that are traced beside the usual ones, and the adapters that can.
ALSO_TRACED, TRACEABLE = "also_traced", ("embedding", "norm")
TRACING_ADAPTERS = ("causal_lm", "classifier", "diffusion")
GROUP = "tributary.model_factories"
PUSHED = "pushed"
BUILT_IN: Mapping[str, str] = {
    "transformers": "influence.factories.language.load_transformers",
    "peft": "influence.factories.language.load_peft",
    "encoder": "influence.factories.encoders.load",
    PUSHED: "influence.adapters.pushed.load",
}


class UnableToLoadModel(Exception):
    """The checkpoint differs from the registered one, its factory is gone or fails, or its device is missing."""

    status = 409
    problem = "unable-to-load-model"


def known_factories() -> dict[str, str]:
    """Return every factory by name, with its dotted path. The setting goes first, then packages, then built-in ones."""
    installed = {point.name: point.value.replace(":", ".") for point in entry_points(group=GROUP)}
    return {**BUILT_IN, **installed, **settings.TRIBUTARY_MODEL_FACTORIES}


def known_adapters() -> frozenset[str]:
    """The names of the modules in influence.adapters, found without importing them (they load torch)."""
    spec = importlib.util.find_spec("influence.adapters")
    assert spec is not None
    return frozenset(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations))


def load_directory(*, factory: str, directory: Path, device: str | None = None) -> LoadedModel:
    """Call a factory on a directory. Raises UnableToLoadModel with the factory's own words."""
    device = check_device(device)
    path = known_factories().get(factory)
    if path is None:
        raise UnableToLoadModel(f"There is no factory {factory!r}; there is {', '.join(sorted(known_factories()))}.")
    try:
        made: Callable[[Path], LoadedModel] = import_string(path)
        model = made(directory)
    except MemoryError:
        raise
    # The code of a model is anybody's: any error of it is a reason to tell, and no fault of this process.
    except Exception as error:
        raise UnableToLoadModel(f"The factory {factory} cannot load it: {type(error).__name__}: {error}") from error
    return replace(model, device=device)


def load_model(*, version: ModelVersion, verify: bool = False, device: str | None = None) -> LoadedModel:
    """Rebuild the model with its factory. `verify` reads every file again and compares the digest. Its gradients are
    computed on the installation's device, or on `device`. Raises UnableToLoadModel, with the reason."""
    if version.checkpoint_sha256 is None:
        raise UnableToLoadModel(f"{version.name} has no features yet: hand them over with its first index.")
    digest = bytes(version.checkpoint_sha256)
    directory = directory_of_digest(digest)
    if not directory.is_dir():
        raise UnableToLoadModel(f"The files of {version.name} are not at {version.directory}.")
    if verify and digest_of_directory(directory=directory) != digest:
        raise UnableToLoadModel(f"The files of {version.name} are not those that were registered.")
    try:
        model = load_directory(factory=version.factory, directory=directory, device=device)
    except UnableToLoadModel as reason:
        raise UnableToLoadModel(f"{version.name}: {reason}") from reason.__cause__
    if model.adapter.name != version.adapter:
        raise UnableToLoadModel(f"{version.name} was registered as {version.adapter}, not {model.adapter.name}.")
    if also := version.config.get(ALSO_TRACED):
        adapter: Any = model.adapter
        adapter.also_traced = frozenset(getattr(adapter, ALSO_TRACED)) | frozenset(also)
    return model


def check_device(device: str | None) -> str:
    """Return the device, or the installation's in place of None. Raises UnableToLoadModel if it is not usable here."""
    from influence.gradients.devices import UnableToUseDevice, find_device

    name = device or settings.ATTRIBUTION_DEVICE
    try:
        find_device(name)
    except UnableToUseDevice as reason:
        raise UnableToLoadModel(str(reason)) from reason
    return str(name)
