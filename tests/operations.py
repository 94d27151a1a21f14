"""Every operation of an app, found in the modules of its package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any


def operations_of(app: str) -> dict[str, Any]:
    """Map the name of each public function that `<app>/operations` defines to the function."""
    package = importlib.import_module(f"{app}.operations")
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + ".")
    ]
    return {
        name: function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
