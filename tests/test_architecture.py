"""What the layout promises, checked on the code itself."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

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
    """`reserve_payout(gross=, tax=)` cannot be given in the wrong order. An operation is what is told the time."""
    operations = importlib.import_module(f"{app}.operations")
    positional = [
        name
        for name in operations.__all__
        if inspect.isfunction(function := getattr(operations, name))
        and "at" in (parameters := inspect.signature(function).parameters)
        and any(parameter.kind is not parameter.KEYWORD_ONLY for parameter in parameters.values())
    ]
    assert positional == []
