"""The promises of the layout, checked on the code itself."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.operations import operations_of

ROOT = Path(__file__).resolve().parent.parent
APPS = ("config", "people", "contributors", "attribution", "ledger", "payouts")
NAMELESS = {
    "utils",
    "helpers",
    "common",
    "core",
    "constants",
    "exceptions",
    "signals",
    "mixins",
    "managers",
    "services",
}


def product_modules() -> list[Path]:
    return [path for app in APPS for path in sorted((ROOT / app).rglob("*.py")) if "migrations" not in path.parts]


def test_the_web_process_starts_without_torch() -> None:
    code = (
        "import sys, django; django.setup();"
        "import config.wsgi; from django.urls import get_resolver; get_resolver().url_patterns;"
        "print([name for name in ('torch', 'scipy', 'sentencepiece') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_module_has_a_name_that_gives_no_reason() -> None:
    assert [str(path) for path in product_modules() if path.stem in NAMELESS] == []


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_import_contracts_of_the_client_hold() -> None:
    source = ROOT / "clients" / "python" / "src"
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", "../pyproject.toml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=source, check=False)
    assert done.returncode == 0, done.stdout


def test_the_client_runs_on_the_oldest_python_that_it_names() -> None:
    project = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    command = [str(Path(sys.executable).with_name("vermin")), f"--target={oldest}-", "--violations", "--no-tips"]
    done = subprocess.run(
        [*command, "--quiet", "clients/python/src"], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout


def test_row_locks_let_foreign_keys_be_checked() -> None:
    """FOR UPDATE also blocks the check of a foreign key at somebody else's commit: two transactions that lock rows in
    the documented order then deadlock all the same. Nothing here changes a key: FOR NO KEY UPDATE is enough."""
    stronger = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in product_modules()
        if "sandbox" not in path.parts
        for line in path.read_text().splitlines()
        if "select_for_update(" in line and "no_key=True" not in line
    ]
    assert stronger == []


@pytest.mark.parametrize("app", ["contributors", "attribution", "ledger", "payouts"])
def test_operations_take_keywords_only(app: str) -> None:
    """`reserve_payout(gross=, tax=)` cannot be given in the wrong order.

    An operation takes the time, and a module outside its package calls it. It may take one object by position.
    """
    callers = "\n".join(path.read_text() for path in product_modules() if path.parent != ROOT / app / "operations")
    positional = [
        name
        for name, function in operations_of(app).items()
        if _is_called(function, callers)
        and "at" in (parameters := inspect.signature(function).parameters)
        and sum(parameter.kind is not parameter.KEYWORD_ONLY for parameter in parameters.values()) > 1
    ]
    assert positional == []


def _is_called(function: Any, callers: str) -> bool:
    """Tell whether these modules import the function by name, or call it through its module."""
    module = function.__module__.rsplit(".", 1)[1]
    by_name = rf"from {re.escape(function.__module__)} import (\([^)]*|[^(\n]*)\b{function.__name__}\b"
    return re.search(rf"\b{module}(_\w+)?\.{function.__name__}\(|{by_name}", callers) is not None
